"""Latent phenotypes: Leiden clusters of the neighbour graph, and the table that describes them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.phenotypes.permutation import SIGNIFICANT
from vae_sci.phenotypes.profiles import latent_columns

STABLE = 0.75
"""Smallest stability of a cluster that is called stable (Hennig 2008)."""


ROUNDS = 5
"""Rounds of Leiden: more raise modularity by at most 0.0003, and can take four times as long."""


def network(graph: Any) -> Any:
    """A symmetric sparse graph (N, N) as the igraph network that `leiden` takes."""
    import igraph
    from scipy.sparse import triu

    upper = triu(graph, k=1).tocoo()
    made = igraph.Graph(
        n=graph.shape[0], edges=np.column_stack([upper.row, upper.col]), directed=False
    )
    made.es["weight"] = upper.data.astype(float)
    return made


def leiden(network: Any, resolution: float, seed: int) -> NDArray[np.int64]:
    """Cluster (N,) of each node of a `network`, numbered from 0 by falling size.

    Leiden on modularity with a resolution (Traag et al. 2019; Reichardt & Bornholdt 2006),
    `ROUNDS` rounds of it.
    """
    import igraph

    igraph.set_random_number_generator(random.Random(seed))
    try:
        found = np.asarray(
            network.community_leiden(
                "modularity", weights="weight", resolution=resolution, n_iterations=ROUNDS
            ).membership
        )
    finally:
        igraph.set_random_number_generator(random)
    return by_size(found)[found]


def by_size(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of each label from 0 on, 0 for the largest; as large: the one that comes first."""
    _, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    number = np.empty(len(sizes), dtype=np.int64)
    number[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return number


def cluster_table(
    cells: pd.DataFrame, enrichment: pd.DataFrame, stability: NDArray[np.float64]
) -> pd.DataFrame:
    """The table `CLUSTERS` from tables `CELLS` and `ENRICHMENT`, one row per cluster.

    `stability` (clusters,): of each, by its number.

    The exemplar is the cell nearest the cluster's mean in normalised z. The top treatment is the
    most enriched of those with a q-value of at most `SIGNIFICANT`; none: empty.
    """
    controls = cells.loc[cells["control"], "cluster"]
    z = cells[latent_columns(cells)].to_numpy()
    rows = []
    for cluster in sorted(cells["cluster"].unique(), key=int):
        inside = (cells["cluster"] == cluster).to_numpy()
        members = cells[inside]
        plates = members["plate"].value_counts()
        away = np.linalg.norm(z[inside] - z[inside].mean(axis=0), axis=1)
        raised = enrichment[
            (enrichment["cluster"] == cluster)
            & (enrichment["q_value"] <= SIGNIFICANT)
            & (enrichment["log2_enrichment"] > 0)
        ]
        top = None if raised.empty else raised.loc[raised["log2_enrichment"].idxmax()]
        rows.append(
            {
                "cluster": cluster,
                "n_cells": len(members),
                "share": len(members) / len(cells),
                "stability": stability[int(cluster)],
                "stable": bool(stability[int(cluster)] >= STABLE),
                "share_control": (controls == cluster).mean() if len(controls) else np.nan,
                "n_plates": len(plates),
                "top_plate_share": plates.iloc[0] / len(members),
                "top_treatment": pd.NA if top is None else top["treatment"],
                "top_log2_enrichment": np.nan if top is None else top["log2_enrichment"],
                "exemplar": members["cell_id"].iloc[int(away.argmin())],
            }
        )
    return pd.DataFrame(rows)
