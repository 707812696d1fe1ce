"""A plate's digest changes with its raw files, and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vae_sci.config import PlateRow
from vae_sci.images.watch import _stacks_by_plate, digest


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a.tif", "b.TIFF", "notes.txt", ".hidden.tif"):
        (tmp_path / name).write_bytes(b"12345")
    return tmp_path


def of(images: Path | str) -> str:
    return digest(PlateRow(plate="P", images=str(images), platemap="map.csv"))


def test_the_digest_tells_content_time_name_and_number(images: Path):
    seen = [of(images)]
    (images / "a.tif").write_bytes(b"123456")
    seen.append(of(images))
    os.utime(images / "a.tif", ns=(0, 1))
    seen.append(of(images))
    (images / "a.tif").rename(images / "c.tif")
    seen.append(of(images))
    (images / "c.tif").unlink()
    seen.append(of(images))
    assert len(set(seen)) == len(seen)


def test_what_is_no_image_does_not_count(images: Path):
    before = of(images)
    (images / "notes.txt").write_bytes(b"more")
    (images / ".hidden.tif").unlink()
    (images / "folder.tif").mkdir()
    assert of(images) == before


def test_a_glob_watches_the_files_that_fit_it(images: Path):
    before = of(images / "*.tif")
    (images / "b.TIFF").unlink()
    assert of(images / "*.tif") == before
    (images / "a.tif").unlink()
    assert of(images / "*.tif") != before


def test_a_folder_that_is_not_there_has_a_digest_too(images: Path):
    assert of(images / "nowhere") == of(images / "elsewhere")


def test_ready_made_tiles_are_watched_stack_by_stack_of_their_plate(images: Path):
    table = images / "cells.csv"
    table.write_text(
        " tile_file, plate,well\na.tif,P,B02\na.tif,P,B03\nb.TIFF,Q,B02\ngone.tif,P,B02\n"
    )

    def of_plate(plate: str) -> str:
        _stacks_by_plate.cache_clear()
        columns = {"tile_file": "stack"}
        return digest(PlateRow(plate=plate, kind="tiles", table=str(table), columns=columns))

    before = of_plate("P"), of_plate("Q")
    (images / "a.tif").write_bytes(b"other")
    os.utime(images / "a.tif", ns=(0, 1))
    assert of_plate("P") != before[0]
    assert of_plate("Q") == before[1]
