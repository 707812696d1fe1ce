"""The comparison on real cells, on a made-up screen: z knows the mechanism, the pixels do not."""

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
from vae_sci.errors import ContractError
from vae_sci.phenotypes.make import make_phenotypes
from vae_sci.phenotypes.normalize import normalize
from vae_sci.results import open_results
from vae_sci.tiles.store import write_store

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
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


def load(script: str) -> ModuleType:
    name = "benchmarks_" + script.replace("/", "_")
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load("cells")


@pytest.fixture(scope="module")
def lossless() -> ModuleType:
    return load("lossless")


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
        tiles.loc[tiles["well"] == "C06", "split"] = "test"
        TILES.write(tiles, screen.tiles(row.plate))
        moa = tiles["treatment"].map(MOA)
        z = EMBEDDINGS.read(screen.embedding(row.plate)).set_index("cell_id")
        for name, axis in AXIS.items():
            z.loc[tiles["cell_id"][moa == name], f"z_{axis:03d}"] += 6
        EMBEDDINGS.write(z.reset_index(), screen.embedding(row.plate))
        store = screen.tiles(row.plate).with_suffix(".zarr")
        with write_store(
            store,
            channels=["x", "y"],
            size=16,
            dtype="uint16",
            masks=False,
            pixel_size_um=None,
            about={"kind": "tiles", "neighbours": "keep"},
        ) as writer:
            writer.append(rng.poisson(100, (len(tiles), 2, 16, 16)).astype(np.uint16))
        tiles["store_digest"] = writer.digest
        TILES.write(tiles, screen.tiles(row.plate))
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
        for how in ("controls", "whitened", "scored")
        for name in ("z (vae)", "PCA-4", "intensity statistics (20)")
    ]
    # Mechanism C has one compound: it cannot be found again and is not asked about.
    assert (report["nsc_treatments"], report["nsc_compounds"]) == (4, 4)
    for (name, _), row in by.items():
        for metric in ("knn", "linear"):
            value, (low, high) = row[metric]["value"], row[metric]["interval"]
            assert low <= value <= high
            if name == "z (vae)":
                assert value > 0.97
            else:
                assert value == pytest.approx(1 / 3, abs=0.1)
    assert by["z (vae)", "controls"]["nsc"]["value"] == 1
    assert by["z (vae)", "controls"]["map"]["value"] == 1
    for row in report["differences"]:
        ours, other = (by[row[name], row["normalization"]] for name in ("features", "minus"))
        for metric in ("knn", "linear", "nsc", "map"):
            value, (low, high) = row[metric]["value"], row[metric]["interval"]
            assert value == pytest.approx(ours[metric]["value"] - other[metric]["value"])
            assert low <= value <= high
        assert row["knn"]["interval"][0] > 0.5
    printed = capsys.readouterr().out
    assert printed.count("\n| ") == 9 + 1 + 6  # the head of the second table among them
    assert "Left out: D (on 1 plate)" in printed


def test_further_tables_are_scored_and_compared_pair_by_pair(
    benchmark: ModuleType, run: Any, tmp_path: Path
) -> None:
    cells = open_results(run.results, "vae").cells
    units = pd.DataFrame(
        {
            "cell_id": cells["cell_id"],
            "far": 1e9 + 1e6 * cells["z_000"],
            "near": 1e-6 * cells["z_001"],
            "constant": 7,
        }
    )
    units.sample(frac=1, random_state=0).to_parquet(tmp_path / "units.parquet")
    out = tmp_path / "cells.json"
    same, other = run.results / "embeddings" / "vae", tmp_path / "units.parquet"
    arguments = ["--data", str(run.folder / "data"), "--results", str(run.results)]
    arguments += ["--features", f"same={same}", "--features", f"units={other}"]
    assert benchmark.main([*arguments, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    by = {(row["features"], row["normalization"]): row for row in report["results"]}
    for how in ("controls", "whitened", "scored"):
        # Of an embedding z alone is read, at its own scale; numbers of any unit are.
        for metric in ("knn", "linear", "nsc", "map"):
            assert by["same (4)", how][metric] == by["z (vae)", how][metric]
        assert by["units (3)", how]["linear"]["value"] > 0.9
    for row in report["differences"]:
        if row["minus"] == "same (4)":
            for metric in ("knn", "linear", "nsc", "map"):
                assert row[metric] == {"value": 0, "interval": [0, 0]}


@pytest.mark.slow
def test_variants_are_trained_once_measured_and_scored(
    benchmark: ModuleType, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = run.results / "models" / "vae" / "model.json"
    card.parent.mkdir(parents=True)
    levels = {"lowest": [0, 0], "step": [1, 1], "highest": [255, 255]}
    card.write_text(json.dumps({"grey_levels": levels}))
    arguments = ["--data", str(run.folder / "data"), "--results", str(run.results)]
    arguments += ["--json", str(tmp_path / "cells.json"), "--minutes", "0.01"]
    arguments += ["--variants", "default", "none"]
    assert benchmark.main(arguments) == 0
    report = json.loads((tmp_path / "cells.json").read_text())
    assert [row["model"] for row in report["models"]] == ["default", "none"]
    for row in report["models"]:
        # Independent counts of mean 100: no model can pay less than their entropy.
        assert row["bits"] > np.log2(2 * np.pi * np.e * 100) / 2 - 0.05
        assert (row["rate_u"] > 0) == (row["model"] == "default")
    assert len(report["codecs"]) == 4
    assert {row["minus"] for row in report["differences"]} == {
        "z (none)", "PCA-32", "intensity statistics (20)"
    }  # fmt: skip
    weights = tmp_path / "cells" / "models" / "none" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    capsys.readouterr()
    assert benchmark.main(arguments) == 0
    assert weights.stat().st_mtime_ns == before
    assert "| none |" in capsys.readouterr().out


def test_tables_that_lack_cells_or_numbers_say_so(
    benchmark: ModuleType, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = open_results(run.results, "vae").cells
    table = pd.DataFrame({"cell_id": cells["cell_id"], "x": np.arange(len(cells))})
    arguments = ["--data", str(run.folder / "data"), "--results", str(run.results)]
    arguments += ["--json", str(tmp_path / "never.json"), "--features"]
    path = tmp_path / "table.parquet"
    for wrong, said in (
        (table.iloc[3:], f"none for 3 cells in {path}, the first {table['cell_id'][0]}"),
        (table.assign(x=np.where(table.index == 5, np.nan, 1)), table["cell_id"][5]),
        (table.drop(columns="x"), "columns cell_id"),
        (table.drop(columns="cell_id"), "columns x"),
    ):
        wrong.to_parquet(path)
        assert benchmark.main([*arguments, f"t={path}"]) == 1
        assert said in capsys.readouterr().err
    assert benchmark.main([*arguments, f"t={tmp_path / 'nothing'}"]) == 1
    with pytest.raises(SystemExit):
        benchmark.main([*arguments, "no-name"])
    assert not (tmp_path / "never.json").exists()


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


def test_opponents_get_every_tile(run: Any, tmp_path: Path) -> None:
    results = open_results(run.results, "vae")
    load("opponents/make").write_tiles(results, tmp_path / "tiles.npz")
    written = np.load(tmp_path / "tiles.npz")
    assert written["cell_id"].tolist() == results.cells["cell_id"].tolist()
    assert written["split"].tolist() == results.cells["split"].tolist()
    assert written["channels"].tolist() == ["x", "y"]
    np.testing.assert_array_equal(written["tiles"], results.tiles(results.cells))


def noise(bits: int, channels: int = 3, n: int = 5, size: int = 16) -> np.ndarray:
    rng = np.random.default_rng(bits)
    return rng.integers(2**bits, size=(n, channels, size, size), dtype=np.uint16)


@pytest.mark.parametrize("name", ["PNG", "zstd, byte shuffle", "JPEG-LS", "JPEG-XL"])
@pytest.mark.parametrize("shape", [(7, 5), (24, 24), (6, 9, 3)])
def test_decoding_gives_back_the_same_values(
    lossless: ModuleType, name: str, shape: tuple[int, ...]
) -> None:
    codec = lossless.CODECS[name]
    for top in (1, 2, 200, 4096, 65536):
        image = np.random.default_rng(top).integers(top, size=shape, dtype=np.uint16)
        image[0] = top - 1
        np.testing.assert_array_equal(np.ravel(codec.decode(codec.encode(image))), image.ravel())


def test_a_codec_that_loses_values_is_refused(lossless: ModuleType) -> None:
    png = lossless.CODECS["PNG"]
    lossy = png._replace(encode=lambda image: png.encode(image // 2 * 2))
    with pytest.raises(ContractError, match="gives back every value"):
        lossless.n_bits(lossy, noise(8)[0, 0])


@pytest.mark.parametrize(("bits", "channels"), [(4, 3), (8, 1), (12, 3), (16, 2)])
def test_noise_cannot_be_compressed(lossless: ModuleType, bits: int, channels: int) -> None:
    for row in lossless.codec_costs(noise(bits, channels)):
        tile, one = (row[f"{how}_bits_per_pixel_and_channel"] for how in ("tile", "one_file"))
        assert bits < one < tile


def test_constant_tiles_cost_almost_nothing(lossless: ModuleType) -> None:
    for row in lossless.codec_costs(np.full((9, 3, 48, 48), 4095, np.uint16)):
        assert row["one_file_bits_per_pixel_and_channel"] < 0.05
        assert row["tile_bits_per_pixel_and_channel"] < 0.5


def test_tiles_lie_in_a_grid(lossless: ModuleType) -> None:
    grid = lossless.joined(noise(8)[:, 0])
    assert grid.shape == (2 * 16, 3 * 16)
    for i in range(5):
        y, x = 16 * (i // 3), 16 * (i % 3)
        np.testing.assert_array_equal(grid[y : y + 16, x : x + 16], noise(8)[i, 0])
    assert not grid[16:, 32:].any()


def test_codecs_are_paid_for_held_out_levels(
    lossless: ModuleType, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = open_results(run.results, "vae")
    levels = {"lowest": [0, 0], "step": [1, 1], "highest": [255, 255]}
    card = run.results / "models" / "vae" / "model.json"
    card.parent.mkdir(parents=True)
    card.write_text(json.dumps({"grey_levels": levels}))
    held_out = [cell_id for cell_id in results.cells["cell_id"] if cell_id.split("/")[1] == "C06"]
    found = lossless.held_out_levels(results)
    np.testing.assert_array_equal(found, results.tiles(held_out))

    out = tmp_path / "lossless.json"
    arguments = ["--data", str(run.folder / "data"), "--results", str(run.results)]
    assert lossless.main([*arguments, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["n_tiles"] == len(held_out) == 110
    # Independent counts of mean 100: the entropy is log2(2 π e 100) / 2.
    entropy = np.log2(2 * np.pi * np.e * 100) / 2
    for row in report["codecs"]:
        assert row["one_file_bits_per_pixel_and_channel"] > entropy - 0.05
    assert capsys.readouterr().out.count("\n| ") == 4

    card.write_text(json.dumps({"grey_levels": levels | {"step": [1, 2], "highest": [255, 510]}}))
    assert lossless.main([*arguments, "--json", str(tmp_path / "never.json")]) == 1
    assert "step 2" in capsys.readouterr().err


@pytest.mark.realdata
def test_rows_that_are_scored_of_the_real_cells(
    benchmark: ModuleType, real_data: Callable[[str], Path]
) -> None:
    labels = benchmark.read_labels(real_data("bbbc021_cells"))
    rows, left_out = benchmark.choose_rows(labels, seed=0)
    assert (len(rows), rows["plate"].nunique(), rows["moa"].nunique()) == (1254, 41, 11)
    assert left_out == {"Kinase inhibitors": 1}
    assert rows.groupby(["plate", "compound", "concentration"]).size().max() == 20
