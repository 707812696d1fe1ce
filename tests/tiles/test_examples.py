"""Worked examples that start from camera images: each config takes real fields to tiles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vae_sci.config import Settings, parse, read_plates
from vae_sci.contracts import FIELDS, TILES
from vae_sci.images.index import index_plate
from vae_sci.images.read import read_field
from vae_sci.tiles.make import make_tiles
from vae_sci.tiles.quality import select_cells
from vae_sci.tiles.store import open_store

EXAMPLES = Path(__file__).parents[2] / "config" / "examples"


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "part", "fields", "cells"),
    [("bbbc021_fields", "*_s[13]_*.tif", (2, 1), 120), ("nf1_fields", "images/*_B7_*", (1, 1), 20)],
)
def test_raw_files_to_tiles(
    real_data: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    part: str,
    fields: tuple[int, int],
    cells: int,
) -> None:
    """Of `fields` found and kept at least so many `cells`; their tiles are windows of the image."""
    folder = real_data(name)
    config = EXAMPLES / name / "config.yaml"
    settings = parse(Settings, yaml.safe_load(config.read_text()), str(config))
    (row,) = read_plates(EXAMPLES.parents[1] / settings.plates)
    platemap = str(EXAMPLES.parents[1] / (row.platemap or ""))
    row = row.model_copy(update={"images": str(folder / part), "platemap": platemap})
    index = tmp_path / "images" / f"{row.plate}.parquet"
    index_plate(row, settings.images, index)
    make_tiles(row, index, settings.tiles, settings.images, settings.seed, tmp_path)
    select_cells(tmp_path, row.plate, settings.quality)
    table = TILES.read(tmp_path / "tiles" / f"{row.plate}.parquet")
    assert len(table) >= cells
    steps = json.loads((tmp_path / "ledger" / f"{row.plate}.json").read_text())["steps"]
    assert (steps[0]["found"], steps[0]["kept"]) == fields
    assert all(step["found"] == step["kept"] + sum(step["dropped"].values()) for step in steps)
    store: Any = open_store(tmp_path / "tiles" / f"{row.plate}.zarr")["tiles"]
    first = table[table["site"] == table["site"].iloc[0]]
    rows = FIELDS.read(index)
    field = read_field(rows[rows["site"] == first["site"].iloc[0]])
    size = store.shape[-1]
    for cell in first.itertuples():
        y, x = int(cell.y0), int(cell.x0)
        np.testing.assert_array_equal(store[int(cell.tile)], field[:, y : y + size, x : x + size])
