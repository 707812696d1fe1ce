"""benchmarks/cells.py on a made-up screen: z knows the mechanism, the pixels do not."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vae_sci.config import PhenotypesSettings
from vae_sci.contracts import CELLS, EMBEDDINGS, TILES
from vae_sci.phenotypes.make import make_phenotypes
from vae_sci.phenotypes.normalize import normalize
from vae_sci.results import open_results
from vae_sci.tiles.store import write_store

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cells.py"
MOA = {"a1": "A", "a2": "A", "b1": "B", "b2": "B", "one": "C", "lone": "D", "DMSO": "DMSO"}
AXIS = {"A": 0, "B": 1, "C": 2, "D": 3}
WELLS = {
    "B02": ("DMSO", 0.0, True),
    "B03": ("DMSO", 0.0, True),
    "C02": ("a1", 1.0, False),
    "C03": ("a2", 1.0, False),
    "C04": ("b1", 1.0, False),
    "C05": ("b2", 1.0, False),
    "C06": ("one", 1.0, False),
}


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_cells", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(screen: Any) -> Any:
    """A finished run of 5 plates of 22 cells a well, and the folder of labels beside it."""
    rng = np.random.default_rng(0)
    for i in range(5):
        layout = {**WELLS, "C07": ("lone", 1.0, False)} if i == 0 else WELLS
        screen.add(f"P{i}", layout, cells_per_well=22, d=4, platemap=False)
    labels = []
    for row in screen.rows:
        tiles = TILES.read(screen.tiles(row.plate))
        moa = tiles["treatment"].map(MOA)
        z = EMBEDDINGS.read(screen.embedding(row.plate)).set_index("cell_id")
        for name, axis in AXIS.items():
            z.loc[tiles["cell_id"][moa == name], f"z_{axis:03d}"] += 6
        EMBEDDINGS.write(z.reset_index(), screen.embedding(row.plate))
        store = screen.tiles(row.plate).with_suffix(".zarr")
        with write_store(
            store,
            channels=["x", "y"],
            size=8,
            dtype="uint16",
            masks=False,
            pixel_size_um=None,
            about={},
        ) as writer:
            writer.append(rng.poisson(100, (len(tiles), 2, 8, 8)).astype(np.uint16))
        labels.append(
            pd.DataFrame(
                {
                    **{name: tiles[name] for name in ("plate", "well", "site", "concentration")},
                    "cell": tiles["cell_id"].str.rsplit("/", n=1).str[1],
                    "compound": tiles["treatment"],
                    "moa": moa,
                    "source": np.where((moa == "B") & (row.plate == "P4"), "other", "moa12"),
                    "noise_like": (moa == "A") & (row.plate == "P3"),
                }
            )
        )
    (screen.folder / "data").mkdir()
    pd.concat(labels).to_csv(screen.folder / "data" / "cells.csv", index=False)
    make_phenotypes(screen.rows, screen.results, "vae", PhenotypesSettings(), 0)
    return screen


def test_comparison_of_a_made_up_screen(
    benchmark: ModuleType, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run.folder / "cells.json"
    arguments = ["--data", str(run.folder / "data"), "--results", str(run.results)]
    assert benchmark.main([*arguments, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    # 20 of 22 cells per plate and treatment; A lacks P3 (noise), B lacks P4 (another source).
    assert report["cells_per_class"] == {"A": 160, "B": 160, "C": 100}
    assert report["n_cells"] == 420
    assert report["left_out"] == {"D": "on 1 plate"}
    assert sorted(p for fold in report["plates_per_fold"] for p in fold) == [
        f"P{i}" for i in range(5)
    ]
    by = {(row["features"], row["normalization"]): row for row in report["results"]}
    assert list(by) == [
        (name, how)
        for how in ("controls", "scored")
        for name in ("z (vae)", "PCA-4", "intensity statistics (20)")
    ]
    for (name, _), row in by.items():
        for metric in ("knn", "linear"):
            value, (low, high) = row[metric]["value"], row[metric]["interval"]
            assert low <= value <= high
            if name == "z (vae)":
                assert value > 0.97
            else:
                assert value == pytest.approx(1 / 3, abs=0.1)
        # Mechanism C has one compound: it cannot be found again and is not asked about.
        assert (row["nsc"]["treatments"], row["nsc"]["compounds"]) == (4, 4)
    assert by["z (vae)", "controls"]["nsc"]["value"] == 1
    printed = capsys.readouterr().out
    assert printed.count("\n| ") == 6
    assert "Left out: D (on 1 plate)" in printed


def test_z_is_the_runs_own_normalised_z(benchmark: ModuleType, run: Any) -> None:
    results = open_results(run.results, "vae")
    cells = CELLS.read(run.results / "phenotypes" / "vae" / "cells.parquet")
    raw = pd.concat([EMBEDDINGS.read(run.embedding(row.plate)) for row in run.rows])
    names = [f"z_{i:03d}" for i in range(4)]
    raw = raw.set_index("cell_id").loc[cells["cell_id"], names]
    again, _, _ = normalize(raw.to_numpy(), cells, benchmark.run_settings(results))
    np.testing.assert_allclose(again, cells[names], atol=1e-12)


def test_missing_results_and_missing_cells_say_what_to_do(
    benchmark: ModuleType, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = run.folder / "data"
    arguments = ["--data", str(data), "--json", str(tmp_path / "never.json")]
    assert benchmark.main([*arguments, "--results", str(tmp_path / "nothing")]) == 1
    assert f"make example-bbbc021 DATA={data}" in capsys.readouterr().err
    labels = pd.read_csv(data / "cells.csv", dtype=str)
    labels.loc[labels["moa"] == "A", "cell"] += "x"
    labels.to_csv(data / "cells.csv", index=False)
    assert benchmark.main([*arguments, "--results", str(run.results)]) == 1
    assert "160 of 420 missing" in capsys.readouterr().err
    assert not (tmp_path / "never.json").exists()


def test_pca_components_are_uncorrelated_and_explain_most_of_a_planted_pattern(
    benchmark: ModuleType,
) -> None:
    rng = np.random.default_rng(0)
    strength = rng.uniform(0, 3, size=200)
    pattern = rng.normal(size=(1, 1, 8, 8))
    tiles = rng.poisson((10 + strength[:, None, None, None] * pattern).clip(0) ** 2)
    train = np.arange(200) < 150
    found = benchmark.principal_components(tiles, train, 3, seed=0)
    assert abs(np.corrcoef(found[~train, 0], strength[~train])[0, 1]) > 0.95
    assert np.abs(np.corrcoef(found[train].T) - np.eye(3)).max() < 1e-3


def test_intensity_statistics_by_hand(benchmark: ModuleType) -> None:
    tile = np.arange(101).reshape(1, 1, 1, 101)
    found = benchmark.intensity_statistics(np.concatenate([tile, 7 + 0 * tile], axis=1))
    assert found.shape == (1, 20)
    spread = np.std(np.arange(101))
    assert found[0, :10].tolist() == pytest.approx([50, spread, 0, 5, 25, 50, 75, 95, 99, 100])
    assert found[0, 10:].tolist() == [7, 0, 7, 7, 7, 7, 7, 7, 7, 7]


@pytest.mark.realdata
def test_rows_that_are_scored_of_the_real_cells(
    benchmark: ModuleType, real_data: Callable[[str], Path]
) -> None:
    labels = benchmark.read_labels(real_data("bbbc021_cells"))
    rows, left_out = benchmark.choose_rows(labels, seed=0)
    assert (len(rows), rows["plate"].nunique(), rows["moa"].nunique()) == (1254, 41, 11)
    assert left_out == {"Kinase inhibitors": 1}
    assert rows.groupby(["plate", "compound", "concentration"]).size().max() == 20
