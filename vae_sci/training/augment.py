"""What cannot be phenotype: mirror, turns, shifts.

Counts are only mirrored, turned by quarters and shifted by whole pixels: they stay counts. Other
angles need interpolation, which makes non-integers and smooths noise: they are for the encoder
alone, on a central disc, so that no view tells its angle by its corners.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def draw_moves(n: int, shift: int, generator: torch.Generator) -> Tensor:
    """Random moves of n tiles, (5, n, 1), int: mirror rows, mirror columns, turn; shift y, x.

    shift : largest shift, pixels, in both directions. generator : on the CPU, so that every device
    draws the same.
    """
    maps = torch.randint(0, 2, (3, n, 1), generator=generator)
    return torch.cat([maps, torch.randint(-shift, shift + 1, (2, n, 1), generator=generator)])


def augment(tiles: Tensor, moves: Tensor) -> Tensor:
    """Each tile (N, C, H, H) under its move (5, N, 1): one of the 8 mirror/quarter-turn maps and a
    shift, in which what moves in is the mirror image.

    Any type; values are moved, never changed (no interpolation).
    """
    n, _, height, width = tiles.shape
    mirror_rows, mirror_columns, turn, dy, dx = moves
    rows = _moved(height, dy, mirror_rows).to(tiles.device)
    columns = _moved(width, dx, mirror_columns).to(tiles.device)
    turned = turn.bool().to(tiles.device)[:, :, None, None]
    tiles = torch.where(turned, tiles.mT, tiles)
    index = torch.arange(n, device=tiles.device)[:, None, None, None]
    channel = torch.arange(tiles.shape[1], device=tiles.device)[None, :, None, None]
    return tiles[index, channel, rows[:, None, :, None], columns[:, None, None, :]]


def disc(x: Tensor) -> Tensor:
    """The encoder's input (N, C, H, W) within the largest central disc; 0, the mean, outside."""
    return x * (_radius(x) <= 1)


def turned_disc(x: Tensor, angle: Tensor) -> Tensor:
    """`disc` of each tile turned by its angle (N,), radians, about the centre (bicubic)."""
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Of a tile that is not square too: angles are those of pixels.
    aspect = x.shape[2] / x.shape[3]
    rows = [torch.stack(r, dim=1) for r in ((cos, -sin * aspect, zero), (sin / aspect, cos, zero))]
    grid = F.affine_grid(torch.stack(rows, dim=1).to(x), list(x.shape), align_corners=False)
    return disc(
        F.grid_sample(x, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    )


def _radius(x: Tensor) -> Tensor:
    """Distance (H, W) of every pixel from the centre, in halves of the shorter edge."""
    height, width = x.shape[2:]
    half = min(height, width) / 2
    y, x_ = ((torch.arange(n, device=x.device) + 0.5 - n / 2) / half for n in (height, width))
    return (y[:, None].square() + x_.square()).sqrt()


def _moved(length: int, by: Tensor, mirrored: Tensor) -> Tensor:
    """Source positions (N, length) of a shift `by` (N, 1), reflected at the edges."""
    position = torch.arange(length) + by
    position = length - 1 - (length - 1 - position.abs()).abs()
    return torch.where(mirrored.bool(), length - 1 - position, position)
