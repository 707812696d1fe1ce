"""What people ask of a real small run: the example queries, a cell's page, a tile from outside."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from vae_sci.cli import app
from vae_sci.errors import InputError, QueryError
from vae_sci.query import VIEWS
from vae_sci.results import Results, open_results

DOCS = Path(__file__).parent.parent / "docs" / "queries.md"
QUERIES = re.findall(r"^```sql\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
MAY_BE_EMPTY = (
    *("relative_focus < 0.7", "FROM dropped", "clusters.share_control >= 0.1"),
    "suspicion IS NOT NULL",
)
"""Parts of the queries that a small run of good images may answer with no row."""


@pytest.fixture(scope="module")
def run(tiny_results: Path) -> Results:
    return open_results(tiny_results)


def vae_sci(*arguments: str) -> str:
    """What the command line prints."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
@pytest.mark.parametrize("sql", QUERIES, ids=range(len(QUERIES)))
def test_every_example_query_is_answered(run: Results, sql: str) -> None:
    found = run.query(sql)
    assert len(found.columns) > 1
    if not any(part in sql for part in MAY_BE_EMPTY):
        assert len(found) > 0


def test_the_examples_ask_every_table() -> None:
    assert len(QUERIES) >= 12
    asked = set(re.findall(r"(?:FROM|JOIN) (\w+)", "\n".join(QUERIES)))
    assert asked >= set(VIEWS)


@pytest.mark.slow
def test_a_tile_of_the_screen_finds_its_own_cell(run: Results, tmp_path: Path) -> None:
    cells = run.cells
    for plate in ("tiny1", "tiny2"):
        cell_id = cells.loc[cells["plate"] == plate, "cell_id"].iloc[3]
        tile = run.tiles(cell_id)[0]
        found = run.neighbors_of_tile(tile, plate, k=5)
        assert found["cell_id"].iloc[0] == cell_id
        assert found["distance"].iloc[0] < 1e-3 < found["distance"].iloc[1]
        others = run.neighbors(cell_id, k=4)
        assert found["cell_id"].tolist()[1:] == others["cell_id"].tolist()
        np.testing.assert_allclose(found["distance"][1:], others["distance"], atol=1e-3)
    path, picture = tmp_path / "tile.tif", tmp_path / "near.png"
    tifffile.imwrite(path, tile, photometric="minisblack")
    told = vae_sci(
        "neighbors", "--image", str(path), "--plate", "tiny2", "-k", "3",
        "--results", str(run.path), "--tiles", str(picture),
    )  # fmt: skip
    lines = told.strip().splitlines()
    assert len(lines) == 4
    assert cell_id in lines[1]
    assert picture.is_file()


@pytest.mark.slow
def test_a_tile_that_does_not_fit_is_told(run: Results) -> None:
    tile = run.tiles(run.cells["cell_id"].iloc[0])[0]
    with pytest.raises(QueryError, match="tiny1, tiny2"):
        run.neighbors_of_tile(tile)
    with pytest.raises(QueryError, match="no plate 'tiny3'"):
        run.neighbors_of_tile(tile, "tiny3")
    for wrong in (tile[:2], tile[:, :32, :32], tile[0]):
        with pytest.raises(InputError, match="nucleus, mitochondria, fibres") as caught:
            run.neighbors_of_tile(wrong, "tiny1")
        assert str(wrong.shape) in caught.value.found
    with pytest.raises(InputError, match="4095"):
        run.neighbors_of_tile(tile * 16, "tiny1")
    with pytest.raises(InputError, match="in steps of 16"):
        run.neighbors_of_tile(tile // 16 * 16, "tiny1")
    with pytest.raises(InputError, match="integer"):
        run.neighbors_of_tile(tile / 4095, "tiny1")


def test_neighbours_of_nothing_and_of_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither"):
        vae_sci("neighbors")
    with pytest.raises(InputError, match="both"):
        vae_sci("neighbors", "a/b/c/d", "--image", str(tmp_path / "tile.tif"))


@pytest.mark.slow
def test_a_cell_is_shown_with_its_field(
    run: Results, tiny_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # paths of images are relative to the project
    cell = run.cells.iloc[5]
    row = pd.read_parquet(run.path / f"tiles/{cell['plate']}.parquet").set_index("cell_id")
    field, (y, x) = run._field(row.loc[cell["cell_id"]])
    assert isinstance(field, np.ndarray)
    np.testing.assert_array_equal(field[:, y : y + 64, x : x + 64], run.tiles(cell["cell_id"])[0])
    told = vae_sci("show", cell["cell_id"], "--results", str(run.path))
    path = tmp_path / (cell["cell_id"].replace("/", "_") + ".png")
    assert told.strip() == path.name
    assert min(Image.open(path).size) > 1500
    with pytest.raises(QueryError, match="no cell 'tiny1/Z99/1/1'"):
        run.show("tiny1/Z99/1/1", tmp_path / "never.png")
    with pytest.raises(QueryError, match=r"ends in \.png"):
        run.show(cell["cell_id"], tmp_path / "never.jpg")


@pytest.mark.slow
def test_a_cell_is_shown_without_its_images_and_model(
    run: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of results that was sent to a colleague, with neither."""
    monkeypatch.chdir(tmp_path)
    sent = tmp_path / "deep" / "results"
    for name in ("tiles", "phenotypes", "images"):
        shutil.copytree(run.path / name, sent / name)
    there = open_results(sent)
    cell_id = there.cells["cell_id"].iloc[5]
    table = pd.read_parquet(sent / "tiles/tiny1.parquet")
    cell = table[table["cell_id"] == cell_id]
    field, _ = there._field(cell.iloc[0])
    made = there._made(cell)
    assert isinstance(field, str)
    assert "tiny1_" in field
    assert isinstance(made, str)
    assert "model.json" in made
    there.show(cell_id, tmp_path / "cell.png")
    whole = tmp_path / "whole.png"
    run.show(cell_id, whole)
    assert Image.open(tmp_path / "cell.png").size[1] < Image.open(whole).size[1]
