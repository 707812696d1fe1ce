"""Diagnostics and comparison of a real small model, and what happens when it fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from vae_sci.config import DiagnosticsSettings
from vae_sci.contracts import COMPARISON, DIAGNOSTICS, RINGS, TILES
from vae_sci.diagnostics.compare import compare
from vae_sci.diagnostics.held_out import open_held_out
from vae_sci.diagnostics.make import diagnose
from vae_sci.errors import ContractError, DiagnosticsError

pytestmark = pytest.mark.slow
PLATES = ["tiny1", "tiny2"]


@pytest.fixture
def results(tiny_results: Path, tmp_path: Path) -> Path:
    for name in ("tiles", "models"):
        shutil.copytree(tiny_results / name, tmp_path / name)
    return tmp_path


def test_held_out_cells_are_of_the_test_wells_and_the_same_for_every_model(results: Path):
    shutil.copytree(results / "models" / "vae", results / "models" / "other")
    held = open_held_out(results, PLATES, "vae", 20, seed=0, device="cpu")
    again = open_held_out(results, PLATES, "other", 20, seed=0, device="cpu")
    tables = [TILES.read(results / "tiles" / f"{plate}.parquet") for plate in PLATES]
    assert held.part == "test"
    assert len(held) == min(20, sum((t["split"] == "test").sum() for t in tables))
    assert (held.levels == again.levels).all()


def test_every_figure_of_a_model_comes_with_unit_meaning_and_verdict(results: Path):
    table = diagnose(results, PLATES, "vae", DiagnosticsSettings(cells=40), 0, "cpu")
    back = DIAGNOSTICS.read(results / "diagnostics" / "vae" / "diagnostics.csv")
    assert back["diagnostic"].tolist() == table["diagnostic"].tolist()
    assert np.isfinite(back["value"]).all()
    assert set(back["verdict"]) <= {"passed", "failed", "measured"}
    by_name = back.set_index("diagnostic")
    value = by_name["value"]
    levels = [name for name in value.index if name.startswith("rate_u_")]
    assert value[levels].sum() == pytest.approx(value["rate_u"])
    nats = value[["distortion", "rate_z", "rate_u"]].sum()
    assert value["bits"] == pytest.approx(nats / (3 * 64 * 64 * np.log(2)))
    failed = by_name[by_name["verdict"] == "failed"]
    assert failed["remedy"].notna().all()
    assert len(RINGS.read(results / "diagnostics" / "vae" / "rings.csv")) == 3 * 32


def test_a_failed_threshold_stops_the_run_where_asked_and_the_tables_are_there(results: Path):
    strict = DiagnosticsSettings(cells=40, min_rate_z=1e6, on_failure="error")
    with pytest.raises(DiagnosticsError, match=r"rate_z of at least 1e\+06"):
        diagnose(results, PLATES, "vae", strict, 0, "cpu")
    table = DIAGNOSTICS.read(results / "diagnostics" / "vae" / "diagnostics.csv")
    assert table.set_index("diagnostic").loc["rate_z", "verdict"] == "failed"


def test_models_are_listed_by_their_bits_and_one_not_measured_is_named(results: Path):
    for name in ("vae", "other"):
        if name == "other":
            shutil.copytree(results / "models" / "vae", results / "models" / "other")
        diagnose(results, PLATES, name, DiagnosticsSettings(cells=40), 0, "cpu")
    table = compare(results, ["other", "vae"])
    assert sorted(table["model"]) == ["other", "vae"]
    assert table["bits"].is_monotonic_increasing
    assert len(COMPARISON.read(results / COMPARISON.path)) == 2
    with pytest.raises(ContractError, match="diagnose --model third"):
        compare(results, ["vae", "third"])
