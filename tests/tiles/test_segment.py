"""Segmentation against the simulator's truth, against drawn discs, and against nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from vae_sci.config import PlateRow
from vae_sci.contracts import TILES
from vae_sci.tiles.segment import find_nuclei, join_nuclei, segment

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


def test_several_nuclei_share_a_cell(plate: tuple[PlateRow, Path], made: Path) -> None:
    """In the wells that block division no true cell gives two tiles."""
    _, folder = plate
    table = TILES.read(made / "tiles" / "tiny1.parquet")
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
    labels, count = find_nuclei(image, DIAMETER)
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


@pytest.mark.parametrize("seed", range(3))
def test_nothing_in_noise(seed: int) -> None:
    gradient = 100 + np.linspace(0, 30, 300)[:, None] + np.zeros((300, 300))
    image = np.random.default_rng(seed).poisson(gradient).astype(np.uint16)
    assert segment(image, image.astype(np.float32), DIAMETER, CELL, 3).n_cells == 0
    flat = np.full((300, 300), 7, np.uint8)
    assert segment(flat, flat.astype(np.float32), DIAMETER, CELL, 3).found == 0


@pytest.mark.realdata
def test_real_nuclei(real_data: Callable[[str], Path]) -> None:
    """Median F1 at an overlap (IoU) of 0.5, with each image's own typical diameter."""
    folder = real_data("dsb2018_nuclei")
    scores = []
    for path in sorted((folder / "images").glob("*.tif"))[::4]:
        truth = tifffile.imread(folder / "masks" / path.name)
        sizes = np.bincount(truth.ravel())[1:]
        labels, count = find_nuclei(tifffile.imread(path), 2 * np.sqrt(np.median(sizes) / np.pi))
        both = np.zeros((count + 1, len(sizes) + 1))
        np.add.at(both, (labels.ravel(), truth.ravel()), 1)
        union = both.sum(1)[:, None] + both.sum(0)[None] - both
        matches = (both / np.maximum(union, 1))[1:, 1:] > 0.5
        scores.append(2 * matches.sum() / (count + len(sizes)))
    assert np.median(scores) > 0.85
