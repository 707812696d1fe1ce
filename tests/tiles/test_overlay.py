"""The overlay picture: outlines on real colours, and a plate that has no fields."""

from __future__ import annotations

import shutil
from pathlib import Path

import matplotlib.image
import numpy as np

from vae_sci.config import ImagesSettings, PlateRow, SegmentationSettings
from vae_sci.contracts import FIELDS
from vae_sci.report.overlay import CELL, draw_overlay


def test_overlay_shows_outlines(made: Path, tmp_path: Path) -> None:
    fields = FIELDS.read(made / "images" / "tiny1.parquet")
    FIELDS.write(fields[fields["well"] == fields["well"].iloc[0]], tmp_path / "images/P.parquet")
    row = PlateRow(plate="P", images="images", platemap="map.csv")
    draw_overlay(row, tmp_path, SegmentationSettings(), ImagesSettings())
    picture = matplotlib.image.imread(tmp_path / "ledger" / "P_segmentation.png")[..., :3]
    ink = np.array([int(CELL[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    assert (np.abs(picture - ink).max(axis=2) < 0.02).sum() > 1000
    assert (tmp_path / "ledger" / "P_segmentation.svg").exists()


def test_a_plate_without_fields_has_a_picture_too(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "images", tmp_path / "images")
    fields = FIELDS.read(made / "images" / "tiny1.parquet")
    FIELDS.write(fields[:0], tmp_path / "images" / "tiny1.parquet")
    row = PlateRow(plate="tiny1", images="images", platemap="map.csv")
    draw_overlay(row, tmp_path, SegmentationSettings(), ImagesSettings())
    assert (tmp_path / "ledger" / "tiny1_segmentation.png").exists()
