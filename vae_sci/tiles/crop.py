"""Tiles of raw counts around cells, their masks and their quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.config import TilesSettings
from vae_sci.errors import InputError, SettingsError
from vae_sci.images.quality import autocorrelation, difference, focus

BACKGROUND, CELL, NEIGHBOUR = 0, 1, 2  # values of a mask


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
    windows = [image[..., y : y + size, x : x + size] for y, x in first]
    return (
        np.stack(windows) if windows else np.empty((0, *image.shape[:-2], size, size), image.dtype)
    )


def crop_masks(
    cells: NDArray[np.int32], labels: NDArray[np.int64], first: NDArray[np.int64], size: int
) -> NDArray[np.uint8]:
    """Masks (N, size, size): 1 the cell itself, whose label is in `labels` (N,), 2 other cells."""
    windows = crop(cells, first, size)
    masks = np.where(windows > 0, NEIGHBOUR, BACKGROUND).astype(np.uint8)
    masks[windows == labels[:, None, None]] = CELL
    return masks


def tile_quality(
    tiles: NDArray[Any],
    channels: Sequence[str],
    ceilings: Sequence[int | None],
    own: NDArray[np.bool_] | Literal[True] = True,
) -> pd.DataFrame:
    """Quality of tiles (N, C, H, W), one row each: the columns of `contracts.TILES`.

    ceilings : the camera's highest grey level per channel, None where it was not reached.
    own : the pixels (N, H, W) of the cell itself; all, where masks are not known.
    """
    saturated = np.zeros(len(tiles))
    for index, ceiling in enumerate(ceilings):
        if ceiling is not None:
            saturated += (tiles[:, index] == ceiling).mean(axis=(1, 2)) / len(ceilings)
    columns: dict[str, NDArray[Any]] = {
        "saturated": saturated,
        "autocorrelation": autocorrelation(tiles),
        # A neighbour, or debris, shall not speak for the cell.
        "focus": focus(tiles[:, 0], where=own),
        "difference": difference(tiles, own),
    }
    return pd.DataFrame(columns | intensities(tiles, channels))


def intensities(tiles: NDArray[Any], channels: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Columns `intensity_` and `spread_` of tiles (N, C, H, W): mean and sd, grey levels."""
    columns = {}
    for index, channel in enumerate(channels):
        columns[f"intensity_{channel}"] = tiles[:, index].mean(axis=(1, 2), dtype=np.float64)
        columns[f"spread_{channel}"] = tiles[:, index].std(axis=(1, 2), dtype=np.float64)
    return columns
