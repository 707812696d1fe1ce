"""Figures of image quality, for fields and for tiles alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, laplace


def camera_ceiling(highest: int) -> int | None:
    """The camera's ceiling if `highest`, the highest grey level seen, is one, else None.

    A ceiling is 2ⁿ−1 with n ≥ 8, also multiplied by a power of two: 12-bit cameras stored in the
    upper bits of 16 (BBBC021) end at 65520.
    """
    highest = int(highest)
    if highest <= 0:
        return None
    ones = highest // (highest & -highest)
    return highest if ones >= 255 and ones & (ones + 1) == 0 else None


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
