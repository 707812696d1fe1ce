"""What cannot be phenotype: mirror, quarter turns, whole-pixel shifts. Counts stay counts."""

from __future__ import annotations

import torch
from torch import Tensor


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


def _moved(length: int, by: Tensor, mirrored: Tensor) -> Tensor:
    """Source positions (N, length) of a shift `by` (N, 1), reflected at the edges."""
    position = torch.arange(length) + by
    position = length - 1 - (length - 1 - position.abs()).abs()
    return torch.where(mirrored.bool(), length - 1 - position, position)
