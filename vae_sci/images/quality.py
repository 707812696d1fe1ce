"""Figures of image quality, for fields and for tiles alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, laplace

# 2ⁿ−1, and for cameras of 10, 12 or 14 bits also in the upper bits of 16, as in BBBC021 (65520)
_CEILINGS = {2**n - 1 for n in range(8, 17)} | {(2**n - 1) << (16 - n) for n in (10, 12, 14)}


def camera_ceiling(highest: int) -> int | None:
    """The camera's ceiling if `highest`, the highest grey level seen, is one, else None."""
    return int(highest) if int(highest) in _CEILINGS else None


def focus(images: NDArray[np.integer]) -> NDArray[np.float64]:
    """Sharpness (N,) of images (N, H, W): var(Laplacian) / var, smoothed by 1 pixel; flat: 0."""
    smooth = gaussian_filter(images.astype(np.float32), (0, 1, 1), truncate=3)
    power = smooth.var(axis=(1, 2), dtype=np.float64)
    edges = laplace(smooth, axes=(1, 2)).var(axis=(1, 2), dtype=np.float64)
    return np.divide(edges, power, out=np.zeros_like(power), where=power > 1e-6)


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
