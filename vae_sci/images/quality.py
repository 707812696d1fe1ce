"""Figures of image quality, for fields and for tiles alike."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, laplace

# 2ⁿ−1, and for cameras of 10, 12 or 14 bits also in the upper bits of 16, as in BBBC021 (65520)
_CEILINGS = {2**n - 1 for n in range(8, 17)} | {(2**n - 1) << (16 - n) for n in (10, 12, 14)}
ENOUGH = 10  # fields or cells of a plate, to tell what is unusual on it


def camera_ceiling(highest: int) -> int | None:
    """The camera's ceiling if `highest`, the highest grey level seen, is one, else None."""
    return int(highest) if int(highest) in _CEILINGS else None


def focus(
    images: NDArray[np.integer | np.floating],
    smoothing: float = 1.0,
    where: NDArray[np.bool_] | Literal[True] = True,
) -> NDArray[np.float64]:
    """Sharpness (N,) of images (N, H, W): var(Laplacian) / var, smoothed (pixels); flat: 0.

    where : pixels (N, H, W) that count; all if left out.
    """
    smooth = gaussian_filter(images.astype(np.float32), (0, smoothing, smoothing), truncate=3)
    power = smooth.var(axis=(1, 2), dtype=np.float64, where=where)
    edges = laplace(smooth, axes=(1, 2)).var(axis=(1, 2), dtype=np.float64, where=where)
    return np.divide(edges, power, out=np.zeros_like(power), where=power > 1e-6)


def measure_field(field: NDArray[np.integer]) -> list[dict[str, float]]:
    """background (10th percentile), saturated and focus of each channel of a field (C, H, W).

    Sharpness is that of the square root of what rises above the background: a few bright pieces
    of debris, which are smooth, would else speak for the whole field. Smoothed by 2 pixels: by 1,
    the noise of dim fields passes for sharpness.
    """
    measures = []
    for plane in field:
        counts = np.bincount(plane.ravel())
        ceiling = camera_ceiling(len(counts) - 1)
        background = float(np.searchsorted(np.cumsum(counts), 0.1 * plane.size))
        above = np.sqrt(np.maximum(plane.astype(np.float32) - background, 0))
        measures.append(
            {
                "background": background,
                "saturated": counts[ceiling] / plane.size if ceiling is not None else 0.0,
                "focus": float(focus(above[None], smoothing=2)[0]),
            }
        )
    return measures


def outliers(
    values: NDArray[np.floating], least: float, typical: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Distance of values (N,) from their median, in robust standard deviations (1.4826 · MAD).

    least : a smaller standard deviation counts as this one, so that what is alike to the last
        digit has no outliers.
    typical : which values (N,) give median and deviation; all if left out.
    NaN for NaN, and for all where fewer than `ENOUGH` of the typical are known.
    """
    known = np.isfinite(values) & (True if typical is None else typical)
    if known.sum() < ENOUGH:
        return np.full(len(values), np.nan)
    away = values - np.median(values[known])
    return away / max(1.4826 * float(np.median(np.abs(away[known]))), least)


def relative(
    values: NDArray[np.floating], typical: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Values (N,) over their median; NaN where fewer than `ENOUGH`, or where the median is 0.

    typical : as for `outliers`.
    """
    known = values if typical is None else values[typical]
    middle = np.median(known) if len(known) >= ENOUGH else 0.0
    return values / middle if middle > 0 else np.full(len(values), np.nan)


def autocorrelation(tiles: NDArray[np.integer]) -> NDArray[np.float64]:
    """Smallest horizontal lag-1 Pearson correlation (N,) over the channels of tiles (N, C, H, W).

    Optics blur an image over several pixels, so that neighbours agree; in noise they do not. A
    constant channel counts as 1.
    """
    left = tiles[..., :-1].astype(np.float64)
    right = tiles[..., 1:].astype(np.float64)
    left -= left.mean(axis=(2, 3), keepdims=True)
    right -= right.mean(axis=(2, 3), keepdims=True)
    shared = (left * right).sum(axis=(2, 3))
    power = np.sqrt((left**2).sum(axis=(2, 3)) * (right**2).sum(axis=(2, 3)))
    return np.divide(shared, power, out=np.ones_like(power), where=power > 0).min(axis=1)


def difference(
    tiles: NDArray[np.integer], where: NDArray[np.bool_] | Literal[True] = True
) -> NDArray[np.float64]:
    """1 − the smallest Pearson correlation (N,) between two channels of tiles (N, C, H, W).

    0: every channel shows the same, as of a piece of dust that shines in all colours. A constant
    channel is like no other; NaN where there is one channel.
    where : pixels (N, H, W) that count; all if left out.
    """
    count, channels, height, width = tiles.shape
    if channels < 2:
        return np.full(count, np.nan)
    here = np.broadcast_to(where, (count, height, width)).reshape(count, 1, height * width)
    levels = tiles.reshape(count, channels, height * width).astype(np.float64) * here
    levels -= levels.sum(axis=2, keepdims=True) / here.sum(axis=2, keepdims=True)
    levels *= here
    shared = levels @ levels.swapaxes(1, 2)
    power = np.sqrt(np.diagonal(shared, axis1=1, axis2=2))
    power = power[:, :, None] * power[:, None, :]
    alike = np.divide(shared, power, out=np.zeros_like(shared), where=power > 0)
    first, second = np.triu_indices(channels, 1)
    return 1 - alike[:, first, second].min(axis=1)
