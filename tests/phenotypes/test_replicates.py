"""Agreement of wells against what mathematics says it must be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from vae_sci.phenotypes.replicates import (
    DRAWS,
    activity,
    correlations,
    replicate_correlation,
    unrelated_correlations,
)


def agreement(wells: np.ndarray, treatments: np.ndarray) -> dict[str, float]:
    """Correlation of the wells of each treatment."""
    alike = correlations(wells)
    return {
        name: replicate_correlation(alike, np.flatnonzero(treatments == name))
        for name in np.unique(treatments)
        if (treatments == name).sum() > 1
    }


def test_identical_wells_agree_and_opposite_ones_do_not() -> None:
    profile = np.random.default_rng(0).normal(size=8)
    wells = np.array([profile, profile, 3 * profile + 1, profile, -profile, np.ones(8)])
    treatments = np.array(["a", "a", "a", "b", "b", "alone"])
    assert agreement(wells, treatments) == pytest.approx({"a": 1, "b": -1})
    assert np.isnan(list(agreement(wells[:, :1], treatments).values())).all()


def test_the_median_is_of_all_pairs() -> None:
    wells = np.random.default_rng(1).normal(size=(4, 6))
    pairs = np.corrcoef(wells)[np.triu_indices(4, 1)]
    assert agreement(wells, np.array(["t"] * 4))["t"] == pytest.approx(np.median(pairs))


@pytest.mark.parametrize("plate_effect", [0.0, 0.7])
def test_noise_agrees_no_more_than_unrelated_wells_of_its_plates(plate_effect: float) -> None:
    rng = np.random.default_rng(2)
    # 20 plates of 10 treatments, two wells of each on one plate.
    plates = np.repeat(np.arange(20), 20)
    treatments = np.repeat(np.arange(200), 2)
    # What all wells, or all of a plate, share is no agreement of replicates.
    wells = rng.normal(size=(400, 10)) + rng.normal(size=10)
    wells += plate_effect * rng.normal(size=(20, 10))[plates]
    alike = correlations(wells)
    found, above = [], []
    for treatment in range(200):
        own = np.flatnonzero(treatments == treatment)
        null = unrelated_correlations(alike, treatments, plates, own, seed=treatment)
        found.append(replicate_correlation(alike, own) - np.median(null))
        above.append(replicate_correlation(alike, own) > np.quantile(null, 0.95))
    assert np.median(found) == pytest.approx(0, abs=0.08)
    assert np.mean(above) == pytest.approx(0.05, abs=0.05)


def test_fewer_treatments_than_wells_of_one_leave_smaller_groups_to_compare_with() -> None:
    alike = correlations(np.random.default_rng(0).normal(size=(12, 4)))
    treatments, plates = np.array(list("aaaabbbbcccc")), np.full(12, "p")
    found = unrelated_correlations(alike, treatments, plates, np.arange(4), 0)
    # Only b and c are left, so that pairs of one of each are compared.
    pairs = alike[4:8, 8:].ravel()
    assert np.isin(found.round(9), pairs.round(9)).all()
    assert len(np.unique(found.round(9))) == 16
    alone = unrelated_correlations(
        alike, treatments, np.repeat(["p", "q"], [4, 8]), np.arange(4), 0
    )
    assert alone.size == 0


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
