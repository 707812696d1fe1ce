"""What cannot be phenotype: mirror, quarter turns, whole-pixel shifts. Counts stay counts."""

from __future__ import annotations

import torch
from torch import Tensor


def augment(tiles: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Each tile under a random one of the 8 mirror/quarter-turn maps and a random shift.

    Parameters
    ----------
    tiles : (N, C, H, H), any type; values are moved, never changed (no interpolation).
    shift : largest shift, pixels, in both directions; what moves in is the mirror image.
    generator : source of randomness, on the CPU, so that every device draws the same.
    """
    n, _, height, width = tiles.shape
    draw = torch.randint(0, 2, (3, n, 1), generator=generator)
    dy, dx = torch.randint(-shift, shift + 1, (2, n, 1), generator=generator)
    rows = _moved(height, dy, draw[0]).to(tiles.device)
    columns = _moved(width, dx, draw[1]).to(tiles.device)
    turned = draw[2].bool().to(tiles.device)[:, :, None, None]
    tiles = torch.where(turned, tiles.mT, tiles)
    index = torch.arange(n, device=tiles.device)[:, None, None, None]
    channel = torch.arange(tiles.shape[1], device=tiles.device)[None, :, None, None]
    return tiles[index, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _moved(length: int, by: Tensor, mirrored: Tensor) -> Tensor:
    """Source positions (N, length) of a shift `by` (N, 1), reflected at the edges."""
    position = torch.arange(length) + by
    position = length - 1 - (length - 1 - position.abs()).abs()
    return torch.where(mirrored.bool(), length - 1 - position, position)
