"""Agreement of wells against what mathematics says it must be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from vae_sci.phenotypes.replicates import (
    DRAWS,
    activity,
    replicate_correlations,
    unrelated_correlations,
)


def test_identical_wells_agree_and_opposite_ones_do_not() -> None:
    profile = np.random.default_rng(0).normal(size=8)
    wells = np.array([profile, profile, 3 * profile + 1, profile, -profile, np.ones(8)])
    found = replicate_correlations(wells, np.array(["a", "a", "a", "b", "b", "alone"]))
    assert found == pytest.approx({"a": 1, "b": -1})
    assert replicate_correlations(wells[:, :1], np.array(list("aabbcc"))) == {}


def test_the_median_is_of_all_pairs() -> None:
    wells = np.random.default_rng(1).normal(size=(4, 6))
    pairs = np.corrcoef(wells)[np.triu_indices(4, 1)]
    found = replicate_correlations(wells, np.array(["t"] * 4))["t"]
    assert found == pytest.approx(np.median(pairs))


def test_noise_agrees_no_more_than_unrelated_wells_do() -> None:
    rng = np.random.default_rng(2)
    # What all wells share is no agreement of replicates.
    wells = rng.normal(size=(400, 10)) + 2 * rng.normal(size=10)
    treatments = np.repeat(np.arange(100), 4).astype(str)
    found = np.array(list(replicate_correlations(wells, treatments).values()))
    null = unrelated_correlations(wells, treatments, 4, seed=0)
    assert np.median(null) > 0.5
    assert np.median(found) == pytest.approx(np.median(null), abs=0.05)
    assert (found > np.quantile(null, 0.95)).mean() == pytest.approx(0.05, abs=0.07)


def test_fewer_treatments_than_wells_of_one_leave_smaller_groups_to_compare_with() -> None:
    wells = np.random.default_rng(0).normal(size=(8, 4))
    treatments = np.array(list("aaaabbbb"))
    four = unrelated_correlations(wells, treatments, 4, 0)
    np.testing.assert_array_equal(four, unrelated_correlations(wells, treatments, 2, 0))
    assert unrelated_correlations(wells, np.array(["a"] * 8), 3, 0).size == 0


def test_activity_equals_that_of_copairs() -> None:
    rng = np.random.default_rng(3)
    profiles = rng.normal(size=(11, 4)).round(2)
    profiles[:4, 0] += 2
    # copairs 0.5, a reference index of its own for every control: the mean of these four wells.
    expected = np.mean([0.698413, 0.833333, 0.229630, 0.809524])
    found, _, p_value = activity(profiles, np.arange(11) < 4, np.full(11, "p"), 0)
    assert found == pytest.approx(expected, abs=1e-6)
    assert p_value > 0.01


def test_activity_of_a_treatment_far_from_controls_has_the_smallest_possible_p() -> None:
    rng = np.random.default_rng(0)
    plates = np.repeat(["p", "q"], 20)
    treated = np.tile(np.arange(20) < 3, 2)
    profiles = rng.normal(size=(40, 5)) + 20 * treated[:, None]
    found, chance, p_value = activity(profiles, treated, plates, 0)
    assert found > 0.98  # a control may happen to lie in their direction
    assert chance < 0.5
    # 1140² arrangements: none of those drawn is what was done.
    assert p_value == 1 / (1 + DRAWS)


def test_p_values_of_activity_are_uniform_though_plates_differ() -> None:
    plates = np.repeat(["p", "q", "r"], 8)
    treated = np.tile(np.arange(8) < 2, 3)
    p_values = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        profiles = rng.normal(size=(24, 4)) + 2 * np.repeat(rng.normal(size=(3, 4)), 8, axis=0)
        p_values.append(activity(profiles, treated, plates, seed)[2])
    assert kstest(p_values, "uniform").pvalue > 0.01
