"""Scores against what mathematics says they must be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, norm

from vae_sci.phenotypes.scores import (
    WIDE,
    Retrieval,
    balanced_accuracy,
    bootstrap_interval,
    grouped_folds,
    knn_balanced_accuracy,
    knn_predictions,
    linear_probe_balanced_accuracy,
    linear_probe_predictions,
    nested_folds,
    probe_auroc,
    ranked_precision,
    recovery,
    similarities,
)


def test_balanced_accuracy_counts_classes_alike() -> None:
    labels = np.array(["a"] * 8 + ["b"] * 2)
    assert balanced_accuracy(labels, np.full(10, "a")) == 0.5
    assert balanced_accuracy(labels, np.where(np.arange(10) == 9, "b", "a")) == 0.75


def test_folds_keep_groups_whole_and_nested_folds_show_every_class_twice() -> None:
    rng = np.random.default_rng(0)
    groups = np.array([f"plate{i}" for i in rng.integers(12, size=400)])
    labels = rng.choice(["a", "b", "c"], size=400, p=[0.7, 0.2, 0.1])
    folds = grouped_folds(labels, groups, 5)
    assert set(folds) == set(range(5))
    assert all(len(set(folds[groups == g])) == 1 for g in set(groups))

    wells = np.repeat(np.arange(20), 7)
    label = np.repeat(["x", "y"], [2 * 7, 18 * 7])
    folds = nested_folds(label, wells, 5)
    assert all(len(set(folds[wells == w])) == 1 for w in set(wells))
    assert len(set(folds[label == "x"])) == 2
    assert set(folds[label == "y"]) == set(range(5))


def test_knn_uses_only_other_folds() -> None:
    # Rows of a group are copies of each other; only within the group could the label be guessed.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 10)
    z = rng.normal(size=(60, 5))[groups]
    labels = rng.integers(2, size=60)[groups]
    folds = grouped_folds(labels, groups)
    assert knn_balanced_accuracy(z, labels, folds) < 0.7
    assert knn_balanced_accuracy(z, labels, np.arange(600) % 5) == 1


def test_knn_is_cosine_by_default() -> None:
    z = np.array([[1.0, 0.0], [9.0, 0.1], [0.0, 1.0], [0.1, 1.2]])
    labels = np.array(["right", "right", "up", "up"])
    folds = np.arange(4)
    assert knn_predictions(z, labels, folds, k=1).tolist() == labels.tolist()
    assert knn_predictions(z, labels, folds, 1, "euclidean").tolist() != labels.tolist()


def test_linear_probe_reaches_the_best_possible_and_chance() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=4000)
    z = rng.normal(size=(4000, 4)) * [1, 100, 0.01, 1]
    folds = np.arange(4000) % 5
    assert linear_probe_balanced_accuracy(z, labels, folds) == pytest.approx(0.5, abs=0.03)
    z[:, 2] += 0.02 * labels
    # Two Gaussians 2 sd apart: the best rule is right with probability Phi(1).
    expected = norm.cdf(1.0)
    assert linear_probe_balanced_accuracy(z, labels, folds) == pytest.approx(expected, abs=0.02)


def test_linear_probe_of_wide_features_is_the_same_fit() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=300)
    z = rng.normal(size=(300, 8)) + 0.8 * np.eye(4, 8)[labels]
    folds = np.arange(300) % 3
    # Columns of zeros change nothing but the way of fitting.
    wide = np.pad(z, ((0, 0), (0, WIDE)))
    narrow, other = (linear_probe_predictions(x, labels, folds) for x in (z, wide))
    assert (narrow == other).mean() > 0.99
    assert 0.4 < (narrow == labels).mean() < 0.9


@pytest.mark.parametrize("delta", [0.0, 0.5, 1.0, 2.0])
def test_auroc_of_a_planted_shift_is_phi_of_delta_over_root_2(delta: float) -> None:
    rng = np.random.default_rng(1)
    wells = np.repeat(np.arange(20), 100)
    treated = wells < 10
    z = rng.normal(size=(2000, 4))
    z[:, 1] += delta * treated
    expected = norm.cdf(delta / np.sqrt(2))
    assert probe_auroc(z, treated, wells) == pytest.approx(expected, abs=0.03)


def test_auroc_of_few_cells_without_effect_is_a_half_on_average_even_with_well_effects() -> None:
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        wells = np.repeat(np.arange(6), 8)
        z = rng.normal(size=(48, 10)) + rng.normal(size=(6, 10))[wells]
        found.append(probe_auroc(z, wells < 3, wells))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - 0.5) < 3 * error
    assert error < 0.04


def test_auroc_needs_two_wells_of_each() -> None:
    z = np.random.default_rng(0).normal(size=(30, 2))
    wells = np.repeat([0, 1, 2], 10)
    assert np.isnan(probe_auroc(z, wells == 0, wells))
    assert np.isnan(probe_auroc(z, wells != 0, wells))


def test_not_same_compound_by_hand() -> None:
    angle = np.deg2rad([0, 5, 20, 80, 90, 60])
    profiles = np.column_stack([np.cos(angle), np.sin(angle)]) * [[1], [50], [1], [9], [1], [1]]
    compounds = np.array(["a", "a", "b", "c", "d", "e"])
    labels = np.array(["L", "L", "L", "M", "M", "L"])
    # a at 0° and 5°: nearest of another compound is b (L), though the other a is nearer. b: a (L).
    # c at 80°: d (M). d: c (M). e at 60°: c (M), wrong.
    assert Retrieval(profiles, compounds).nearest_right(labels).tolist() == [True] * 5 + [False]


def test_not_same_compound_or_batch_by_hand() -> None:
    angle = np.deg2rad([0, 5, 20, 40, 90])
    profiles = np.column_stack([np.cos(angle), np.sin(angle)])
    compounds = np.array(["a", "b", "c", "d", "e"])
    labels = np.array(["L", "L", "M", "L", "M"])
    batches = np.array(["1", "1", "1", "2", "2"])
    found = Retrieval(profiles, compounds, batches).nearest_right(labels)
    # a may find d (L) and e; so may b. c finds d (L), wrong. d finds c (M), wrong. e: c (M).
    assert found.tolist() == [1, 1, 0, 0, 1]


def test_who_cannot_find_its_label_is_not_asked() -> None:
    one = Retrieval(np.eye(3), np.array(["a"] * 3))
    assert np.isnan(one.nearest_right(np.array(["L"] * 3))).all()
    # Two compounds a label, but of one batch each: not a question for NSCB.
    compounds, labels = np.array(["a", "b", "c", "d"]), np.array(["L", "L", "M", "M"])
    in_one = Retrieval(np.eye(4), compounds, np.array(["1", "1", "2", "2"]))
    assert np.isnan(in_one.nearest_right(labels)).all()
    assert not np.isnan(Retrieval(np.eye(4), compounds).nearest_right(labels)).any()


def test_single_numbers_are_compared_by_distance() -> None:
    counts = np.array([[1.0], [9.0], [2.0], [-1.0]])
    assert similarities(counts)[0].tolist() == [0, -8, -1, -2]


def test_average_precision_by_hand() -> None:
    angle = np.deg2rad([0, 1, 10, 30, 45, 85])
    profiles = np.column_stack([np.cos(angle), np.sin(angle)]) * [[1], [50], [1], [9], [1], [1]]
    compounds = np.array(["a", "a", "b", "c", "d", "e"])
    labels = np.array(["L", "L", "M", "L", "L", "N"])
    found = Retrieval(profiles, compounds).average_precision(labels)
    # Each dose of a sees b (M), c (L), d (L), e (N): the other dose is not asked.
    assert found[:2] == pytest.approx([(1 / 2 + 2 / 3) / 2] * 2)
    # c sees d (L), b (M), a (L), a (L), e (N); d sees c (L), b (M), e (N), a (L), a (L).
    assert found[3:5] == pytest.approx([(1 + 2 / 3 + 3 / 4) / 3, (1 + 2 / 4 + 3 / 5) / 3])
    assert np.isnan(found[[2, 5]]).all()


def test_average_precision_equals_that_of_copairs() -> None:
    rng = np.random.default_rng(7)
    compounds = np.repeat([f"c{i}" for i in range(8)], 2)
    labels = np.repeat(list("AABBCCCD"), 2)
    profiles = rng.normal(size=(16, 5)).round(2)
    profiles[:, 0] += 2 * (labels == "A")
    profiles[:, 1] += 2 * (labels == "C")
    # copairs 0.5: average_precision(pos_sameby=[label], pos_diffby=[compound], neg_sameby=[],
    # neg_diffby=[label, compound]); no compound here has two labels.
    expected = [1, 1, 1, 1, 0.75, 0.45, 0.833333, 0.266667, 0.804167, 0.75, 0.47619, 0.95]
    expected += [0.642857, 0.816667, np.nan, np.nan]
    found = Retrieval(profiles, compounds).average_precision(labels)
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_ranked_precision_of_the_last_of_n() -> None:
    assert ranked_precision(np.arange(5) == 4) == pytest.approx(1 / 5)
    assert ranked_precision(np.arange(5) < 2) == 1
    assert np.isnan(ranked_precision(np.zeros(3, dtype=bool)))


def test_chance_and_its_p_values_are_calibrated() -> None:
    compounds = np.repeat(np.arange(24).astype(str), 2)
    # Doses of a compound are alike: a null that dealt labels to treatments would find too much.
    p_values, gaps = [], []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        profiles = np.repeat(rng.normal(size=(24, 6)), 2, axis=0) + 0.1 * rng.normal(size=(48, 6))
        labels = np.repeat(rng.permutation(np.repeat(list("ABCD"), 6)), 2)
        asked = Retrieval(profiles, compounds)
        value = asked.average_precision(labels).mean()
        null = asked.chance(asked.average_precision, labels, seed, n=99)
        gaps.append(value - null.mean())
        p_values.append((1 + (null >= value).sum()) / 100)
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(len(gaps))
    assert kstest(p_values, "uniform").pvalue > 0.01
    planted = np.eye(4)[np.searchsorted(list("ABCD"), labels)] + 0.1 * rng.normal(size=(48, 4))
    found = Retrieval(planted, compounds)
    assert (found.chance(found.average_precision, labels, 0, n=99) < 0.5).all()
    assert found.average_precision(labels).mean() > 0.99


def test_bootstrap_interval_covers_and_resamples_groups() -> None:
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(25), 4)
        values = rng.normal(size=25)[groups] + 0.1 * rng.normal(size=100)

        def mean(rows: np.ndarray, values: np.ndarray = values) -> float:
            return float(values[rows].mean())

        low, high = bootstrap_interval(mean, groups, n=200, seed=seed)
        covered += low < 0 < high
    # 95 % nominal, a little less with 25 groups; resampling the 100 rows would cover about 65 %.
    assert 86 <= covered <= 99


def test_recovery_before_and_after_and_its_chance() -> None:
    rng = np.random.default_rng(0)
    plates = np.repeat(["p", "q", "r", "one-well"], [60, 60, 60, 20])
    wells = np.char.add(plates, (np.arange(200) // 20).astype(str))
    raw = rng.normal(size=(200, 4))
    raw[plates == "p"] += 5
    raw[plates == "q"] -= 5
    after = rng.normal(size=(200, 4))
    score = recovery(
        {"raw": raw, "normalized": after}, plates, wells, np.full(len(wells), True), seed=0
    )
    assert (score["n_cells"], score["n_labels"], score["chance"]) == (180, 3, 1 / 3)
    assert score["raw"] > 0.8
    assert score["normalized"] == pytest.approx(1 / 3, abs=0.12)
    alone = recovery({"raw": raw}, np.full(200, "p"), wells, np.full(200, True), seed=0)
    assert (alone["raw"], alone["chance"]) == (None, None)
