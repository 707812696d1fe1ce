"""Neighbours, clusters and picture: planted structure comes back, and seeds decide."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

from vae_sci.phenotypes.cluster import cluster_table, leiden, network
from vae_sci.phenotypes.map import draw_map
from vae_sci.phenotypes.neighbours import fuzzy_graph, nearest, nearest_among


def planted(sizes: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clouds of unit variance in 6 dimensions, 8 apart."""
    truth = np.repeat(np.arange(len(sizes)), sizes)
    z = np.random.default_rng(seed).normal(size=(len(truth), 6))
    return z + 8 * np.eye(6)[truth], truth


def test_neighbours_are_the_nearest_with_the_cell_itself_first() -> None:
    z, _ = planted((40, 30))
    z[7] = z[3]
    indices, distances = nearest(z, 5)
    truth = np.sort(cdist(z, z), axis=1)[:, :6]
    np.testing.assert_array_equal(indices[:, 0], np.arange(70))
    np.testing.assert_allclose(distances, truth, atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(z[indices] - z[:, None], axis=2), distances, atol=1e-5
    )


def test_neighbours_among_other_cells_are_the_nearest() -> None:
    z, _ = planted((40, 30))
    others, _ = planted((25, 20), seed=1)
    indices, distances = nearest_among(z, others, 5)
    apart = cdist(z, others)
    np.testing.assert_array_equal(indices, np.argsort(apart, axis=1)[:, :5])
    np.testing.assert_allclose(distances, np.sort(apart, axis=1)[:, :5], atol=1e-5)
    assert nearest_among(z, others[:3], 5)[0].shape == (70, 3)


def test_graph_is_symmetric_with_weights_up_to_1_and_a_sure_nearest_neighbour() -> None:
    z, _ = planted((60, 40))
    graph = fuzzy_graph(*nearest(z, 8))
    assert abs(graph - graph.T).max() < 1e-7
    assert graph.diagonal().max() == 0
    assert graph.data.min() > 0
    assert graph.data.max() <= 1 + 1e-6
    # Each cell is joined to its nearest with weight 1: the local connectivity of McInnes et al.
    np.testing.assert_allclose(graph.max(axis=1).toarray(), 1, atol=1e-5)


def test_leiden_finds_planted_clusters_numbered_by_size_whatever_the_order_of_cells() -> None:
    z, truth = planted((40, 120, 80))
    order = np.random.default_rng(1).permutation(len(z))
    for rows in (np.arange(len(z)), order):
        graph = fuzzy_graph(*nearest(z[rows], 15))
        found = leiden(network(graph), 0.2, seed=0)
        assert adjusted_rand_score(truth[rows], found) == 1
        assert np.bincount(found).tolist() == [120, 80, 40]


def test_leiden_draws_from_its_seed_and_leaves_the_numbers_of_others_alone() -> None:
    graph = network(fuzzy_graph(*nearest(planted((40, 30))[0], 15)))
    random.seed(5)
    expected = random.random()
    random.seed(5)
    leiden(graph, 1.0, seed=0)
    assert random.random() == expected


def test_resolution_and_seed_of_leiden() -> None:
    z = np.random.default_rng(0).normal(size=(300, 4))
    graph = network(fuzzy_graph(*nearest(z, 15)))
    coarse, fine = (leiden(graph, resolution, seed=3) for resolution in (0.3, 2.0))
    assert coarse.max() < fine.max()
    np.testing.assert_array_equal(fine, leiden(graph, 2.0, seed=3))
    others = [leiden(graph, 2.0, seed=s) for s in range(5)]
    assert any(not np.array_equal(fine, other) for other in others)


def test_picture_repeats_with_its_seed_and_keeps_clusters_apart() -> None:
    z, truth = planted((60, 60))
    graph = fuzzy_graph(*nearest(z, 15))
    before = graph.copy()
    picture = draw_map(z, graph, 0.3, seed=1)
    assert picture.shape == (120, 2)
    assert abs(graph - before).max() == 0
    np.testing.assert_array_equal(picture, draw_map(z, graph, 0.3, seed=1))
    assert not np.array_equal(picture, draw_map(z, graph, 0.3, seed=2))
    near = cdist(picture, picture) + np.diag(np.full(120, np.inf))
    assert (truth[near.argmin(axis=1)] == truth).all()


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("d", [1, 6])
def test_fewer_cells_than_neighbours(n: int, d: int) -> None:
    z = np.random.default_rng(n).normal(size=(n, d))
    graph = fuzzy_graph(*nearest(z, 15))
    assert graph.shape == (n, n)
    found = leiden(network(graph), 1.0, seed=0)
    assert sorted(set(found)) == list(range(found.max() + 1))
    picture = draw_map(z, graph, 0.3, seed=0)
    assert picture.shape == (n, 2)
    assert np.isfinite(picture).all()


def test_cluster_table_by_hand() -> None:
    cells = pd.DataFrame(
        {
            "cell_id": list("abcdef"),
            "plate": ["P", "P", "Q", "P", "P", "P"],
            "cluster": ["0", "0", "0", "0", "2", "1"],
            "control": [True, False, False, True, True, False],
            "z_000": [0.0, 1.0, 2.0, 3.4, 9.0, 5.0],
        }
    )
    enrichment = pd.DataFrame(
        {
            "treatment": ["weak", "strong", "unsure"],
            "cluster": ["0", "0", "0"],
            "q_value": [0.01, 0.04, 0.2],
            "log2_enrichment": [1.0, 2.0, 5.0],
        }
    )
    stability = np.array([0.75, 0.74, np.nan])
    table = cluster_table(cells, enrichment, stability).set_index("cluster")
    assert table.index.tolist() == ["0", "1", "2"]
    assert table["stable"].tolist() == [True, False, False]
    np.testing.assert_array_equal(table["stability"], stability)
    assert table["n_cells"].tolist() == [4, 1, 1]
    assert table["share_control"].tolist() == pytest.approx([2 / 3, 0, 1 / 3])
    assert table.loc["0", "n_plates"] == 2
    assert table.loc["0", "top_plate_share"] == 0.75
    assert table.loc["0", "top_treatment"] == "strong"
    assert table.loc["0", "top_log2_enrichment"] == 2.0
    assert table.loc["0", "exemplar"] == "c"  # the mean of z is 1.6
    assert table.loc[["1", "2"], "top_treatment"].isna().all()
