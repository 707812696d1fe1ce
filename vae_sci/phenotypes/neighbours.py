"""The graph of nearest neighbours in z: what clusters and picture are both made from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = 20_000
"""Up to this many cells neighbours are exact (2 s of CPU at 32 dimensions); beyond, approximate."""


def nearest(
    z: NDArray[np.float64], k: int, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Indices and Euclidean distances (N, min(k + 1, N)) of each cell itself, then its k nearest.

    Beyond `EXACT` cells: NN-descent (Dong et al. 2011).
    """
    count = min(k + 1, len(z))
    own = np.arange(len(z))[:, None]
    if count == 1:
        indices, distances = own, np.zeros(own.shape)
    elif len(z) <= EXACT:
        from sklearn.neighbors import NearestNeighbors

        # Called without rows, it leaves the cell itself out: a copy cannot take its place.
        distances, indices = NearestNeighbors(n_neighbors=count - 1).fit(z).kneighbors()
        indices, distances = np.hstack([own, indices]), np.pad(distances, ((0, 0), (1, 0)))
    else:
        from pynndescent import NNDescent

        indices, distances = NNDescent(
            z.astype(np.float32), n_neighbors=count, random_state=seed
        ).neighbor_graph
    return indices.astype(np.int32), distances.astype(np.float32)


def fuzzy_graph(indices: NDArray[np.int32], distances: NDArray[np.float32]) -> Any:
    """Symmetric sparse graph (N, N), weights in (0, 1]: UMAP's fuzzy union (McInnes et al. 2018).

    Weights fall with distance on the scale of each cell's own neighbourhood, so that dense and
    sparse regions are joined alike; standard in single-cell practice (scanpy).
    """
    from scipy.sparse import csr_matrix
    from umap.umap_ import fuzzy_simplicial_set

    n, k = indices.shape
    if k < 2:
        return csr_matrix((n, n), dtype=np.float32)
    graph, _, _ = fuzzy_simplicial_set(
        np.empty((n, 1), dtype=np.float32),
        k,
        None,
        "euclidean",
        knn_indices=indices,
        knn_dists=distances,
    )
    return graph.tocsr()
