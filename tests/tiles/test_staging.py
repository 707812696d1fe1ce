"""Tiling by several threads, and after being killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vae_sci.config import ImagesSettings, PlateRow, TilesSettings
from vae_sci.errors import InputError
from vae_sci.images.index import index_plate
from vae_sci.tiles.make import make_tiles

CHANNELS = ImagesSettings(channels={"1": "nucleus", "2": "mitochondria", "3": "fibres"})
PLATE = "tiny1"


def contents(results: Path) -> dict[str, bytes]:
    """Every file that tiling made, by name."""
    folders = (results / "tiles", results / "measured")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(results)): file.read_bytes() for file in files}


@pytest.fixture
def indexed(plate: tuple[PlateRow, Path], tmp_path: Path) -> Path:
    """A folder of results in which the plate has its table of fields, and nothing else."""
    index_plate(plate[0], CHANNELS, tmp_path / "images" / f"{PLATE}.parquet")
    return tmp_path


def tile(row: PlateRow, results: Path, threads: int = 1) -> list[int]:
    """Tile the plate; the number of fields that were done at every step."""
    progress: list[int] = []
    fields, settings = results / "images" / f"{PLATE}.parquet", TilesSettings(size=64)
    make_tiles(
        row, fields, settings, CHANNELS, 0, results, threads, lambda n, _: progress.append(n)
    )
    return progress


def test_two_threads_write_the_bytes_of_one(
    plate: tuple[PlateRow, Path], made: Path, indexed: Path
) -> None:
    tile(plate[0], indexed, threads=2)
    alone = contents(made)
    del alone[f"tiles/{PLATE}.parquet"]  # of `select_cells`
    assert contents(indexed) == alone


def test_an_error_in_another_thread_names_its_file(
    plate: tuple[PlateRow, Path], indexed: Path
) -> None:
    lost = Path(plate[1] / "images" / f"{PLATE}_C03_s1_w2.tif")
    aside = lost.rename(lost.with_suffix(".aside"))
    try:
        with pytest.raises(InputError, match=lost.name):
            tile(plate[0], indexed, threads=2)
    finally:
        aside.rename(lost)
    # What was cut before stays for the next run.
    staged = list((indexed / "tiles").rglob("0*.field"))
    assert tile(plate[0], indexed) == list(range(len(staged) + 1, 9))


def test_killed_it_goes_on_where_it_was(
    plate: tuple[PlateRow, Path], made: Path, indexed: Path
) -> None:
    (indexed / "plates.tsv").write_text(
        "plate\timages\tplatemap\tbatch\n"
        + "\t".join([PLATE, plate[0].images or "", plate[0].platemap or "", "first"])
    )
    command = [
        *(sys.executable, "-m", "vae_sci", "tiles", "--plate", PLATE, "--threads", "2"),
        *("--plates", str(indexed / "plates.tsv"), "--results", str(indexed)),
        *("--settings", '{"size": 64}', "--images", CHANNELS.model_dump_json()),
    ]
    run = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list((indexed / "tiles").rglob("0*.field"))) < 3:
        assert run.poll() is None, run.stderr and run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    staged = len(list((indexed / "tiles").rglob("0*.field")))
    assert staged < 8, "killed too late to show anything"
    assert tile(plate[0], indexed)[0] > staged
    alone = contents(made)
    del alone[f"tiles/{PLATE}.parquet"]
    assert {k: v for k, v in contents(indexed).items() if k in alone} == alone
