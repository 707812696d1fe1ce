"""Tiles of raw counts around cells, their masks and their quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_sci.config import TilesSettings
from vae_sci.errors import InputError, SettingsError
from vae_sci.images.quality import Moments, difference, focus, moments

CELL, NEIGHBOUR = 1, 2  # values of a mask; background: 0


def tile_pixels(settings: TilesSettings, pixel_size_um: float | None) -> int:
    """Edge of a tile in pixels, an even number.

    From µm it is rounded to the nearest even number. Raises `SettingsError` for an edge in pixels
    that is not even, and `InputError` for µm where the pixel size is not known.
    """
    if settings.unit == "pixel":
        if settings.size % 2:
            raise SettingsError(
                required="tiles: size, an even number of pixels",
                found=f"{settings.size:g}",
                action=f"take {2 * round(settings.size / 2) or 2}",
            )
        return int(settings.size)
    if pixel_size_um is None:
        raise InputError(
            required="the size of a pixel, since tiles: unit is um",
            found="none in the image files",
            action="set images: pixel_size_um, or give the size of tiles in pixels",
        )
    return max(2, 2 * round(settings.size / pixel_size_um / 2))


def corners(centres: NDArray[np.floating], size: int) -> NDArray[np.int64]:
    """First row and column (N, 2) of tiles of `size` pixels around centres (N, 2), y and x."""
    return np.rint(centres).astype(np.int64) - size // 2


def crop(image: NDArray[Any], first: NDArray[np.int64], size: int) -> NDArray[Any]:
    """Windows (N, …, size, size) of `image` (…, H, W) that start at `first` (N, 2)."""
    windows = np.empty((len(first), *image.shape[:-2], size, size), image.dtype)
    for window, (y, x) in zip(windows, first, strict=True):
        window[...] = image[..., y : y + size, x : x + size]
    return windows


def crop_masks(
    cells: NDArray[np.integer], labels: NDArray[np.integer], first: NDArray[np.int64], size: int
) -> NDArray[np.uint8]:
    """Masks (N, size, size): 1 the cell itself, whose label is in `labels` (N,), 2 other cells."""
    windows = crop(cells, first, size)
    own = windows == labels.astype(cells.dtype)[:, None, None]
    masks = (windows > 0).view(np.uint8) * np.uint8(NEIGHBOUR)
    masks -= own.view(np.uint8) * np.uint8(NEIGHBOUR - CELL)
    return masks


def tile_quality(
    tiles: NDArray[Any],
    channels: Sequence[str],
    ceilings: Sequence[int | None],
    own: NDArray[np.bool_] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Quality of tiles (N, C, H, W), of each (N,): the columns of `contracts.TILES`.

    ceilings : the camera's highest grey level per channel, None where it was not reached.
    own : the pixels (N, H, W) of the cell itself; all, where masks are not known.
    """
    saturated = np.zeros(len(tiles))
    for index, ceiling in enumerate(ceilings):
        if ceiling is not None:
            saturated += (tiles[:, index] == ceiling).mean(axis=(1, 2)) / len(ceilings)
    found = moments(tiles)
    return {
        "saturated": saturated,
        "autocorrelation": found.autocorrelation.min(axis=1),
        # A neighbour, or debris, shall not speak for the cell.
        "focus": focus(tiles[:, 0], own),
        "difference": difference(tiles, own),
        **intensities(found, channels),
    }


def intensities(found: Moments, channels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Columns `intensity_` and `spread_` of tiles whose moments are `found`: mean and sd, grey
    levels."""
    columns = {}
    for channel, mean, spread in zip(channels, found.mean.T, found.spread.T, strict=True):
        columns[f"intensity_{channel}"] = mean
        columns[f"spread_{channel}"] = spread
    return columns
