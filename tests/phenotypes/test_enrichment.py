"""Enrichment and treatments against counts worked out by hand."""

from __future__ import annotations

from math import comb, log2

import numpy as np
import pandas as pd
import pytest

from vae_sci.config import PhenotypesSettings
from vae_sci.phenotypes.enrichment import treatment_enrichment
from vae_sci.phenotypes.treatments import treatment_table


def cells(counts: dict[str, dict[str, int]], control: str = "DMSO") -> pd.DataFrame:
    """One row per cell from cells per treatment and cluster."""
    rows = [
        (name, 1.0, name == control, cluster)
        for name, inside in counts.items()
        for cluster, n in inside.items()
        for _ in range(n)
    ]
    table = pd.DataFrame(rows, columns=["treatment", "concentration", "control", "cluster"])
    return table.assign(plate="P", well=table["treatment"], z_000=0.0)


def hypergeometric(a: int, b: int, c: int, d: int) -> float:
    """Two-sided Fisher p of [[a, b], [c, d]] from its definition."""

    def mass(k: int) -> float:
        return comb(a + b, k) * comb(c + d, a + c - k) / comb(a + b + c + d, a + c)

    support = range(max(0, a - d), min(a + b, a + c) + 1)
    return sum(mass(k) for k in support if mass(k) <= mass(a) * (1 + 1e-9))


def test_shares_p_and_q_by_hand() -> None:
    table = treatment_enrichment(
        cells({"DMSO": {"0": 8, "1": 2}, "drug": {"0": 1, "1": 3}, "none": {"0": 4, "1": 1}})
    ).set_index(["treatment", "cluster"])
    assert len(table) == 4
    assert not table["control"].any()
    assert table["n_cells"].tolist() == [1, 3, 4, 1]
    assert table["share_control"].tolist() == [0.8, 0.2, 0.8, 0.2]
    p = [hypergeometric(1, 3, 8, 2), hypergeometric(4, 1, 8, 2)]
    assert table["p_value"].tolist() == pytest.approx([p[0], p[0], p[1], p[1]])
    # Benjamini & Hochberg: sorted p · 4 / rank, made monotone from the largest down.
    assert table["q_value"].tolist() == pytest.approx([2 * p[0], 2 * p[0], p[1], p[1]])
    half = 0.5 / 4
    assert table.loc[("drug", "1"), "log2_enrichment"] == pytest.approx(
        log2((0.75 + half) / (0.2 + half))
    )


def test_a_cluster_empty_of_both_is_not_enriched() -> None:
    table = treatment_enrichment(
        cells({"DMSO": {"0": 50}, "drug": {"0": 5}, "other": {"1": 5}})
    ).set_index(["treatment", "cluster"])
    assert table.loc[("drug", "1"), "log2_enrichment"] == 0
    assert table.loc[("drug", "1"), "p_value"] == 1
    assert table.loc[("other", "1"), "log2_enrichment"] == pytest.approx(log2(1.1 / 0.1))


def test_without_controls_shares_remain() -> None:
    table = treatment_enrichment(cells({"a": {"0": 3, "1": 1}}))
    assert table["share"].tolist() == [0.75, 0.25]
    empty = ["share_control", "log2_enrichment", "p_value", "q_value"]
    assert table[empty].isna().to_numpy().all()


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
    found = treatment_table(table, treatment_enrichment(table), PhenotypesSettings(), seed=0)
    found = found.set_index(["treatment", "concentration"])
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
    found = treatment_table(table, treatment_enrichment(table), PhenotypesSettings(), seed=0)
    assert found.set_index("treatment").loc["drug", "auroc"] == pytest.approx(0.5, abs=0.15)
