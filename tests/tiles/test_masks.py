"""Masks of the user's own go in unchanged: label TIFFs and OME-Zarr labels; what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from vae_sci.config import (
    ImagesSettings,
    PlateRow,
    QualitySettings,
    SegmentationSettings,
    TilesSettings,
    read_plates,
)
from vae_sci.contracts import FIELDS, TILES
from vae_sci.errors import InputError, SettingsError
from vae_sci.images.index import index_plate
from vae_sci.images.masks import find_masks, read_labels
from vae_sci.images.watch import digest
from vae_sci.report.overlay import draw_overlay
from vae_sci.tiles.make import make_tiles
from vae_sci.tiles.quality import select_cells
from vae_sci.tiles.store import open_store

SIZE = 16


def draw_labels(seed: int) -> np.ndarray:
    """A field of cells of odd shapes, in pieces and with holes, numbered with gaps and beyond 16
    bits; one is cut at the border."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((60, 80), np.uint32)
    for k, (y, x) in enumerate([(0, 4), (14, 20), (20, 40), (30, 60), (44, 24)]):
        shape = rng.random((9, 11)) < 0.7
        shape[4, 5] = True
        labels[y : y + 9, x : x + 11][shape] = (7, 3, 70_000, 12, 5)[k] + 100 * seed
    labels[0, 8] = 7 + 100 * seed
    return labels


def tile(row: PlateRow, results: Path) -> tuple[pd.DataFrame, Any]:
    """Table and masks of the plate's tiles."""
    fields = results / "images" / f"{row.plate}.parquet"
    index_plate(row, ImagesSettings(), fields)
    make_tiles(row, fields, TilesSettings(size=SIZE), ImagesSettings(), 0, results)
    no_limits = QualitySettings(**dict.fromkeys(QualitySettings.model_fields))
    select_cells(results, row.plate, no_limits)
    store: Any = open_store(results / "tiles" / f"{row.plate}.zarr")
    return TILES.read(results / "tiles" / f"{row.plate}.parquet"), store["masks"][:]


def check(table: pd.DataFrame, masks: Any, labels: dict[str, np.ndarray], results: Path) -> None:
    """Every kept cell has its label's number and exactly its pixels; every label is counted."""
    assert len(table) == 4 * len(labels)
    for row, mask in zip(table.itertuples(), masks, strict=True):
        _, well, _, name = str(row.cell_id).split("/")
        label = int(name)
        y, x = int(row.y0), int(row.x0)
        window = labels[well][y : y + SIZE, x : x + SIZE]
        np.testing.assert_array_equal(mask == 1, window == label)
        np.testing.assert_array_equal(mask == 2, (window > 0) & (window != label))
        assert row.area == (labels[well] == label).sum()
        assert np.isnan(row.nucleus_area)
    steps = json.loads((results / "ledger" / "P.json").read_text())["steps"]
    step = next(step for step in steps if step["step"] == "cells")
    assert step["found"] == sum(len(np.unique(part)) - 1 for part in labels.values())
    assert step["dropped"] == {"cut at border": len(labels)}


@pytest.fixture
def tiffs(tmp_path: Path) -> tuple[PlateRow, dict[str, np.ndarray]]:
    """Two fields as TIFF, and a label TIFF for each beside others."""
    labels = {"B02": draw_labels(0), "C03": draw_labels(1)}
    rng = np.random.default_rng(2)
    for folder in ("raw", "masks"):
        (tmp_path / folder).mkdir()
    for well, mask in labels.items():
        for channel in (1, 2):
            image = rng.integers(100, 900, mask.shape).astype(np.uint16)
            tifffile.imwrite(tmp_path / "raw" / f"P_{well}_s1_w{channel}.tif", image)
        tifffile.imwrite(tmp_path / "masks" / f"P_{well}_s1_cells.tif", mask)
        tifffile.imwrite(tmp_path / "masks" / f"P_{well}_s1_nuclei.tif", mask)
    (tmp_path / "map.csv").write_text("well,control\nB02,1\nC03,0\n")
    row = PlateRow(
        plate="P",
        images=str(tmp_path / "raw"),
        masks=str(tmp_path / "masks" / "*_cells.tif"),
        masks_layout=r"_(?P<well>[A-P]\d\d)_s(?P<site>\d)_",
        platemap=str(tmp_path / "map.csv"),
    )
    return row, labels


def test_label_tiffs(tiffs: tuple[PlateRow, dict[str, np.ndarray]], tmp_path: Path) -> None:
    """No size of a pixel is known here: none is needed."""
    row, labels = tiffs
    check(*tile(row, tmp_path), labels, tmp_path)
    draw_overlay(row, tmp_path, SegmentationSettings(), ImagesSettings())
    assert (tmp_path / "ledger" / "P_segmentation.png").exists()
    before = digest(row)
    mask = tmp_path / "masks" / "P_B02_s1_cells.tif"
    tifffile.imwrite(mask, labels["B02"], compression="zlib")
    assert digest(row) != before


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_inside_ome_zarr(tmp_path: Path, version: str) -> None:
    """A plate whose fields hold their labels, as napari and Fractal write them."""
    labels = {"B03": draw_labels(0), "C11": draw_labels(1)}
    plate = zarr.create_group(tmp_path / "P.zarr", zarr_format=3 if version == "0.5" else 2)

    def write(path: str, told: dict[str, Any], data: np.ndarray | None = None) -> None:
        group = plate.require_group(path) if path else plate
        group.attrs.update({"ome": {"version": version, **told}} if version == "0.5" else told)
        if data is not None:
            group.create_array("0", data=data, chunks=(*[1] * (data.ndim - 2), 32, 32))

    def scales(axes: str) -> dict[str, Any]:
        listed = [{"name": axis} for axis in axes]
        return {"multiscales": [{"axes": listed, "datasets": [{"path": "0"}]}]}

    names = {"rows": [{"name": "B"}, {"name": "C"}], "columns": [{"name": "3"}, {"name": "11"}]}
    wells = [{"path": f"{w[0]}/{int(w[1:])}", "rowIndex": k, "columnIndex": k}
             for k, w in enumerate(labels)]  # fmt: skip
    write("", {"plate": {**names, "wells": wells}})
    rng = np.random.default_rng(3)
    for well, mask in zip(wells, labels.values(), strict=True):
        write(well["path"], {"well": {"images": [{"path": "0"}]}})
        image = rng.integers(100, 900, (2, *mask.shape)).astype(np.uint16)
        write(f"{well['path']}/0", scales("cyx"), image)
        write(f"{well['path']}/0/labels", {"labels": ["cells"]})
        write(f"{well['path']}/0/labels/cells", {**scales("zyx"), "image-label": {}}, mask[None])
    (tmp_path / "map.csv").write_text("well,control\nB03,1\nC11,0\n")
    row = PlateRow(
        plate="P",
        images=str(tmp_path / "P.zarr"),
        masks="labels/cells",
        platemap=str(tmp_path / "map.csv"),
    )
    check(*tile(row, tmp_path), labels, tmp_path)
    with pytest.raises(InputError, match=r"labels/absent"):
        tile(row.model_copy(update={"masks": "labels/absent"}), tmp_path)


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (np.zeros((60, 79), np.uint16), "60 × 79 pixels"),
        (np.zeros((60, 80), np.float32), "float32"),
        (np.full((60, 80), -1, np.int16), "negative numbers, down to -1"),
        (np.eye(60, 80, dtype=np.uint8) * 255, "0 and 255 alone"),
        (np.zeros((2, 60, 80), np.uint8), "2 channels"),
    ],
)
def test_what_is_no_mask_of_the_field(tmp_path: Path, mask: np.ndarray, found: str) -> None:
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, mask, photometric="minisblack")
    with pytest.raises(InputError, match=r"mask\.tif") as error:
        read_labels(str(path), (60, 80))
    assert found in str(error.value)
    assert "60 × 80" in str(error.value)


def test_every_field_has_one_mask(
    tiffs: tuple[PlateRow, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    row, _ = tiffs
    index_plate(row, ImagesSettings(), tmp_path / "fields.parquet")
    fields = FIELDS.read(tmp_path / "fields.parquet")
    every = row.model_copy(update={"masks": str(tmp_path / "masks")})
    with pytest.raises(InputError, match="one file per well"):
        find_masks(every, fields, ImagesSettings())
    inside = row.model_copy(update={"masks": "labels/cells"})
    with pytest.raises(InputError, match="OME-Zarr images, since masks is labels/cells"):
        find_masks(inside, fields, ImagesSettings())
    (tmp_path / "masks" / "P_C03_s1_cells.tif").unlink()
    with pytest.raises(InputError, match="none for 1 of 2, the first well C03, site 1"):
        find_masks(row, fields, ImagesSettings())


def test_ready_made_tiles_have_no_fields_to_outline(tmp_path: Path) -> None:
    plates = tmp_path / "plates.tsv"
    plates.write_text("plate\tkind\ttable\tmasks\nP\ttiles\tcells.csv\tmasks\n")
    with pytest.raises(SettingsError, match="no fields that masks could outline"):
        read_plates(plates)
