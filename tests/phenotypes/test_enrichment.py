"""Enrichment and treatments against counts worked out by hand."""

from __future__ import annotations

from math import log2

import numpy as np
import pandas as pd
import pytest

from vae_sci.config import PhenotypesSettings
from vae_sci.phenotypes.effects import on_edge, well_effects, well_table
from vae_sci.phenotypes.enrichment import treatment_enrichment
from vae_sci.phenotypes.treatments import treatment_table


def cells(wells: dict[str, tuple[str, dict[str, int]]], plate: str = "P") -> pd.DataFrame:
    """One row per cell from, by well, the treatment and its cells per cluster."""
    rows = [
        (well, name, 1.0, name == "DMSO", cluster)
        for well, (name, inside) in wells.items()
        for cluster, n in inside.items()
        for _ in range(n)
    ]
    columns = ["well", "treatment", "concentration", "control", "cluster"]
    return pd.DataFrame(rows, columns=columns).assign(plate=plate, z_000=0.0)


def test_shares_and_ratios_by_hand() -> None:
    table = treatment_enrichment(
        cells(
            {
                "B02": ("DMSO", {"0": 5}),
                "B03": ("DMSO", {"0": 3, "1": 2}),
                "C02": ("drug", {"0": 1, "1": 3}),
                "D02": ("none", {"0": 4, "1": 1}),
            }
        ),
        seed=0,
    ).set_index(["treatment", "cluster"])
    assert len(table) == 4
    assert not table["control"].any()
    assert table["n_cells"].tolist() == [1, 3, 4, 1]
    assert table["share_control"].tolist() == [0.8, 0.2, 0.8, 0.2]
    half = 0.5 / 4
    assert table.loc[("drug", "1"), "log2_enrichment"] == pytest.approx(
        log2((0.75 + half) / (0.2 + half))
    )
    assert table.loc[("drug", "1"), "odds_ratio"] == pytest.approx((3.5 / 1.5) / (2.5 / 8.5))
    # 3 ways to exchange one well with two controls cannot reach 0.05.
    assert table[["p_value", "q_value"]].isna().all(axis=None)


def test_wells_are_the_units_of_the_test() -> None:
    wells = {f"B{k:02d}": ("DMSO", {"0": 19, "1": 1}) for k in range(1, 9)}
    # The same cells in all: in one well of two, or as many in each.
    wells |= {"C01": ("one", {"1": 10, "0": 10}), "C02": ("one", {"0": 19, "1": 1})}
    wells |= {"D01": ("both", {"1": 5, "0": 14}), "D02": ("both", {"1": 6, "0": 15})}
    table = treatment_enrichment(pd.concat([cells(wells), cells(wells, "Q")]), seed=0)
    table = table.set_index(["treatment", "cluster"])
    assert table.loc[("one", "1"), "n_cells"] == table.loc[("both", "1"), "n_cells"]
    # Exchanged with 8 controls on each of 2 plates, 45 ways each, all measured:
    # all its wells raised, 1 in 45²; one well raised, which any of 10 wells may be, so that the
    # raised one is among the treated of a plate in 9 of 45 ways, on both in 81 of 2025.
    assert table.loc[("both", "1"), "p_value"] == pytest.approx(1 / 45**2)
    assert table.loc[("one", "1"), "p_value"] == pytest.approx(81 / 45**2)
    # Benjamini & Hochberg over the four rows: sorted p · 4 / rank.
    p = table.loc[("both", "1"), "p_value"]
    assert table.loc[("both", "1"), "q_value"] == pytest.approx(2 * p)


def test_only_controls_of_its_own_plates_are_compared() -> None:
    here = cells({"B01": ("DMSO", {"0": 10}), "C01": ("drug", {"0": 5, "1": 5})})
    there = cells({"B01": ("DMSO", {"1": 10}), "C01": ("other", {"1": 10})}, "Q")
    lonely = cells({"C01": ("lonely", {"1": 10})}, "R")
    table = treatment_enrichment(pd.concat([here, there, lonely]), seed=0)
    share = table.set_index(["treatment", "cluster"])["share_control"]
    assert share[("drug", "1")] == 0
    assert share[("other", "1")] == 1
    assert share[("lonely", "1")] == 0.5


def test_a_cluster_empty_of_both_is_not_enriched() -> None:
    wells = {f"B{k:02d}": ("DMSO", {"0": 50}) for k in range(1, 9)}
    wells |= {"C01": ("drug", {"0": 5}), "C02": ("drug", {"0": 5}), "D01": ("other", {"1": 5})}
    table = treatment_enrichment(cells(wells), seed=0).set_index(["treatment", "cluster"])
    assert table.loc[("drug", "1"), "log2_enrichment"] == 0
    assert table.loc[("drug", "1"), "p_value"] == 1
    assert table.loc[("other", "1"), "log2_enrichment"] == pytest.approx(log2(1.1 / 0.1))


def test_without_controls_shares_remain() -> None:
    table = treatment_enrichment(cells({"B01": ("a", {"0": 3, "1": 1})}), seed=0)
    assert table["share"].tolist() == [0.75, 0.25]
    empty = ["share_control", "odds_ratio", "log2_enrichment", "p_value", "q_value"]
    assert table[empty].isna().to_numpy().all()


NONE_EMPTY = pd.DataFrame(columns=["plate", "well", "treatment", "concentration", "control"])


def treatments(table: pd.DataFrame, empty: pd.DataFrame = NONE_EMPTY) -> pd.DataFrame:
    return treatment_table(
        table,
        well_effects(table),
        empty,
        np.random.default_rng(1).normal(size=(len(table), 1)),
        treatment_enrichment(table, seed=0),
        PhenotypesSettings(),
        seed=0,
    )


def test_treatments_distance_top_cluster_and_probe() -> None:
    rng = np.random.default_rng(0)
    parts = []
    for name, concentration, wells, shift in (
        ("DMSO", 0.0, 4, 0.0),
        ("drug", 1.0, 3, 3.0),
        ("drug", 0.1, 3, 0.0),
        ("rare", np.nan, 1, 3.0),
    ):
        n = 20 * wells
        z = rng.normal(size=(n, 2))
        z -= z.mean(axis=0) - [shift, 0]
        parts.append(
            pd.DataFrame(
                {
                    "treatment": name,
                    "concentration": concentration,
                    "control": name == "DMSO",
                    "plate": "P",
                    "well": [f"{name}{concentration}-{i // 20}" for i in range(n)],
                    "cluster": np.where(z[:, 0] > 1.5, "1", "0"),
                    "z_000": z[:, 0],
                    "z_001": z[:, 1],
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    found = treatments(table).set_index(["treatment", "concentration"])
    assert len(found) == 4
    strong, weak, control = (found.loc[key] for key in (("drug", 1.0), ("drug", 0.1), ("DMSO", 0)))
    rare = found.loc["rare"].iloc[0]
    assert (strong["n_cells"], strong["n_wells"], strong["n_plates"]) == (60, 3, 1)
    assert strong["distance"] == pytest.approx(3)
    assert weak["distance"] == pytest.approx(0, abs=1e-9)
    # Phi(3 / sqrt 2) = 0.983
    assert strong["auroc"] == pytest.approx(0.983, abs=0.02)
    assert weak["auroc"] == pytest.approx(0.5, abs=0.15)
    assert np.isnan(control["auroc"])
    assert np.isnan(rare["auroc"])
    assert strong["top_cluster"] == "1"
    assert rare["top_cluster"] == "1"
    assert control["top_cluster"] == "0"


def test_the_baseline_sees_grey_levels_alone() -> None:
    rng = np.random.default_rng(0)
    wells = [f"B{k:02d}" for k in range(8)]
    table = pd.DataFrame({"well": np.repeat(wells, 20), "plate": "P", "cluster": "0"})
    moved = np.repeat([False, True], 80)
    table = table.assign(treatment=np.where(moved, "drug", "DMSO"), concentration=1.0)
    table["control"], table["z_000"] = ~moved, rng.normal(size=160)
    grey = rng.normal(size=(160, 2)) + 4 * moved[:, None]
    found = []
    for intensities in (grey, grey[:, :0]):
        made = treatment_table(
            table,
            well_effects(table),
            NONE_EMPTY,
            intensities,
            treatment_enrichment(table, seed=0),
            PhenotypesSettings(),
            seed=0,
        )
        found.append(made.set_index("treatment").loc["drug"])
    assert found[0]["auroc"] == pytest.approx(0.5, abs=0.15)
    assert found[0]["auroc_intensity"] > 0.99
    assert np.isnan(found[1]["auroc_intensity"])


def test_probe_does_not_win_by_telling_plates_apart() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "plate": np.repeat(["P", "Q"], [80, 120]),
            "well": np.repeat([f"w{i}" for i in range(10)], 20),
            "treatment": np.repeat(["DMSO", "drug"], [160, 40]),
            "concentration": 1.0,
            "cluster": "0",
            "z_000": rng.normal(size=200) + np.repeat([0, 6], [80, 120]),
        }
    )
    table["control"] = table["treatment"] == "DMSO"
    found = treatments(table)
    assert found.set_index("treatment").loc["drug", "auroc"] == pytest.approx(0.5, abs=0.15)


def test_effects_are_wells_minus_the_controls_of_their_plate() -> None:
    table = pd.DataFrame(
        {
            "plate": ["P"] * 6 + ["Q"] * 2,
            "well": ["B02", "B02", "B03", "C02", "C02", "C02", "C02", "C02"],
            "treatment": ["DMSO"] * 3 + ["drug"] * 5,
            "concentration": 1.0,
            "control": [True] * 3 + [False] * 5,
            "z_000": [1.0, 3.0, 4.0, 9.0, 10.0, 11.0, 5.0, 7.0],
        }
    )
    wells = well_effects(table).set_index(["plate", "well"])
    # Control wells at 2 and 4 count once each, however many cells they have.
    assert wells["z_000"].tolist() == [-1.0, 1.0, 7.0, 6.0]
    assert wells["n_cells"].tolist() == [2, 1, 3, 2]
    expected = [2**0.5, np.nan, 1.0, 2**0.5]  # of one cell there is none
    np.testing.assert_allclose(wells["spread"], expected)
    # Each control well lies 2 from the other; on plate Q there is no control.
    distance = well_table(wells.reset_index())["distance"]
    np.testing.assert_array_equal(distance, [2.0, 2.0, 7.0, np.nan])


def test_edge_wells_are_those_of_the_smallest_plate_that_has_the_wells() -> None:
    ninety_six = np.array(["A05", "H06", "B01", "D12", "B02", "G11", "a03"])
    assert on_edge(ninety_six).tolist() == [True] * 4 + [False] * 2 + [True]
    assert on_edge(np.array(["H06", "P24", "C03"])).tolist() == [False, True, False]
    assert on_edge(np.array(["AF48", "AE02", "A10"])).tolist() == [True, False, True]
    # A few wells in a corner are no small plate.
    assert not on_edge(np.array(["B02", "B03", "C02", "D06"])).any()
    assert not on_edge(np.array(["left", "right"])).any()


def test_wells_without_a_cell_count_as_zero() -> None:
    layout = [("DMSO", f"B{k:02d}", 40) for k in range(2, 8)] + [("toxic", "C02", 38)]
    table = pd.DataFrame(
        [(name, well) for name, well, n in layout for _ in range(n)], columns=["treatment", "well"]
    ).assign(plate="P", concentration=1.0, cluster="0")
    table["control"] = table["treatment"] == "DMSO"
    table["z_000"] = np.random.default_rng(0).normal(size=len(table))
    dead = pd.DataFrame(
        {"plate": "P", "well": ["C03", "C04"], "treatment": "toxic", "concentration": 1.0}
    ).assign(control=False)
    found = treatments(table, dead).set_index("treatment").loc["toxic"]
    assert (found["n_wells"], found["n_empty_wells"], found["cell_count"]) == (1, 2, 0)
    assert "few cells: 0.00" in found["suspicion"]
    assert "wells without a cell: 2" in found["suspicion"]
    assert treatments(table).set_index("treatment").loc["toxic", "cell_count"] == 0.95


def test_suspicions_name_what_was_seen() -> None:
    rng = np.random.default_rng(0)
    parts = []
    for plate, sign in (("P", 1), ("Q", -1)):
        for k in range(8):
            parts.append((plate, f"C{k + 2:02d}", "DMSO", 40, 0.0))
        for k in range(2):
            parts.append((plate, f"A{k + 3:02d}", "edgy", 40, 3.0))
            parts.append((plate, f"D{k + 3:02d}", "toxic", 10, 3.0))
            parts.append((plate, f"E{k + 3:02d}", "fickle", 40, sign * 3.0))
            parts.append((plate, f"F{k + 3:02d}", "clean", 40, 3.0))
    parts.append(("P", "G05", "single", 40, 3.0))
    table = pd.DataFrame(
        [row[:3] for row in parts for _ in range(row[3])], columns=["plate", "well", "treatment"]
    )
    shift = np.concatenate([np.full(row[3], row[4]) for row in parts])
    table = table.assign(concentration=1.0, cluster="0", control=table["treatment"] == "DMSO")
    table["z_000"] = rng.normal(size=len(table)) + shift
    table["z_001"] = rng.normal(size=len(table))
    found = treatments(table).set_index("treatment")
    told = found["suspicion"]
    assert told["edgy"] == "most wells on the edge of the plate, few of the controls"
    assert told["toxic"] == "few cells: 0.25 of the controls'"
    assert told["single"] == "one well"
    assert told[["clean", "DMSO"]].isna().all()
    assert found.loc["clean", "agreement"] > 0.9
    assert found.loc["fickle", "agreement"] < -0.9
    assert found.loc["toxic", "cell_count"] == pytest.approx(0.25)


def test_heterogeneity_tells_a_mixture_from_a_shift() -> None:
    rng = np.random.default_rng(0)
    wells = [("DMSO", 0.0, f"B{k:02d}") for k in range(2, 8)]
    wells += [("mixed", None, "C02"), ("mixed", None, "C03")]
    wells += [("moved", 4.0, "D02"), ("moved", 4.0, "D03")]
    parts = []
    for name, shift, well in wells:
        z = rng.normal(size=200)
        z += 4 * (rng.random(200) < 0.5) if shift is None else shift
        parts.append(pd.DataFrame({"treatment": name, "well": well, "z_000": z}))
    table = pd.concat(parts, ignore_index=True)
    table = table.assign(plate="P", concentration=1.0, cluster="0")
    table["control"] = table["treatment"] == "DMSO"
    found = treatments(table).set_index("treatment")["heterogeneity"]
    # Two halves 4 sd apart: variance 1 + 4.
    assert found["mixed"] == pytest.approx(5**0.5, rel=0.1)
    assert found["moved"] == pytest.approx(1, abs=0.15)
