"""Cells that were not clustered are placed beside those that were.

So are the cells of a large screen beyond the sample that clusters and picture are fitted to, and
those of a new plate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_sci.phenotypes.neighbours import nearest_among

BLOCK = 50_000
"""Cells that are placed at a time."""


class Placed(NamedTuple):
    """Where cells were placed, a row each."""

    cluster: NDArray[np.int64]
    """(N,) the cluster of each cell."""
    confidence: NDArray[np.float64]
    """(N,) the share of its nearest fitted cells that lie in it."""
    picture: NDArray[np.float32]
    """(N, 2) the middle of those in the picture."""
    distance: NDArray[np.float64]
    """(N,) mean distance to them all, in units of z."""


def elect(labels: NDArray[np.int64], voters: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Cluster (N,) that the voters (N, k) elect, rows of the fitted cells with `labels` (M,).

    It is the cluster whose share of the votes lies farthest above its share of the fitted cells:
    what modularity weighs too. By the most votes, large clusters would win too often, since in many
    dimensions some of their cells are near to everything. Where two lie as far above, it is the
    first voter's.
    """
    shares = np.bincount(labels) / len(labels)
    cluster = np.empty(len(voters), dtype=np.int64)
    for start in range(0, len(voters), BLOCK):
        votes = labels[voters[start : start + BLOCK]]
        # For every voter, the share that lies in its cluster.
        alike = (votes[:, :, None] == votes[:, None, :]).mean(axis=2)
        best = (alike - shares[votes]).argmax(axis=1)
        cluster[start : start + BLOCK] = votes[np.arange(len(votes)), best]
    return cluster


def place(
    z: NDArray[np.floating[Any]],
    fitted: NDArray[np.floating[Any]],
    labels: NDArray[np.int64],
    picture: NDArray[np.float32],
    k: int,
) -> Placed:
    """Place z (N, d), N at least 1, by the votes of its k nearest among `fitted` (M, d).

    Of these, `labels` (M,) are the clusters and `picture` (M, 2) the coordinates. A cell gets the
    cluster that its neighbours `elect`.

    The coordinates of a placed cell are the mean over the neighbours that voted for its cluster, so
    that no cell comes to lie between two clusters.
    """
    parts = [
        _place(z[start : start + BLOCK], fitted, labels, picture, k)
        for start in range(0, len(z), BLOCK)
    ]
    return Placed(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _place(
    z: NDArray[np.floating[Any]],
    fitted: NDArray[np.floating[Any]],
    labels: NDArray[np.int64],
    picture: NDArray[np.float32],
    k: int,
) -> Placed:
    indices, distances = nearest_among(z, fitted, k)
    cluster = elect(labels, indices)
    votes = labels[indices]
    chosen = (votes == cluster[:, None]).astype(np.float64)
    middle = np.einsum("nk,nkc->nc", chosen, picture[indices]) / chosen.sum(axis=1)[:, None]
    return Placed(cluster, chosen.mean(axis=1), middle.astype(np.float32), distances.mean(axis=1))
