"""The picture: UMAP of the neighbour graph. Nothing is measured on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def draw_map(z: NDArray[np.float64], graph: Any, min_dist: float, seed: int) -> NDArray[np.float32]:
    """Coordinates (N, 2) of the cells in the plane, no unit (McInnes et al. 2018).

    Lays out the graph that the clusters come from, starting from the first two principal
    components of z (N, d), which keeps the coarse arrangement (Kobak & Linderman 2021). The same
    seed gives the same picture.
    """
    if len(z) < 3:
        return np.zeros((len(z), 2), dtype=np.float32)
    from umap.umap_ import find_ab_params, simplicial_set_embedding

    a, b = find_ab_params(spread=1.0, min_dist=min_dist)
    picture, _ = simplicial_set_embedding(
        data=z.astype(np.float32),
        graph=graph.tocoo(),
        n_components=2,
        initial_alpha=1.0,
        a=a,
        b=b,
        gamma=1.0,
        negative_sample_rate=5,
        n_epochs=500 if len(z) <= 10_000 else 200,
        init=_start(z, seed),
        random_state=np.random.RandomState(seed),
        metric="euclidean",
        metric_kwds={},
        densmap=False,
        densmap_kwds={},
        output_dens=False,
    )
    return picture.astype(np.float32)


def _start(z: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """First two principal components (N, 2), signs fixed; noise where z has fewer dimensions."""
    centred = z - z.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    start = np.random.default_rng(seed).normal(size=(len(z), 2))
    for axis in range(axes.shape[1]):
        if np.ptp(centred @ axes[:, axis]) > 0:
            start[:, axis] = centred @ axes[:, axis]
    return start.astype(np.float32)
