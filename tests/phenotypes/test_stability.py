"""Stability: what is there is found again, what was cut at random is not, and the rule follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from vae_sci.contracts import RESOLUTIONS
from vae_sci.phenotypes import stability
from vae_sci.phenotypes.cluster import leiden, network
from vae_sci.phenotypes.neighbours import fuzzy_graph, nearest
from vae_sci.phenotypes.stability import (
    Clusters,
    choose,
    find_clusters,
    largest_jaccard,
    samples,
    without_specks,
)


def clouds(sizes: tuple[int, ...], apart: float, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Clouds of unit variance, their middles `apart` along an axis each."""
    truth = np.repeat(np.arange(len(sizes)), sizes)
    z = np.random.default_rng(0).normal(size=(len(truth), d))
    return z + apart * np.eye(d)[truth], truth


def clusters(z: np.ndarray, resolutions: tuple[float, ...], seed: int = 0) -> Clusters:
    wells = np.array([f"P/{k % 24}" for k in range(len(z))])
    indices, distances = nearest(z, 15)
    graph = fuzzy_graph(indices, distances)
    return find_clusters(z, indices, graph, wells, resolutions, seed)


def test_jaccard_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    rows = np.array([0, 1, 2, 4, 5])
    other = np.array([0, 0, 1, 1, 1])
    # Of cluster 0 three cells count: {0, 1} is 2 of 3. Of cluster 1 two: {2, 4, 5} is 2 of 3.
    np.testing.assert_allclose(largest_jaccard(labels, 3, rows, other), [2 / 3, 2 / 3, np.nan])
    np.testing.assert_array_equal(largest_jaccard(labels, 3, np.arange(7), labels), [1, 1, 1])


def test_clouds_that_lie_apart_are_stable_and_chosen_whatever_else_is_tried() -> None:
    z, truth = clouds((300, 200, 100), apart=8)
    found = clusters(z, (3.0, 0.05, 0.2))
    assert adjusted_rand_score(truth, found.labels) == 1
    assert (found.stability > 0.95).all()
    table = RESOLUTIONS.validate(found.resolutions, "here")
    assert table["resolution"].tolist() == [0.05, 0.2, 3.0]
    assert table["chosen"].tolist() == [False, True, False]
    assert table["n_clusters"].tolist()[1] == 3
    assert table["seed_agreement"].tolist()[1] == 1
    assert table["stable_share"].tolist()[1] == 1
    assert table["stable_share"].tolist()[2] < 0.9


def test_one_cloud_that_is_cut_is_unstable_and_where_there_is_a_choice_it_is_not_cut() -> None:
    z, _ = clouds((600,), apart=0)
    cut = clusters(z, (1.5,))
    assert len(cut.stability) > 2
    assert (cut.stability < 0.75).all()
    assert cut.resolutions["stable_share"].tolist() == [0]
    assert clusters(z, (0.1, 1.5)).labels.max() == 0


def test_a_cluster_that_no_neighbours_elect_is_dissolved() -> None:
    labels = np.array(
        [2] + [0] * 6 + [1] * 5
    )  # the first is a cluster of its own, among those of 0
    near = np.array([[0, 1, 2, 3, 4]] + [[k, 1, 2, 3, 4] for k in range(1, 7)]
                    + [[k, 7, 8, 9, 10] for k in range(7, 12)])  # fmt: skip
    assert without_specks(labels, near).tolist() == [0] * 7 + [1] * 5
    whole = labels.copy()
    whole[0] = 0
    assert without_specks(whole, near).tolist() == whole.tolist()


def test_an_election_leaves_clusters_to_leiden_and_makes_them_easier_to_find_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    z, truth = clouds((900, 600, 400, 100), apart=3.5, d=32)
    indices, distances = nearest(z, 15)
    labels = leiden(network(fuzzy_graph(indices, distances)), 0.7, seed=0)
    found = clusters(z, (0.7,))
    np.testing.assert_array_equal(found.labels, labels)
    before = adjusted_rand_score(truth, labels)
    assert adjusted_rand_score(truth, stability.elect(labels, indices)) > before + 0.01
    monkeypatch.setattr(stability, "elect", lambda labels, voters: labels)
    assert (found.stability > clusters(z, (0.7,)).stability).all()


def test_the_finest_resolution_with_enough_stable_cells_is_chosen() -> None:
    assert choose(np.array([1.0, 0.3, 0.9, 0.89])) == 2
    assert choose(np.array([0.2, 0.6, 0.6, 0.5])) == 1


def test_samples_are_whole_wells_and_of_few_wells_cells() -> None:
    wells = np.repeat([f"P/{k:03d}" for k in range(200)], 5)
    drawn = list(samples(wells, seed=1))
    assert len(drawn) == stability.BOOTSTRAPS
    for rows in drawn:
        assert (np.diff(rows) > 0).all()
        counts = np.unique(wells[rows], return_counts=True)[1]
        assert (counts == 5).all()
    # 1 − 1/e of the wells are in a bootstrap; the mean of 20 has a standard error of 0.5 %.
    assert np.mean([len(rows) for rows in drawn]) / len(wells) == pytest.approx(0.632, abs=0.02)
    few = next(samples(wells[:40], seed=1))  # 8 wells
    assert len(np.unique(wells[few], return_counts=True)[0]) == 8
    assert len(few) / 40 == pytest.approx(0.632, abs=0.25)
    again = list(samples(wells, seed=1))
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_a_sample_has_at_most_so_many_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stability, "BOOTSTRAP_CELLS", 50)
    wells = np.repeat([f"P/{k}" for k in range(20)], 10)
    for rows in samples(wells, seed=0):
        assert len(rows) == 50
        assert (np.diff(rows) > 0).all()


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = numba.get_num_threads()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    with threadpool_limits(count):
        yield
    numba.set_num_threads(before)


@pytest.mark.slow
def test_seeds_repeat_and_another_number_of_threads_changes_no_stable_cluster() -> None:
    z, _ = clouds((900, 600, 400, 100), apart=4.5, d=32)
    with threads(1):
        one, again = clusters(z, (0.3, 0.7, 1.0)), clusters(z, (0.3, 0.7, 1.0))
    with threads(2):
        two = clusters(z, (0.3, 0.7, 1.0))
    np.testing.assert_array_equal(one.labels, again.labels)
    np.testing.assert_array_equal(one.stability, again.stability)
    stable = (one.stability >= 0.75)[one.labels]
    assert stable.mean() > 0.5
    assert adjusted_rand_score(one.labels[stable], two.labels[stable]) >= 0.98
