"""Segmentation against the simulator's truth, against drawn discs, and against nothing."""

from __future__ import annotations

import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import segmentation as benchmark
import tifffile
from scipy.ndimage import gaussian_filter

from vae_sci.config import PlateRow, QualitySettings
from vae_sci.contracts import TILES
from vae_sci.errors import InputError, SettingsError
from vae_sci.tiles.nuclei import find_nuclei, typical_diameter
from vae_sci.tiles.plugin import load
from vae_sci.tiles.quality import select_cells
from vae_sci.tiles.segment import join_nuclei, nuclei_of_size, segment

DIAMETER, CELL = 24.0, 70.0


def discs(
    places: list[tuple[float, float, float, float]], size: int = 200, noise: int = 0
) -> np.ndarray:
    """An image of discs (y, x, radius, brightness) on a dim background, counted by a camera."""
    y, x = np.mgrid[:size, :size]
    light = np.full((size, size), 20.0)
    for cy, cx, radius, bright in places:
        light[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] += bright
    rng = np.random.default_rng(noise)
    return rng.poisson(100 + gaussian_filter(light, 1)).astype(np.uint16)


def test_recall_and_precision_on_the_simulated_plate(
    plate: tuple[PlateRow, Path], made: Path
) -> None:
    """Cells kept against true cells that are not cut by the border, one to one."""
    _, folder = plate
    table = TILES.read(made / "tiles" / "tiny1.parquet")
    truth = pd.read_parquet(folder / "truth" / "cells.parquet")
    hits, ratios = 0, []
    for well, cells in table.groupby("well"):
        mask = tifffile.imread(folder / "truth" / "masks" / f"tiny1_{well}_s1_cells.tif")
        labels = mask[cells["y"].round().astype(int), cells["x"].round().astype(int)]
        whole = truth[(truth["well"] == well) & ~truth["cut_at_border"]]
        found = set(labels) & set(whole["label"])
        hits += len(found)
        area = np.bincount(mask.ravel(), minlength=int(mask.max()) + 1)
        ratios += [a / area[n] for n, a in zip(labels, cells["area"], strict=True) if n in found]
    whole_cells = int((~truth["cut_at_border"]).sum())
    assert whole_cells > 100
    assert hits / whole_cells > 0.95
    assert hits / len(table) > 0.95
    assert 0.9 < np.median(ratios) < 1.15
    assert np.mean(np.abs(np.array(ratios) - 1) < 0.3) > 0.9


def test_several_nuclei_share_a_cell(
    plate: tuple[PlateRow, Path], made: Path, tmp_path: Path
) -> None:
    """In the wells that block division no true cell gives two tiles, once debris is dropped."""
    _, folder = plate
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    select_cells(tmp_path, "tiny1", QualitySettings())
    table = TILES.read(tmp_path / "tiles" / "tiny1.parquet")
    truth = pd.read_parquet(folder / "truth" / "cells.parquet")
    blocked = truth[(truth["treatment"] == "cytoblockin") & (truth["n_nuclei"] > 1)]
    assert len(blocked) > 20
    for well, cells in table[table["well"].isin(blocked["well"])].groupby("well"):
        mask = tifffile.imread(folder / "truth" / "masks" / f"tiny1_{well}_s1_cells.tif")
        labels = mask[cells["y"].round().astype(int), cells["x"].round().astype(int)]
        assert len(set(labels)) == len(labels)


def test_dim_touching_and_small_nuclei() -> None:
    touching, dim = [(50, 50, 12, 800), (50, 71, 12, 800)], (150, 50, 12, 120)
    image = discs([*touching, dim, (150, 150, 12, 800), (40, 150, 3, 2000)])
    labels, _ = find_nuclei(image, DIAMETER)
    count = int(labels.max())
    assert len({labels[50, 50], labels[50, 71], labels[150, 50], labels[150, 150]} - {0}) == 4
    found = segment(image, image.astype(np.float32), DIAMETER, CELL, merge_gap=0)
    assert (found.found, found.n_cells) == (count, 4)
    assert found.dropped == {"too small": 1}
    area = np.bincount(found.nuclei.ravel())[1:]
    np.testing.assert_allclose(area, np.pi * 12**2, rtol=0.2)


def test_merge_gap() -> None:
    image = discs([(50, 50, 12, 800), (50, 76, 12, 800), (150, 50, 12, 800), (150, 90, 12, 800)])
    apart = segment(image, image.astype(np.float32), DIAMETER, CELL, merge_gap=0)
    assert apart.n_cells == 4
    joined = segment(image, image.astype(np.float32), DIAMETER, CELL, merge_gap=4)
    assert joined.n_cells == 3
    assert joined.nuclei[50, 50] == joined.nuclei[50, 76]
    assert joined.dropped == {"in one cell with another nucleus": 1}


def test_nuclei_of_unlike_size_do_not_join() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[20:40, 10:30] = 1
    labels[26:32, 31:37] = 2
    assert len(set(join_nuclei(labels, 2, gap=4))) == 2
    labels[20:40, 31:50] = 2
    assert len(set(join_nuclei(labels, 2, gap=4))) == 1


def test_cells_contain_their_nuclei_and_end_in_reach() -> None:
    image = discs([(100, 100, 12, 800)], size=300)
    found = segment(image, np.full((300, 300), 500, np.float32), DIAMETER, CELL, 0)
    assert (found.cells[found.nuclei > 0] == found.nuclei[found.nuclei > 0]).all()
    y, x = np.nonzero(found.cells)
    assert np.hypot(y - 100, x - 100).max() < 12 + CELL / 2 + 3


def test_a_stain_that_leaves_nuclei_dark_shows_cells_as_one_that_does_not() -> None:
    places = [(y, x) for y in (50, 150) for x in (50, 150)]
    nuclei = discs([(y, x, 12, 400) for y, x in places])
    whole = [(y, x, 24, 400) for y, x in places]
    areas = []
    for dark in ([], [(y, x, 12, -400) for y, x in places]):
        found = segment(nuclei, discs(whole + dark).astype(np.float32), 24, 80, 0)
        areas.append(np.bincount(found.cells.ravel())[1:])
    assert areas[1] == pytest.approx(areas[0], rel=0.05)


def test_bright_debris_leaves_dim_cells_their_size() -> None:
    """It would raise the threshold above which cells are grown, down to their nuclei."""
    cells = [(y, x, 20, 60) for y in (50, 150) for x in (50, 150)]
    nuclei = [(y, x, 8, 400) for y, x, _, _ in cells]
    debris = [(100, x, 10, 5000) for x in (30, 100, 170)]
    areas = []
    for pieces in ([], debris):
        found = segment(discs(nuclei + pieces), discs(cells + pieces).astype(np.float32), 16, 80, 0)
        labels = [found.cells[y, x] for y, x, _, _ in cells]
        assert 0 not in labels
        areas.append(np.bincount(found.cells.ravel())[labels])
    assert areas[1] == pytest.approx(areas[0], rel=0.2)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_in_noise(seed: int) -> None:
    gradient = 100 + np.linspace(0, 30, 300)[:, None] + np.zeros((300, 300))
    image = np.random.default_rng(seed).poisson(gradient).astype(np.uint16)
    assert segment(image, image.astype(np.float32), DIAMETER, CELL, 3).n_cells == 0
    assert segment(image, image.astype(np.float32), None, CELL, 3).n_cells == 0
    flat = np.full((300, 300), 7, np.uint8)
    assert segment(flat, flat.astype(np.float32), None, CELL, 3).found == 0


@pytest.mark.parametrize("radius", [5, 12, 40])
def test_size_is_estimated(radius: int) -> None:
    """Also among debris, and on haze as bright as the nuclei and far wider than they."""
    places = [
        (4.0 * radius * (k // 4 + 1), 4.0 * radius * (k % 4 + 1), radius, 400.0) for k in range(16)
    ]
    debris = (2.0 * radius, 2.0 * radius, radius / 4, 2000.0)
    image = discs([*places, debris], size=20 * radius)
    assert typical_diameter(image) == pytest.approx(2 * radius, rel=0.15)
    y, x = np.mgrid[: 20 * radius, : 20 * radius] / (10 * radius) - 1
    haze = (400 * np.exp(-4 * (y**2 + x**2))).astype(np.uint16)
    assert typical_diameter(image + haze) == pytest.approx(2 * radius, rel=0.25)
    labels, found, dropped = nuclei_of_size(image + haze)
    assert labels.max() == 16
    assert found == 16 + sum(dropped.values())


def test_nuclei_by_a_function_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its labels stay as they are, whatever their size; what cannot be used says why."""
    module = types.ModuleType("my_nuclei")
    labels = np.zeros((60, 60), np.uint16)
    labels[2:4, 2:4], labels[20:50, 20:50] = 7, 3
    module.find = lambda image, diameter: labels
    module.wrong = lambda image, diameter: labels[:9].astype(float)
    monkeypatch.setitem(sys.modules, "my_nuclei", module)
    image = np.zeros((60, 60), np.uint16)
    found = segment(image, image.astype(np.float32), None, 30, 0, load("my_nuclei:find"))
    assert (found.found, found.n_cells, found.dropped) == (2, 2, {})
    np.testing.assert_array_equal(found.nuclei > 0, labels > 0)
    with pytest.raises(InputError, match="my_nuclei:wrong"):
        load("my_nuclei:wrong")(image, None)
    for name in ("my_nuclei:absent", "no_such_package:find"):
        with pytest.raises(SettingsError, match=name):
            load(name)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "every", "least"), [("dsb2018_nuclei", 8, 0.85), ("coelho_nuclei", 5, 0.85)]
)
def test_real_nuclei(real_data: Callable[[str], Path], name: str, every: int, least: float) -> None:
    """F1 over all objects at an overlap (IoU) of 0.5; docs/segmentation.md has all images."""
    rows = benchmark.measure(real_data(name), every)
    assert benchmark.scores(rows[rows["method"] == "nuclei"])["f1_0.5"] > least


def test_scores() -> None:
    true = np.zeros((20, 20), np.int32)
    true[:10, :10], true[:10, 10:], true[15:, :] = 1, 2, 3
    found = np.zeros_like(true)
    found[:10, :6], found[:10, 10:] = 4, 2
    assert benchmark.matches(found, true) == {0.5: 2, 0.75: 1}
    row = {"found": 2, "true": 3, "hits_0.5": 2, "hits_0.75": 1}
    result = benchmark.scores(pd.DataFrame([row]))
    assert (result["precision_0.5"], result["recall_0.75"]) == (1, pytest.approx(1 / 3))
    assert result["f1_0.5"] == pytest.approx(0.8)
