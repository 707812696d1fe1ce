"""p-values of wells that are exchanged within plates: exact ones, null ones, and no ones."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from vae_sci.config import PhenotypesSettings
from vae_sci.contracts import TREATMENTS
from vae_sci.phenotypes.make import make_phenotypes
from vae_sci.phenotypes.permutation import arrangements, permutation_p_value


def wells(n_controls: int, n_treated: int, plates: int, rng: np.random.Generator) -> tuple:
    n = n_controls + n_treated
    treated = np.tile(np.arange(n) < n_treated, plates)
    plate = np.repeat([f"P{i}" for i in range(plates)], n)
    return rng.normal(size=(len(plate), 3)), treated, plate


def test_all_ways_to_deal_the_labels_are_counted():
    _, treated, plates = wells(8, 2, 2, np.random.default_rng(0))
    assert arrangements(treated, plates) == 45**2
    plates[:10] = "other"
    treated[:10] = False  # a plate without treated wells adds nothing
    assert arrangements(treated, plates) == 45


def test_the_p_value_is_that_of_all_arrangements():
    profiles, treated, plates = wells(5, 2, 1, np.random.default_rng(1))
    profiles[treated] += 0.7

    def distance(chosen: tuple[int, ...]) -> float:
        mask = np.isin(np.arange(7), chosen)
        return float(np.linalg.norm(profiles[mask].mean(0) - profiles[~mask].mean(0)))

    every = [distance(chosen) for chosen in itertools.combinations(range(7), 2)]
    exact = np.mean(np.array(every) >= distance((0, 1)) - 1e-12)
    found = permutation_p_value(profiles, treated, plates, seed=0)
    assert found == pytest.approx(exact, abs=0.02)


def test_p_values_are_even_where_nothing_was_done_whatever_the_plates_are_like():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(150):
        profiles, treated, plates = wells(6, 2, 2, rng)
        profiles[plates == "P1"] += 100  # a plate effect is no effect
        found.append(permutation_p_value(profiles, treated, plates, seed=int(rng.integers(1e6))))
    assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_a_strong_effect_has_the_smallest_p_there_can_be():
    profiles, treated, plates = wells(8, 2, 3, np.random.default_rng(3))
    profiles[treated, 0] += 50
    assert permutation_p_value(profiles, treated, plates, seed=0) <= 2e-4


def test_the_table_tells_active_treatments_and_why_others_were_not_tested(screen: Any):
    control, active, inert = ("DMSO", 0.0, True), ("moved", 1.0, False), ("same", 1.0, False)
    layout = {f"B{i:02d}": control for i in range(2, 10)}
    layout |= {"C02": active, "C03": active, "D02": inert, "D03": inert}
    screen.add("P1", layout).add("P2", layout)
    rare = ("rare", 1.0, False)
    screen.add("P3", {"B02": control, "B03": control, "C02": rare})
    screen.add("P4", {"C02": ("alone", 1.0, False)})
    make_phenotypes(screen.rows, screen.results, "vae", PhenotypesSettings(), 0)
    table = TREATMENTS.read(screen.results / "phenotypes" / "vae" / "treatments.csv")
    table = table.set_index("treatment")
    assert table.loc["moved", "p_value"] < 0.002
    assert table.loc["moved", "q_value"] == pytest.approx(2 * table.loc["moved", "p_value"])
    assert table.loc["same", "q_value"] > 0.05
    assert table.loc["rare", "untested"].startswith("3 ways")
    assert table.loc["alone", "untested"] == "no control well on its plates"
    assert table.loc[["rare", "alone", "DMSO"], ["p_value", "q_value"]].isna().all(axis=None)
    assert table.loc[["moved", "same", "DMSO"], "untested"].isna().all()
