"""Normalisation is judged by what it does to the reference population, and by who that is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vae_sci.config import PhenotypesSettings
from vae_sci.errors import InputError, SettingsError
from vae_sci.phenotypes.normalize import (
    harmonize,
    normalization_table,
    normalize,
    normalize_new,
    standardize,
    whiten,
)

SETTINGS = PhenotypesSettings()


def correlated(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    """n draws from one fixed correlated distribution of d dimensions, condition number about 50."""
    mix = np.random.default_rng(99).normal(size=(d, d)) + 2 * np.eye(d)
    return np.random.default_rng(seed).normal(size=(n, d)) @ mix + 3


def test_standardize_gives_controls_mean_0_and_sd_1_and_moves_others_alike() -> None:
    controls = correlated(50)
    z = standardize(np.vstack([controls, controls + 7]), controls)
    np.testing.assert_allclose(z[:50].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z[:50].std(axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose((z[50:] - z[:50]) * controls.std(axis=0), 7)


def test_an_unused_dimension_is_not_blown_up() -> None:
    z = np.random.default_rng(0).normal(size=(200, 2)) * [1.0, 1e-4]
    for method in (standardize, whiten):
        spread = method(z, z).std(axis=0)
        assert spread[0] == pytest.approx(1, abs=0.05), method.__name__
        assert spread[1] == pytest.approx(1e-3, rel=0.2), method.__name__


def test_whitening_whitens_the_controls_and_controls_never_seen() -> None:
    controls, unseen = correlated(5_000), correlated(5_000, seed=1)
    before = np.cov(unseen.T, bias=True)
    assert np.abs(before - np.eye(8)).max() > 3
    white = whiten(controls, controls)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(8), atol=1e-9)
    np.testing.assert_allclose(np.cov(whiten(unseen, controls).T, bias=True), np.eye(8), atol=0.1)


def test_whitening_with_fewer_controls_than_dimensions_stays_finite_and_small() -> None:
    controls, unseen = correlated(15, d=32), correlated(500, d=32, seed=1)
    z = whiten(unseen, controls)
    assert np.isfinite(z).all()
    # Unshrunk, the directions without any spread among 15 controls would be divided by the floor.
    assert z.std(axis=0).max() < 5


def test_whitening_keeps_dimensions_in_place() -> None:
    z = np.random.default_rng(0).normal(size=(5000, 4)) * [1, 2, 3, 4]
    white = whiten(z, z)
    for i in range(4):
        assert np.corrcoef(z[:, i], white[:, i])[0, 1] > 0.99


def plates(
    control_cells: dict[str, int], batches: dict[str, str]
) -> tuple[np.ndarray, pd.DataFrame]:
    """Plates with so many control cells (in 4 wells) and 30 treated ones; plate i lies at 10 i."""
    parts, z = [], []
    for i, (plate, n) in enumerate(control_cells.items()):
        control = np.arange(n + 30) < n
        wells = np.where(control, [f"B{k % 4 + 1:02d}" for k in range(n + 30)], "C01")
        parts.append(
            pd.DataFrame(
                {"plate": plate, "batch": batches[plate], "well": wells, "control": control}
            )
        )
        z.append(np.random.default_rng(i).normal(size=(n + 30, 3)) + 10 * i)
    return np.vstack(z), pd.concat(parts, ignore_index=True)


def test_falls_back_from_plate_to_batch_to_screen_and_says_so() -> None:
    z, cells = plates(
        {"full": 40, "poor": 3, "lone": 5}, {"full": "one", "poor": "one", "lone": "two"}
    )
    result, levels, warnings = normalize(z, cells, SETTINGS)
    plate, control = cells["plate"].to_numpy(), cells["control"].to_numpy()
    assert {p: set(levels[plate == p]) for p in ("full", "poor", "lone")} == {
        "full": {"plate"},
        "poor": {"batch"},
        "lone": {"screen"},
    }
    batch = control & (plate != "lone")
    expected = {
        "full": standardize(z[plate == "full"], z[control & (plate == "full")]),
        "poor": standardize(z[plate == "poor"], z[batch]),
        "lone": standardize(z[plate == "lone"], z[control]),
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(result[plate == name], values)
    assert len(warnings) == 2
    assert "poor (3 cells in 3 wells)" in warnings[0]
    assert "batch" in warnings[0]
    assert "lone (5 cells in 4 wells)" in warnings[1]
    assert "screen" in warnings[1]


def test_too_few_controls_in_the_whole_screen_means_all_cells() -> None:
    z, cells = plates({"a": 0, "b": 4}, {"a": "one", "b": "one"})
    result, levels, warnings = normalize(z, cells, SETTINGS)
    assert set(levels) == {"all"}
    np.testing.assert_array_equal(result, standardize(z, z))
    assert len(warnings) == 1
    assert "a (0 cells in 0 wells), b (4 cells in 4 wells)" in warnings[0]


def test_many_control_cells_in_one_well_are_not_enough() -> None:
    z, cells = plates({"a": 40, "b": 40}, {"a": "one", "b": "one"})
    cells.loc[(cells["plate"] == "a") & cells["control"], "well"] = "B01"
    _, levels, _ = normalize(z, cells, SETTINGS)
    assert set(levels[cells["plate"] == "a"]) == {"batch"}
    assert set(levels[cells["plate"] == "b"]) == {"plate"}


def test_none_leaves_z_alone() -> None:
    z, cells = plates({"a": 3}, {"a": "one"})
    result, levels, warnings = normalize(z, cells, PhenotypesSettings(normalization="none"))
    np.testing.assert_array_equal(result, z)
    assert set(levels) == {"none"}
    assert warnings == []


def test_another_reference_can_be_named() -> None:
    z, cells = plates({"a": 40, "b": 40}, {"a": "one", "b": "one"})
    cells["treatment"] = np.where(cells["control"], "DMSO", "taxol")
    cells.loc[~cells["control"], "well"] = np.resize(["C01", "C02"], (~cells["control"]).sum())
    result, levels, _ = normalize(z, cells, PhenotypesSettings(reference="taxol"))
    assert set(levels) == {"plate"}
    for plate in ("a", "b"):
        here = ((cells["plate"] == plate) & ~cells["control"]).to_numpy()
        np.testing.assert_allclose(result[here].mean(axis=0), 0, atol=1e-12)
    with pytest.raises(SettingsError, match="DMSO, taxol"):
        normalize(z, cells, PhenotypesSettings(reference="taxl"))


def batch_effect() -> tuple[np.ndarray, pd.DataFrame]:
    """Two plates of controls and a treatment; plate b is shifted and its second axis stretched."""
    rng = np.random.default_rng(0)
    wells = [("DMSO", f"B{k:02d}") for k in range(1, 7)] + [("drug", f"C{k:02d}") for k in range(3)]
    parts, z = [], []
    for plate in "ab":
        for name, well in wells:
            points = rng.normal(size=(40, 4)) + 6 * np.eye(4)[0] * (name == "drug")
            z.append(points * [1, 3, 1, 1] + 4 if plate == "b" else points)
            parts.append(pd.DataFrame({"treatment": name, "well": well, "plate": [plate] * 40}))
    cells = pd.concat(parts, ignore_index=True).assign(batch="one")
    return np.vstack(z), cells.assign(control=cells["treatment"] == "DMSO")


def test_the_table_shows_plates_mixing_and_treatments_staying() -> None:
    raw, cells = batch_effect()
    z, _, _ = normalize(raw, cells, SETTINGS)
    table = normalization_table({"raw": raw, "standardize": z}, cells, seed=0)
    found = table.set_index(["target", "step"])["accuracy"]
    assert found["plate of controls", "raw"] > 0.9
    assert found["plate of controls", "standardize"] < 0.6
    assert found["treatment", "standardize"] > 0.95
    assert set(table["n_labels"]) == {2}
    assert set(table.loc[table["target"] == "plate of controls", "n_cells"]) == {480}


def test_harmony_mixes_plates_and_is_reproducible() -> None:
    raw, cells = batch_effect()
    labels = cells["plate"].to_numpy(dtype=str)
    moved = harmonize(raw, labels, seed=0)
    assert moved.shape == raw.shape
    table = normalization_table({"raw": raw, "harmony": moved}, cells, seed=0)
    found = table.set_index(["target", "step"])["accuracy"]
    assert found["plate of controls", "harmony"] < found["plate of controls", "raw"] - 0.2
    assert found["treatment", "harmony"] > 0.85
    np.testing.assert_array_equal(moved, harmonize(raw, labels, seed=0))


def test_a_wrong_whitening_would_be_seen() -> None:
    """The check of whitening, on data off centre, against formulas that look right."""
    z = correlated(5_000)

    def off(white: np.ndarray) -> float:
        return float(np.abs(np.cov(white.T, bias=True) - np.eye(8)).max())

    values, vectors = np.linalg.eigh(np.cov(z.T, bias=True))
    uncentred, axes = np.linalg.eigh(z.T @ z / len(z))
    assert off(whiten(z, z)) < 1e-8
    assert off((z - z.mean(0)) @ vectors / values @ vectors.T) > 0.1  # variance for sd
    assert off(z @ (axes / np.sqrt(uncentred)) @ axes.T) > 0.1  # mean left in
    assert off((z - z.mean(0)) @ vectors.T / np.sqrt(values) @ vectors) > 0.1  # axes transposed


@pytest.mark.parametrize("method", ["standardize", "whiten", "none"])
def test_a_new_cell_is_measured_as_its_plate_s_cells_are(method: str) -> None:
    settings = PhenotypesSettings(normalization=method, min_control_cells=20, min_control_wells=2)
    z = np.vstack([correlated(60), 3 * correlated(60, seed=1) + 5])
    cells = pd.DataFrame(
        {
            "plate": ["a"] * 60 + ["b"] * 60,
            "batch": "screen",
            "well": [f"B{2 + i % 4:02d}" for i in range(120)],
            "treatment": ["DMSO", "DMSO", "drug", "other"] * 30,
            "control": [i % 4 < 2 for i in range(120)],
        }
    )
    expected, levels, _ = normalize(z, cells, settings)
    assert set(levels) == {"none" if method == "none" else "plate"}
    for plate, rows in (("a", [0, 3]), ("b", [61, 119])):
        found = normalize_new(z[rows], plate, z, cells, settings)
        np.testing.assert_allclose(found, expected[rows])


def test_cells_from_outside_are_refused_where_harmony_moved_the_plates() -> None:
    z, cells = plates({"a": 40}, {"a": "one"})
    with pytest.raises(InputError, match="Harmony"):
        normalize_new(z[:1], "a", z, cells, PhenotypesSettings(harmony=True))
