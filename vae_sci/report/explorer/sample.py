"""Which cells the explorer shows, and in which order."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_BITS = 12  # of each coordinate, in the order along the map


def by_well(cells: pd.DataFrame, most: int, seed: int) -> NDArray[np.int64]:
    """Rows of at most `most` cells, drawn without replacement, each well in proportion.

    A well keeps at least one cell as long as there are no more wells than `most`; shares are
    rounded by the largest remainder. `cells` has columns plate and well. Rows come sorted.
    """
    if len(cells) <= most:
        return np.arange(len(cells))
    rng = np.random.default_rng(seed)
    well = cells.groupby(["plate", "well"], sort=True).ngroup().to_numpy()
    counts = np.bincount(well)
    if len(counts) >= most:
        kept = np.zeros(len(counts), dtype=np.int64)
        kept[rng.permutation(len(counts))[:most]] = 1
    else:
        # One each; the rest in proportion to what is left of a well.
        ideal = (most - len(counts)) * (counts - 1) / (counts - 1).sum()
        kept = 1 + np.floor(ideal).astype(np.int64)
        largest = np.argsort(np.floor(ideal) - ideal, kind="stable")
        kept[largest[: most - kept.sum()]] += 1
    shuffled = rng.permutation(len(cells))
    order = shuffled[np.argsort(well[shuffled], kind="stable")]
    rank = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < np.repeat(kept, counts)])


def along_map(xy: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order of points (N, 2) along a Morton curve: neighbours on the map share their atlases."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    grid = ((xy - low) / np.where(high > low, high - low, 1) * (2**_BITS - 1)).astype(np.int64)
    code = np.zeros(len(xy), dtype=np.int64)
    for bit in range(_BITS):
        code |= ((grid[:, 0] >> bit) & 1) << (2 * bit)
        code |= ((grid[:, 1] >> bit) & 1) << (2 * bit + 1)
    return np.argsort(code, kind="stable")
