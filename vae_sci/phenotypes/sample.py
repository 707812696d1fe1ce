"""Cells drawn at random, well by well: for what need not, or cannot, look at all of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def in_proportion(cells: pd.DataFrame, most: int, seed: int) -> NDArray[np.int64]:
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


def evenly(
    cells: pd.DataFrame, most: int, seed: int, per_well: int | None = None
) -> NDArray[np.int64]:
    """Rows of at most `most` cells (columns plate, well), as evenly from wells as they allow."""
    order = np.random.default_rng(seed).permutation(len(cells))
    turn = cells.iloc[order].groupby(["plate", "well"]).cumcount().to_numpy()
    if per_well is not None:
        order, turn = order[turn < per_well], turn[turn < per_well]
    return np.asarray(np.sort(order[np.argsort(turn, kind="stable")[:most]]))
