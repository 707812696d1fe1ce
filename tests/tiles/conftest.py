"""One simulated plate, shared by the tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from vae_sci.config import ImagesSettings, PlateRow, QualitySettings, TilesSettings
from vae_sci.images.index import index_plate
from vae_sci.simulate.recipe import read_recipe
from vae_sci.simulate.screen import simulate_plate
from vae_sci.tiles.make import make_tiles
from vae_sci.tiles.quality import select_cells

CHANNELS = ImagesSettings(channels={"1": "nucleus", "2": "mitochondria", "3": "fibres"})
NO_LIMITS = QualitySettings(**dict.fromkeys(QualitySettings.model_fields))
SIZE = 64


@pytest.fixture(scope="session")
def plate(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlateRow, Path]:
    """A simulated plate of 8 wells of 512 × 512 pixels and its folder (`truth` inside)."""
    base = Path(__file__).parents[2] / "resources" / "simulate"
    recipe = read_recipe(base / "tiny.yaml")
    fields = recipe.fields.model_copy(update={"size": 512, "cells": 24, "debris": 1.0})
    folder = tmp_path_factory.mktemp("simulated") / "tiny1"
    simulate_plate(recipe.model_copy(update={"fields": fields}), "tiny1", folder)
    row = PlateRow(
        plate="tiny1",
        images=str(folder / "images"),
        platemap=str(folder / "platemap.csv"),
        batch="first",
    )
    return row, folder


@pytest.fixture(scope="session")
def made(plate: tuple[PlateRow, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of that plate: index, store, table of all cells and ledger."""
    row, _ = plate
    results = tmp_path_factory.mktemp("results")
    fields = results / "images" / "tiny1.parquet"
    index_plate(row, CHANNELS, fields)
    make_tiles(row, fields, TilesSettings(size=SIZE), CHANNELS, 0, results)
    select_cells(results, "tiny1", NO_LIMITS)
    return results
