"""The tables of scores of made-up screens, and the benchmark that writes them for any labels."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vae_sci.config import PhenotypesSettings
from vae_sci.contracts import REPLICATES, SCORES, TILES
from vae_sci.errors import InputError
from vae_sci.phenotypes.make import make_phenotypes
from vae_sci.phenotypes.score_tables import (
    Score,
    make_scores,
    run_features,
    score_tables,
)
from vae_sci.tiles.store import write_store

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scores.py"
MOA = {"a1": "A", "a2": "A", "b1": "B", "b2": "B"}
D = 6


def load_benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_scores", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def screen_of(
    treatments: dict[str, str],
    plates: int = 6,
    wells: int = 2,
    controls: int = 6,
    batch: str = "one each",
    seed: int = 0,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Cells of a screen, ten a well, and z: each label lies 4 sd along an axis of its own."""
    rng = np.random.default_rng(seed)
    axis = {label: i for i, label in enumerate(sorted(set(treatments.values())))}
    rows, z = [], []
    for p in range(plates):
        layout = [*(["DMSO"] * controls), *(list(treatments) * wells)]
        for w, treatment in enumerate(layout):
            label = treatments.get(treatment)
            for _ in range(10):
                rows.append((f"P{p}", f"W{w:02d}", f"B{p % 2}", treatment, label))
                z.append(rng.normal(size=D) + (4 * np.eye(D)[axis[label]] if label else 0))
    cells = pd.DataFrame(rows, columns=["plate", "well", "batch", "treatment", "moa"])
    if batch != "one each":
        cells["batch"] = batch
    cells["control"] = cells["treatment"] == "DMSO"
    return cells.assign(concentration=1.0).astype({"treatment": "string"}), np.array(z)


def scored(cells: pd.DataFrame, z: np.ndarray, labels: tuple[str, ...] = ("moa",)) -> pd.DataFrame:
    """Table `SCORES` of z, by score."""
    scores, _ = score_tables({"z": z}, cells, labels, 0)
    return scores.set_index("score")


def test_labels_that_z_knows_are_told_and_noise_is_at_chance() -> None:
    cells, z = screen_of(MOA)
    noise = np.random.default_rng(1).normal(size=z.shape)
    scores, _ = score_tables({"z": z, "noise": noise}, cells, ("moa",), 0)
    told = scores[scores["features"] == "z"].set_index("score")
    for name in ("knn", "linear", "nsc", "map", "nscb", "replicate_map", "active_share"):
        assert told.loc[name, "value"] > 0.95, name
    assert told.loc["replicate_correlation", "value"] > 0.9
    # Four compounds can be paired in three ways, so that p cannot be small.
    assert told.loc["nsc", "p_value"] > 0.2
    assert told.loc[["knn", "linear"], "chance"].tolist() == [0.5, 0.5]
    assert told.loc["knn", ["n_groups", "groups"]].tolist() == [6, "plates"]
    missed = scores[scores["features"] == "noise"].set_index("score")
    assert missed.loc["knn", "low"] < 0.5 < missed.loc["knn", "high"]
    assert missed.loc["replicate_correlation", "value"] == pytest.approx(
        missed.loc["replicate_correlation", "chance"], abs=0.15
    )
    assert missed.loc["replicate_map", "value"] == pytest.approx(
        missed.loc["replicate_map", "chance"], abs=0.06
    )


def test_p_of_labels_is_small_where_there_are_the_compounds_for_it() -> None:
    cells, z = screen_of({f"{label}{i}": label for label in "ABC" for i in range(4)}, plates=2)
    told = scored(cells, z)
    assert (told.loc[["nsc", "map"], "p_value"] == 0.001).all()
    # Of 11 other compounds 3 have the label.
    assert told.loc["nsc", "chance"] == pytest.approx(3 / 11, abs=0.02)
    assert told.loc["nsc", ["n", "n_groups", "groups"]].tolist() == [12, 12, "compounds"]


def test_without_labels_replicates_alone_are_scored() -> None:
    cells, z = screen_of(MOA)
    found = scored(cells, z, ())
    assert found["label"].isna().all()
    assert len(found) == 4


@pytest.mark.parametrize(
    ("treatments", "change", "score", "remark"),
    [
        ({"a1": "A", "b1": "B"}, {}, "nsc", "no label has two compounds"),
        ({"a1": "A", "b1": "B"}, {}, "map", "no label has two compounds"),
        (MOA, {"batch": "same"}, "nscb", "different batches"),
        ({"a1": "A", "a2": "A"}, {}, "knn", "no two labels"),
        (MOA, {"plates": 1, "wells": 1}, "replicate_correlation", "no treatment has two wells"),
        (MOA, {"controls": 0}, "replicate_map", "no treatment has two wells on plates with con"),
        (MOA, {"plates": 1, "controls": 2}, "active_share", "for a p-value of 0.05"),
    ],
)
def test_what_cannot_be_scored_is_empty_and_says_why(
    treatments: dict[str, str], change: dict[str, Any], score: str, remark: str
) -> None:
    row = scored(*screen_of(treatments, **change)).loc[score]
    assert pd.isna(row["value"])
    assert row["n"] == 0
    assert remark in row["remark"]


def test_a_label_that_no_cell_has_leaves_all_of_it_empty() -> None:
    cells, z = screen_of(MOA)
    found = scored(cells.assign(moa=pd.NA), z)
    assert found.loc[["knn", "linear", "nsc", "map", "nscb"], "value"].isna().all()
    assert found.loc["replicate_map", "value"] > 0.9


def test_a_screen_of_controls_alone_is_scored_as_empty() -> None:
    cells, z = screen_of(MOA)
    scores, replicates = score_tables({"z": z}, cells.assign(control=True), ("moa",), 0)
    assert len(scores) == 9
    assert scores["value"].isna().all()
    assert scores["remark"].notna().all()
    assert replicates.empty


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    compounds = np.repeat(np.arange(20), 3).astype(str)
    values = np.repeat(rng.normal(size=20), 3)
    one = Score.mean("one", values, compounds, "")
    less = Score.mean("less", values - 0.1 + 0.001 * rng.normal(size=60), compounds, "")
    low, high = one.interval(0)
    assert high - low > 0.5
    low, high = one.interval(0, less)
    assert low == pytest.approx(0.1, abs=0.002)
    assert high == pytest.approx(0.1, abs=0.002)


def test_a_label_that_is_no_column_is_refused() -> None:
    cells, z = screen_of(MOA)
    with pytest.raises(InputError, match="no column 'mao'"):
        score_tables({"z": z}, cells, ("mao",), 0)


def test_on_one_plate_wells_are_held_out_and_few_groups_get_no_interval() -> None:
    found = scored(*screen_of(MOA, plates=1))
    assert found.loc["knn", ["n_groups", "groups"]].tolist() == [8, "wells"]
    assert found.loc["knn", "low"] <= found.loc["knn", "value"] <= found.loc["knn", "high"]
    assert np.isnan(found.loc["nsc", "low"])
    assert found.loc["nsc", "n_groups"] == 4


def test_replicates_by_treatment_say_who_is_active_and_why_others_were_not_tested() -> None:
    cells, z = screen_of({**MOA, "nothing": ""}, controls=8)
    z[cells["treatment"] == "nothing"] = np.random.default_rng(5).normal(
        size=((cells["treatment"] == "nothing").sum(), D)
    )
    alone = cells.index[(cells["treatment"] == "b2") & (cells["plate"] + cells["well"] != "P0W11")]
    cells, z = cells.drop(alone).reset_index(drop=True), np.delete(z, alone, axis=0)
    _, table = score_tables({"z": z}, cells, (), 0)
    table = table.set_index("treatment")
    assert (table.loc[["a1", "a2", "b1"], "q_value"] < 0.01).all()
    assert table.loc["a1", ["n_wells", "n_controls"]].tolist() == [12, 48]
    assert table.loc["nothing", "q_value"] > 0.05
    assert table.loc["b2", "untested"] == "one well"
    assert np.isnan(table.loc["b2", "map"])
    assert "DMSO" not in table.index


@pytest.fixture
def run(screen: Any) -> Any:
    """A finished run of two plates with stores of tiles."""
    rng = np.random.default_rng(0)
    for plate in ("P1", "P2"):
        screen.add(plate)
        tiles = TILES.read(screen.tiles(plate))
        with write_store(
            screen.tiles(plate).with_suffix(".zarr"),
            channels=["x", "y"],
            size=16,
            dtype="uint16",
            masks=False,
            pixel_size_um=None,
            about={"neighbours": "keep"},
        ) as writer:
            writer.append(rng.poisson(100, (len(tiles), 2, 16, 16)).astype(np.uint16))
        TILES.write(tiles.assign(store_digest=writer.digest), screen.tiles(plate))
    make_phenotypes(screen.rows, screen.results, "vae", PhenotypesSettings(labels=("moa",)), 0)
    return screen


def test_a_run_is_scored_beside_its_baselines_and_twice_alike(run: Any) -> None:
    folder = run.results / "phenotypes" / "vae"
    settings, told = PhenotypesSettings(labels=("moa",)), []
    make_scores(run.results, "vae", settings, 0, lambda done, total: told.append((done, total)))
    scores = SCORES.read(folder / "scores.csv")
    replicates = REPLICATES.read(folder / "replicates.csv")
    names = ["z", "cell count", "PCA-6", "intensity statistics (20)"]
    assert scores["features"].unique().tolist() == names
    assert replicates["features"].unique().tolist() == names
    assert told[-1] == (280, 280)
    by = scores.set_index(["score", "features"])["value"]
    assert by["knn", "z"] > 0.9
    # Pixels are noise here, and all wells have twenty cells.
    assert by["knn", "PCA-6"] < 0.75
    assert by["knn", "cell count"] == 0.5
    before = (folder / "scores.csv").read_bytes(), (folder / "replicates.csv").read_bytes()
    make_scores(run.results, "vae", settings, 0)
    assert (
        (folder / "scores.csv").read_bytes(),
        (folder / "replicates.csv").read_bytes(),
    ) == before


def test_of_many_cells_z_and_baselines_have_the_same_controls(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_sci.phenotypes.score_tables.PROFILED_CELLS", 30)
    monkeypatch.setattr("vae_sci.phenotypes.score_tables.PROFILED_PER_WELL", 6)
    settings = PhenotypesSettings(min_control_cells=4)
    cells, features = run_features(run.results, "vae", settings, 0)
    assert set(cells.groupby(["plate", "well"]).size()) == {6}
    control = cells["control"].to_numpy()
    for name, values in features.items():
        for plate in cells["plate"].unique():
            here = control & (cells["plate"] == plate).to_numpy()
            np.testing.assert_allclose(values[here].mean(axis=0), 0, atol=1e-5, err_msg=name)


def test_the_benchmark_scores_any_labels_under_each_normalisation(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, out = run.folder / "labels.csv", run.folder / "scores.json"
    table = pd.DataFrame({"compound": ["moved", "same"], "kind": ["far", "near"]})
    table.to_csv(labels, index=False)
    arguments = ["--results", str(run.results), "--labels", str(labels), "--json", str(out)]
    benchmark = load_benchmark()
    assert benchmark.main([*arguments, "--column", "kind"]) == 0
    report = json.loads(out.read_text())
    found = {(r["score"], r["features"]): r for r in report["scores"]}
    assert found["knn", "z"]["value"] > 0.9
    assert found["nsc", "z"]["remark"] == "no label has two compounds"
    rows = {(r["normalization"], r["score"]): r for r in report["normalizations"]["rows"]}
    assert set(rows) >= {(n, "other_plates") for n in ("none", "standardize", "whiten")}
    assert rows["whiten", "plate"]["chance"] == 0.5
    assert "| z | " in capsys.readouterr().out
    assert benchmark.main([*arguments, "--column", "mao"]) == 1
    assert "mao" in capsys.readouterr().err


def test_plates_that_differ_do_not_mix_and_those_that_do_not_do() -> None:
    cells, z = screen_of({"taxol": ""}, plates=6, wells=3, controls=0)
    apart = z + 8 * np.eye(6)[cells["plate"].str[1:].astype(int)]
    weeks = z + 8 * np.eye(6)[cells["batch"].str[1:].astype(int)]
    mixed, split, by_week = (
        {
            score.name: score.row(0)
            for score in load_benchmark().mixing(values - values.mean(axis=0), cells, 0)
        }
        for values in (z, apart, weeks)
    )
    assert mixed["other_plates"]["value"] == pytest.approx(1, abs=0.05)
    assert mixed["plate"]["value"] == pytest.approx(1 / 6, abs=0.1)
    # A batch of three plates has two left to vote for it, the other three.
    assert mixed["batch"]["chance"] < 0.4
    assert mixed["batch"]["p_value"] > 0.05
    assert split["other_plates"]["value"] < 0.05
    assert split["plate"]["value"] > 0.95
    assert by_week["batch"]["value"] > 0.95
