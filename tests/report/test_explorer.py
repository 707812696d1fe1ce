"""The explorer's files: which cells, their data as scripts, their tiles in atlases."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd
import pytest
from explorer import make_screen

from vae_sci.config import ReportSettings
from vae_sci.contracts import CELLS, TILES
from vae_sci.errors import ContractError
from vae_sci.report.explorer import atlas
from vae_sci.report.explorer.make import make_explorer
from vae_sci.report.explorer.order import along_map
from vae_sci.report.explorer.scripts import packed, packed_column, write_script
from vae_sci.report.images import composite, read_tiles

N = 600
TYPES = {"Uint8Array": "<u1", "Uint16Array": "<u2", "Uint32Array": "<u4", "Int32Array": "<i4"}
TYPES |= {"Float32Array": "<f4", "Float64Array": "<f8"}


def unpacked(part: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(part["base64"]), TYPES[part["type"]])


def received(path: Path) -> tuple[str, Any]:
    """What a script hands to `receive`."""
    text = path.read_text().strip()
    assert text.startswith("receive(")
    assert text.endswith(");")
    return tuple(json.loads(f"[{text[len('receive(') : -2]}]"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def copied(screen: Path, folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """The tables of a screen with changed cells, its tiles left where they are."""
    cells = CELLS.read(screen / CELLS.path.format(model="vae"))
    CELLS.write(change(cells), folder / CELLS.path.format(model="vae"))
    (folder / "tiles").mkdir()
    for path in (screen / "tiles").iterdir():
        (folder / "tiles" / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("screen")
    make_screen(results, N, side=32, dimensions=6)
    return results


@pytest.fixture(scope="module")
def whole(screen: Path) -> Path:
    """The explorer of all cells."""
    return make_explorer(screen, "vae", ReportSettings(), seed=0).page.parent


def test_cells_that_follow_each_other_lie_near_each_other_on_the_map():
    xy = np.random.default_rng(0).normal(size=(3000, 2))
    steps = np.linalg.norm(np.diff(xy[along_map(xy)], axis=0), axis=1)
    assert np.mean(steps) < 0.1 * np.mean(np.linalg.norm(np.diff(xy, axis=0), axis=1))
    assert along_map(np.zeros((3, 2))).tolist() == [0, 1, 2]


def test_no_text_can_end_a_script(tmp_path: Path):
    hostile = ["</script><script>alert(1)</script>", "<!--", 'a"b\\', "Ακτίνη ✓ \u2028", "&amp;"]
    write_script(tmp_path, "x", {"levels": hostile})
    text = (tmp_path / "x.js").read_bytes()
    assert b"<" not in text
    assert text.isascii()
    assert received(tmp_path / "x.js") == ("x", {"levels": hostile})


def test_categories_are_codes_with_the_commonest_first_and_0_for_missing():
    values = pd.Series(["b", None, "a", "b", "c", "a", "b"], dtype="string")
    column = packed_column(values)
    assert column["levels"] == ["b", "a", "c"]
    assert unpacked(column["codes"]).tolist() == [1, 0, 2, 1, 3, 2, 1]
    assert packed_column(pd.Series([True, False, True]))["levels"] == ["True", "False"]
    many = packed_column(pd.Series([f"v{k}" for k in range(300)]))
    assert many["codes"]["type"] == "Uint16Array"


def test_numbers_keep_seven_digits_and_what_is_missing_is_not_a_number():
    values = pd.Series([0.1, np.nan, -np.inf, 12345.678])
    found = unpacked(packed_column(values)["numbers"])
    assert np.array_equal(np.isnan(found), [False, True, True, False])
    assert found[[0, 3]] == pytest.approx([0.1, 12345.678], rel=1e-7)
    large = pd.Series([2**40 + 1, None], dtype="Int64")
    assert unpacked(packed_column(large)["numbers"])[0] == 2**40 + 1
    assert unpacked(packed(np.array([1, -2], np.int32))).tolist() == [1, -2]


def test_the_page_has_every_cell_and_its_columns(screen: Path, whole: Path):
    cells = CELLS.read(screen / CELLS.path.format(model="vae")).set_index("cell_id")
    _, about = received(whole / "data/about.js")
    ids = received(whole / "data/cell_id.js")[1].split("\n")
    assert about["shown"] == about["total"] == len(ids) == N
    assert set(ids) == set(cells.index)
    x = unpacked(received(whole / "data/map.js")[1]["x"])
    assert x == pytest.approx(cells.loc[ids, "umap_1"].to_numpy(), rel=1e-6)
    columns = {column["name"]: column for column in about["columns"]}
    assert {"treatment", "novelty", "area", "intensity_fibres"} <= set(columns)
    assert not [name for name in columns if name.startswith(("z_", "umap_"))]
    assert "grey level" in columns["intensity_fibres"]["meaning"]
    treatment = received(whole / f"data/{columns['treatment']['file']}.js")[1]
    names = [None, *treatment["levels"]]
    assert [names[code] for code in unpacked(treatment["codes"])] == cells.loc[
        ids, "treatment"
    ].tolist()


def test_neighbours_are_the_nearest_in_z(screen: Path, whole: Path):
    cells = CELLS.read(screen / CELLS.path.format(model="vae")).set_index("cell_id")
    ids = received(whole / "data/cell_id.js")[1].split("\n")
    z = cells.loc[ids].filter(regex="^z_").to_numpy()
    distance = np.linalg.norm(z[:, None] - z[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    _, found = received(whole / "data/neighbours.js")
    rows = unpacked(found["cells"]).reshape(N, 10)
    assert np.array_equal(np.sort(rows), np.sort(np.argsort(distance, axis=1)[:, :10]))
    assert unpacked(found["distances"]).reshape(N, 10) == pytest.approx(
        np.take_along_axis(distance, rows.astype(int), 1), rel=1e-3
    )


def test_every_cell_has_its_own_tile_in_the_atlases(screen: Path, whole: Path):
    ids = received(whole / "data/cell_id.js")[1].split("\n")
    tiles = pd.concat([TILES.read(path) for path in sorted((screen / "tiles").glob("*.parquet"))])
    seen = CELLS.read(screen / CELLS.path.format(model="vae")).set_index("cell_id").loc[ids]
    table = seen[["plate"]].reset_index().merge(tiles[["cell_id", "tile"]], on="cell_id")
    contrast = atlas.contrast_of(screen, table, seed=0)
    expected = composite(read_tiles(screen, pd.Series(ids), tiles), contrast)
    sheets = [imagecodecs.jpeg_decode(path.read_bytes()) for path in sorted(whole.glob("tiles/*"))]
    assert len(sheets) == -(-N // 256)
    for row in range(0, N, 7):
        place = row % 256
        y, x = 32 * (place // 16), 32 * (place % 16)
        found = sheets[row // 256][y : y + 32, x : x + 32] / 255
        assert np.abs(found.mean(2) - expected[row].mean(2)).mean() < 0.03


def test_thumbnails_are_means_over_areas():
    colours = np.random.default_rng(0).random((2, 96, 96, 3))
    halves = colours.reshape(2, 48, 2, 48, 2, 3).mean((2, 4))
    assert np.abs(atlas._shrunk(colours, 48) - halves * 255).max() <= 0.5
    flat = np.full((1, 70, 70, 3), 0.4)
    assert (atlas._shrunk(flat, 48) == 102).all()


def test_a_sample_is_shown_and_the_same_seed_writes_the_same_files(screen: Path, tmp_path: Path):
    results = copied(screen, tmp_path, lambda cells: cells)
    settings = ReportSettings(explorer_cells=100)
    first = make_explorer(results, "vae", settings, seed=3)
    files = contents(first.page.parent)
    assert (first.shown, first.total) == (100, N)
    assert received(first.page.parent / "data/about.js")[1]["total"] == N
    assert abs(sum(map(len, files.values())) - first.bytes) < 100
    assert contents(make_explorer(results, "vae", settings, seed=3).page.parent) == files
    assert contents(make_explorer(results, "vae", settings, seed=4).page.parent) != files


def test_the_library_stands_beside_with_version_and_licence(whole: Path):
    told = json.loads((whole / "plotly.min.js.json").read_text())
    head = (whole / "plotly.min.js").read_text()[:300]
    assert f"v{told['version']}" in head
    assert "MIT" in head
    assert "MIT" in told["licence"]


def test_a_single_cell_without_neighbours(screen: Path, tmp_path: Path):
    results = copied(screen, tmp_path, lambda cells: cells.head(1))
    made = make_explorer(results, "vae", ReportSettings(), seed=0)
    assert made.shown == 1
    assert received(made.page.parent / "data/about.js")[1]["neighbours"] == 0


def test_plates_without_tiles_are_shown_without(screen: Path, tmp_path: Path):
    results = copied(screen, tmp_path, lambda cells: cells)
    (results / "tiles/P1.zarr").unlink()
    folder = make_explorer(results, "vae", ReportSettings(), seed=0).page.parent
    ids = received(folder / "data/cell_id.js")[1].split("\n")
    seen = unpacked(received(folder / "data/map.js")[1]["seen"])
    assert seen.tolist() == [not name.startswith("P1/") for name in ids]
    for path in (results / "tiles").glob("*.zarr"):
        path.unlink()
    folder = make_explorer(results, "vae", ReportSettings(), seed=0).page.parent
    assert received(folder / "data/about.js")[1]["tiles"] is None
    assert not (folder / "tiles").exists()


def test_tiles_of_another_run_are_refused(screen: Path, tmp_path: Path):
    results = copied(screen, tmp_path, lambda cells: cells)
    table = TILES.read(results / "tiles/P1.parquet")
    (results / "tiles/P1.parquet").unlink()
    TILES.write(table.assign(store_digest="another"), results / "tiles/P1.parquet")
    with pytest.raises(ContractError, match="another"):
        make_explorer(results, "vae", ReportSettings(), seed=0)
    assert not (results / "explorer/vae").exists()
