"""Cells are placed where their like are, and unsure cells say so."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from vae_sci.phenotypes import place as room
from vae_sci.phenotypes.place import elect, place

MIDDLES = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, 4]])
SHARES = np.array([0.6, 0.25, 0.1, 0.05])


def draw(n: int, seed: int, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Clouds of unit variance, and which each cell is of."""
    rng = np.random.default_rng(seed)
    cloud = rng.choice(4, n, p=SHARES)
    return apart * MIDDLES[cloud] + rng.normal(size=(n, 3)), cloud


def test_an_election_by_hand() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2])
    voters = np.array([[0, 1, 6, 7], [0, 1, 2, 6], [9, 0, 1, 6]])
    # Shares of the votes minus 0.6, 0.3, 0.1: -0.1, 0.2; 0.15, -0.05; -0.1, -0.05, 0.15.
    assert elect(labels, voters).tolist() == [1, 0, 2]


def test_fitted_cells_are_placed_in_their_own_cluster() -> None:
    z, cloud = draw(2000, seed=0, apart=2)
    placed = place(z, z, cloud, np.zeros((2000, 2), np.float32), 15)
    assert (placed.cluster == cloud).mean() >= 0.99


def test_new_cells_of_the_same_clouds_are_placed_nearly_as_well_as_bayes_could() -> None:
    fitted, known = draw(8000, seed=0)
    z, cloud = draw(4000, seed=1)
    bayes = (z @ MIDDLES.T - (MIDDLES**2).sum(axis=1) / 2 + np.log(SHARES)).argmax(axis=1)
    placed = place(z, fitted, known, np.zeros((8000, 2), np.float32), 15)
    best = adjusted_rand_score(cloud, bayes)
    assert best < 0.95  # the clouds overlap
    assert adjusted_rand_score(cloud, placed.cluster) > best - 0.03
    # Between two clouds cells are less sure, and the less sure are wrong more often.
    sure = placed.confidence > 0.9
    distances = np.sort(np.linalg.norm(z[:, None] - MIDDLES, axis=2), axis=1)
    between = distances[:, 1] - distances[:, 0] < 1
    assert placed.confidence[between].mean() < placed.confidence[~between].mean() - 0.1
    wrong = placed.cluster != cloud
    assert wrong[sure].mean() < 0.5 * wrong[~sure].mean()


def test_votes_by_hand() -> None:
    """Ten fitted cells in cluster 0, two in 1: of the votes 3 and 2, that is little and much."""
    fitted = np.array([[1.0], [1.1], [1.2], [0.5], [0.6], *[[9.0 + k] for k in range(7)]])
    labels = np.array([0, 0, 0, 1, 1, *[0] * 7])
    picture = np.column_stack([np.arange(12.0), np.zeros(12)]).astype(np.float32)
    placed = place(np.array([[0.9], [9.0]]), fitted, labels, picture, 5)
    assert placed.cluster.tolist() == [1, 0]
    assert placed.confidence.tolist() == [0.4, 1.0]
    np.testing.assert_allclose(placed.picture, [[3.5, 0], [7, 0]])
    np.testing.assert_allclose(placed.distance, [(0.1 + 0.2 + 0.3 + 0.4 + 0.3) / 5, 2], atol=1e-6)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, known = draw(500, seed=0)
    z, _ = draw(101, seed=1)
    picture = fitted[:, :2].astype(np.float32)
    whole = place(z, fitted, known, picture, 15)
    monkeypatch.setattr(room, "BLOCK", 25)
    for one, other in zip(whole, place(z, fitted, known, picture, 15), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
