"""p-values of wells that are exchanged within plates: exact ones, null ones, and no ones."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vae_sci.config import PhenotypesSettings
from vae_sci.contracts import DOSES, EMBEDDINGS, SIMILARITY, TREATMENTS
from vae_sci.phenotypes.make import make_phenotypes
from vae_sci.phenotypes.permutation import (
    arrangements,
    differences,
    distance_p_value,
    mahalanobis_metric,
    p_values,
    q_values,
    too_few,
    trend_p_value,
)
from vae_sci.phenotypes.treatments import stepped_down, with_doses


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
    doses = np.array([1, 1, 2, 2, 3, 3])
    assert arrangements(doses, np.repeat("P", 6)) == 90


def test_what_cannot_reach_significance_is_not_tested():
    plates = np.repeat("P", 20)
    assert too_few(np.arange(20) < 1, plates) is None  # 20 ways: p can be 0.05
    assert "19 ways" in str(too_few(np.arange(19) < 1, plates[:19]))
    # Three against three: 20 ways, but all change places and lie as far.
    balanced = np.arange(6) < 3
    assert "0.1" in str(too_few(balanced, plates[:6]))
    assert too_few(balanced, plates[:6], two_sided=False) is None
    assert too_few(np.arange(8) < 4, plates[:8]) is None  # 2 of 70


def test_few_arrangements_are_all_measured_whatever_the_seed():
    rng = np.random.default_rng(0)
    profiles = rng.normal(size=(20, 3)) + 50 * (np.arange(20) < 1)[:, None]
    plates = np.repeat("P", 20)
    for seed in range(3):
        assert distance_p_value(profiles, np.arange(20) < 1, plates, seed) == 1 / 20
    profiles, treated, plates = wells(8, 2, 2, rng)
    profiles[treated] += 50
    # 45² arrangements, under the 9,999 that would be drawn.
    assert distance_p_value(profiles, treated, plates, 0) == 1 / 45**2


def test_p_values_are_those_of_all_arrangements():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(7, 2)) + np.array([[0.7, 0.0]]) * (np.arange(7) < 2)[:, None]
    plates = np.repeat("P", 7)
    every = [
        values[list(chosen)].mean(0) - values[[i for i in range(7) if i not in chosen]].mean(0)
        for chosen in itertools.combinations(range(7), 2)
    ]
    exact = np.mean(np.array(every) >= every[0] - 1e-12, axis=0)
    found = p_values(
        (np.arange(7) < 2).astype(float), plates, lambda d: differences(d, plates) @ values, 0
    )
    np.testing.assert_allclose(found, exact)


def test_wells_are_compared_with_controls_of_their_own_plate():
    treated = np.array([[1.0, 0, 0, 1, 1, 0]])
    plates = np.array(["P", "P", "P", "Q", "Q", "Q"])
    values = np.array([5.0, 1, 3, 104, 106, 100])
    # P: 5 - 2 = 3; Q: 4 and 6; the mean over the three treated wells.
    assert differences(treated, plates) @ values == pytest.approx([(3 + 4 + 6) / 3])


def test_the_metric_is_blind_to_plates_and_to_the_scale_of_dimensions():
    rng = np.random.default_rng(0)
    mix = np.array([[2.0, 1.0], [0.0, 0.7]])
    profiles, _, plates = wells(1500, 500, 2, rng)
    profiles = profiles[:, :2] @ mix
    profiles[plates == "P1"] += 50
    metric = mahalanobis_metric(profiles, plates)
    for plate in ("P0", "P1"):
        np.testing.assert_allclose(metric[plates == plate].mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(metric.T), np.eye(2), atol=0.1)


def test_p_values_are_even_where_nothing_was_done_whatever_the_plates_are_like():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(150):
        profiles, treated, plates = wells(6, 2, 2, rng)
        profiles[:, 0] *= 5
        profiles[plates == "P1"] += 100  # a plate effect is no effect
        found.append(distance_p_value(profiles, treated, plates, seed=int(rng.integers(1e6))))
    assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_a_strong_effect_has_the_smallest_p_there_can_be():
    profiles, treated, plates = wells(8, 2, 3, np.random.default_rng(3))
    profiles[treated, 0] += 50
    assert distance_p_value(profiles, treated, plates, seed=0) <= 2e-4


def test_trends_are_one_sided_and_blind_to_plates():
    ranks, plates = np.tile([1.0, 1, 2, 2, 3, 3], 2), np.repeat(["P", "Q"], 6)
    noise = np.random.default_rng(0).normal(size=12)
    rising = ranks + 0.1 * noise + 50 * (plates == "Q")
    assert trend_p_value(rising, ranks, plates, 0) < 1e-3
    assert trend_p_value(-rising, ranks, plates, 0) > 0.999
    rng = np.random.default_rng(1)
    null = [trend_p_value(rng.normal(size=12), ranks, plates, k) for k in range(150)]
    assert stats.kstest(null, "uniform").pvalue > 1e-3


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


def test_doses_are_ordered_and_alike_treatments_find_each_other(screen: Any):
    layout = {f"B{i:02d}": ("DMSO", 0.0, True) for i in range(2, 10)}
    for row, dose in zip("CDE", (0.1, 1.0, 10.0), strict=True):
        layout |= {f"{row}02": ("drug", dose, False), f"{row}03": ("drug", dose, False)}
        layout |= {f"{row}04": ("inert", dose, False), f"{row}05": ("inert", dose, False)}
    layout |= {"F02": ("once", 1.0, False), "F03": ("once", 1.0, False)}
    screen.add("P1", layout).add("P2", layout)
    for plate in ("P1", "P2"):
        shift_by_dose(screen, plate, layout, {"drug": {0.1: 0.5, 1.0: 2.0, 10.0: 6.0}})
        shift_by_dose(screen, plate, layout, {"once": {1.0: 4.0}})
    make_phenotypes(screen.rows, screen.results, "vae", PhenotypesSettings(), 0)
    folder = screen.results / "phenotypes" / "vae"
    doses = DOSES.read(folder / "doses.csv").set_index("treatment")
    assert doses.loc["drug", ["n_doses", "n_wells"]].tolist() == [3, 12]
    assert doses.loc["drug", "trend"] > 0.85
    assert doses.loc["drug", "q_value"] < 0.01
    assert doses.loc["drug", "lowest_active"] in (0.1, 1.0)
    assert doses.loc["inert", "q_value"] > 0.05
    assert np.isnan(doses.loc["inert", "lowest_active"])
    assert doses.loc["once", "untested"] == "one concentration"
    assert np.isnan(doses.loc["once", "trend"])
    assert "DMSO" not in doses.index
    treatments = TREATMENTS.read(folder / "treatments.csv").set_index(
        ["treatment", "concentration"]
    )
    assert treatments.loc["drug", "suspicion"].isna().all()
    similar = SIMILARITY.read(folder / "similarity.csv")
    nearest = similar[(similar["treatment"] == "drug") & (similar["concentration"] == 10)].iloc[0]
    assert nearest["rank"] == 1
    assert (nearest["other_treatment"], nearest["other_concentration"]) in {
        ("drug", 1.0),
        ("once", 1.0),
    }
    assert nearest["cosine"] > 0.9
    assert (similar.groupby(["treatment", "concentration"])["cosine"].diff().dropna() <= 0).all()


def test_doses_count_from_the_highest_down(screen: Any):
    layout = {f"B{i:02d}": ("DMSO", 0.0, True) for i in range(2, 10)}
    for row, dose in zip("CD", (1.0, 10.0), strict=True):
        layout |= {f"{row}{i:02d}": ("odd", dose, False) for i in (2, 3)}
        layout |= {f"{row}{i:02d}": ("flat", dose, False) for i in (4, 5)}
    screen.add("P1", layout).add("P2", layout)
    for plate in ("P1", "P2"):
        shifts = {"odd": {1.0: 6.0}, "flat": {1.0: 6.0, 10.0: 6.0}}
        shift_by_dose(screen, plate, layout, shifts)
    make_phenotypes(screen.rows, screen.results, "vae", PhenotypesSettings(), 0)
    table = TREATMENTS.read(screen.results / "phenotypes" / "vae" / "treatments.csv")
    table = table.set_index(["treatment", "concentration"])
    told, q = table["suspicion"], table["q_value"]
    assert table.loc[("odd", 1.0), "p_value"] < 0.002
    assert q["odd", 1.0] == q["odd", 10.0] > 0.05
    assert (q[["flat"]] < 0.01).all()
    assert told["odd", 1.0] == "a higher dose is not active"
    assert told[[("odd", 10.0), ("flat", 1.0), ("flat", 10.0)]].isna().all()


def test_a_dose_counts_with_the_largest_p_of_itself_and_all_higher_ones():
    table = pd.DataFrame(
        {
            "treatment": ["a", "a", "a", "a", "b", "b", "c"],
            "concentration": [10.0, 0.1, 1.0, 5.0, 1.0, np.nan, 2.0],
            "p_value": [0.01, 0.02, 0.3, np.nan, 0.5, 0.001, 0.04],
        }
    )
    found = stepped_down(table).to_list()
    np.testing.assert_array_equal(found, [0.01, 0.3, 0.3, np.nan, 0.5, 0.001, 0.04])


def test_only_a_dose_that_a_higher_one_holds_back_is_told_of_it():
    # Weak would be just active by itself, and is not since odd was held back.
    table = pd.DataFrame(
        {
            "treatment": ["odd", "odd", "weak", "weak", "strong", "strong"],
            "concentration": [1.0, 10.0, 1.0, 10.0, 1.0, 10.0],
            "p_value": [0.01, 0.9, 0.041, 0.001, 0.001, 0.001],
            "suspicion": pd.NA,
        }
    )
    table["q_value"] = q_values(stepped_down(table))
    assert q_values(table["p_value"])[2] <= 0.05 < table["q_value"][2]
    told = with_doses(table)
    assert told[0] == "a higher dose is not active"
    assert told[1:].isna().all()


def shift_by_dose(
    screen: Any,
    plate: str,
    layout: dict[str, tuple[str, float, bool]],
    by: dict[str, dict[float, float]],
) -> None:
    """Move the cells of some treatments along z_000, by dose."""
    path = screen.embedding(plate)
    table = EMBEDDINGS.read(path)
    what = table["cell_id"].str.split("/").str[1].map(layout)
    table["z_000"] += [by.get(name, {}).get(dose, 0.0) for name, dose, _ in what]
    EMBEDDINGS.write(table, path)
