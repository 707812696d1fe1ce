"""In which order the explorer keeps its cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BITS = 12  # of each coordinate, in the order along the map


def along_map(xy: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order of points (N, 2) along a Morton curve: neighbours on the map share their atlases."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    grid = ((xy - low) / np.where(high > low, high - low, 1) * (2**_BITS - 1)).astype(np.int64)
    code = np.zeros(len(xy), dtype=np.int64)
    for bit in range(_BITS):
        code |= ((grid[:, 0] >> bit) & 1) << (2 * bit)
        code |= ((grid[:, 1] >> bit) & 1) << (2 * bit + 1)
    return np.argsort(code, kind="stable")
