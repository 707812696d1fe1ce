"""Would the clusters come out the same tomorrow? Resolutions are tried, and one is chosen.

A cluster that is there in the screen is found again in other cells of it. Leiden cuts a cloud
without clusters too, once the resolution is high enough, but in another place each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.phenotypes.cluster import STABLE, by_size, leiden, network
from vae_sci.phenotypes.neighbours import Indices, fuzzy_graph, nearest
from vae_sci.phenotypes.place import elect

Labels = NDArray[np.int64]

BOOTSTRAPS = 20
"""Samples of the screen that are clustered anew."""

BOOTSTRAP_CELLS = 20_000
"""Most cells of a sample."""

FEWEST_WELLS = 10
"""With fewer wells than this, cells are drawn instead of wells."""

ENOUGH = 0.9
"""Share of the cells that lie in stable clusters at the resolution that is chosen."""


class Clusters(NamedTuple):
    """Clusters at the resolution that was chosen."""

    labels: Labels
    """Cluster (N,) of each cell, 0 the largest."""
    stability: NDArray[np.float64]
    """Of each cluster: NaN where it had no cell in any sample."""
    resolutions: pd.DataFrame
    """The table `RESOLUTIONS`: all that were tried."""


def find_clusters(
    z: NDArray[np.floating[Any]],
    indices: Indices,
    graph: Any,
    wells: NDArray[np.str_],
    resolutions: Sequence[float],
    seed: int,
    done: Callable[[], None] = lambda: None,
) -> Clusters:
    """Leiden clusters of z (N, d) at the finest resolution at which they are stable.

    At every resolution the neighbour `graph` of z, made from the neighbours `indices` (N, k + 1),
    is clustered by Leiden, `without_specks`, and so are `BOOTSTRAPS` samples of the cells, with as
    many neighbours each. They are compared after an election among neighbours (`elect`), as it
    places all other cells of the screen: Leiden leaves cells between two clusters where they happen
    to lie, and another run leaves them elsewhere. A cluster's stability is the mean over samples of
    the largest Jaccard index with any cluster of the sample, on the cells that both contain
    (Hennig 2007).
    Chosen is the finest resolution at which `ENOUGH` of the cells lie in clusters whose stability
    is at least `STABLE`; where there is none, the one with the most such cells.

    `wells` (N,): the well of each cell, see `samples`. `done` is called after each sample.
    """
    from sklearn.metrics import adjusted_rand_score

    tried = sorted(resolutions)
    whole = network(graph)
    found = [without_specks(leiden(whole, resolution, seed), indices) for resolution in tried]
    elected = [elect(labels, indices) for labels in found]
    again: list[list[NDArray[np.float64]]] = [[] for _ in tried]
    for number, rows in enumerate(samples(wells, seed), start=1):
        near, distances = nearest(z[rows], indices.shape[1] - 1)
        part = network(fuzzy_graph(near, distances))
        for place, resolution in enumerate(tried):
            other = elect(leiden(part, resolution, seed + number), near)
            n_clusters = found[place].max() + 1
            again[place].append(largest_jaccard(elected[place], n_clusters, rows, other))
        done()
    stability = [_mean(np.array(indices)) for indices in again]
    table = pd.DataFrame(
        {
            "resolution": tried,
            "n_clusters": [len(values) for values in stability],
            "seed_agreement": [
                float(adjusted_rand_score(labels, leiden(whole, resolution, seed + 1)))
                for labels, resolution in zip(found, tried, strict=True)
            ],
            "stability": [
                float(np.nan_to_num(values)[labels].mean())
                for labels, values in zip(found, stability, strict=True)
            ],
            "stable_share": [
                float((values >= STABLE)[labels].mean())
                for labels, values in zip(found, stability, strict=True)
            ],
        }
    )
    chosen = choose(table["stable_share"].to_numpy())
    table["chosen"] = np.arange(len(table)) == chosen
    return Clusters(found[chosen], stability[chosen], table)


def without_specks(labels: Labels, indices: Indices) -> Labels:
    """Clusters (N,) without those that no cell's neighbours `elect`: their cells go elsewhere.

    At fine resolutions Leiden leaves a few cells between clusters as clusters of their own.
    """
    elected = elect(labels, indices)
    _, kept = np.unique(np.where(np.isin(labels, elected), labels, elected), return_inverse=True)
    return by_size(kept)[kept]


def samples(wells: NDArray[np.str_], seed: int) -> Iterator[NDArray[np.int64]]:
    """Rows of `BOOTSTRAPS` samples of the cells, sorted, each cell once.

    Wells are drawn with replacement, as many as there are, and their cells kept once, since cells
    of a well share more than their treatment; with fewer than `FEWEST_WELLS` wells cells are drawn.
    Of more than `BOOTSTRAP_CELLS`, so many at random.
    """
    names, unit = np.unique(wells, return_inverse=True)
    count = len(names)
    if count < FEWEST_WELLS:
        unit, count = np.arange(len(wells)), len(wells)
    rng = np.random.default_rng(seed)
    for _ in range(BOOTSTRAPS):
        drawn = np.zeros(count, dtype=bool)
        drawn[rng.integers(count, size=count)] = True
        rows = np.flatnonzero(drawn[unit])
        if len(rows) > BOOTSTRAP_CELLS:
            rows = np.sort(rng.choice(rows, BOOTSTRAP_CELLS, replace=False))
        yield rows


def largest_jaccard(
    labels: Labels, n_clusters: int, rows: NDArray[np.int64], other: Labels
) -> NDArray[np.float64]:
    """Of each of the clusters of `labels` (N,), the largest Jaccard index with one of `other` (M,).

    `other` are the clusters of `rows` (M,) of the cells, and only these cells count: cells in both
    over cells in either. NaN: none of the cluster's cells are among `rows`.
    """
    shape = n_clusters, other.max() + 1
    both = np.zeros(shape)
    np.add.at(both, (labels[rows], other), 1)
    here = both.sum(axis=1)
    # An election may leave a cluster without a cell.
    either = np.maximum(here[:, None] + both.sum(axis=0) - both, 1)
    return np.where(here > 0, (both / either).max(axis=1), np.nan)


def choose(stable_share: NDArray[np.float64]) -> int:
    """Which resolution, of those sorted from coarse to fine: see `find_clusters`."""
    enough = np.flatnonzero(stable_share >= ENOUGH)
    return int(enough[-1]) if len(enough) else int(stable_share.argmax())


def _mean(indices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over rows (samples) of those that are numbers; NaN where there is none."""
    known = ~np.isnan(indices)
    total = np.where(known, indices, 0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
