"""What users get wrong, through the command line: one clear error, no traceback, nothing lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

pytestmark = pytest.mark.slow
SIZE = 96  # pixels, edge of a made-up field


def vae_sci(
    folder: Path, *arguments: str, largest_file: int | None = None
) -> subprocess.CompletedProcess[str]:
    """`vae-sci …` in `folder`; `largest_file` bytes is where the disk is full for it."""

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        [sys.executable, "-m", "vae_sci", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=limit,
    )


def refused(done: subprocess.CompletedProcess[str], *told: str) -> None:
    """The three parts, what they must name, and no traceback."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert all(part in done.stderr for part in ("required:", "found:", "to do:")), done.stderr
    assert [text for text in told if text not in done.stderr] == [], done.stderr


def field(seed: int) -> np.ndarray:
    """A field (SIZE, SIZE) of four round nuclei on a dim ground, counts."""
    y, x = np.mgrid[:SIZE, :SIZE]
    light = np.full((SIZE, SIZE), 100.0)
    for cy, cx in ((28, 30), (30, 66), (64, 28), (66, 68)):
        light += 900 * (np.hypot(y - cy, x - cx) < 8)
    return np.random.default_rng(seed).poisson(light).astype(np.uint16)


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """A project with one plate of 3 wells × 2 channels."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, well in enumerate(("B02", "B03", "B04")):
        for channel in (1, 2):
            tifffile.imwrite(raw / f"P_{well}_s1_w{channel}.tif", field(10 * number + channel))
    (tmp_path / "map.csv").write_text(
        "well,treatment,control\nB02,DMSO,true\nB03,drug,false\nB04,drug,false\n"
    )
    (tmp_path / "plates.tsv").write_text("plate\timages\tplatemap\nP\traw\tmap.csv\n")
    return tmp_path


PIXEL = '{"pixel_size_um": 0.5}'
DROP = '{"pixel_size_um": 0.5, "broken_fields": "drop"}'
SMALL = '{"size": 16, "segmentation": {"nucleus_diameter_um": 8, "cell_diameter_um": 12}}'


def index(project: Path, settings: str = PIXEL) -> subprocess.CompletedProcess[str]:
    return vae_sci(
        project, "index", "--plate", "P", "--plates", "plates.tsv", "--settings", settings
    )


def tiles(
    project: Path, settings: str = SMALL, images: str = PIXEL, **limits: int
) -> subprocess.CompletedProcess[str]:
    return vae_sci(
        project,
        *("tiles", "--plate", "P", "--plates", "plates.tsv"),
        *("--settings", settings, "--images", images),
        **limits,
    )


def test_the_plate_itself_is_good(plate: Path):
    assert index(plate).returncode == 0
    done = tiles(plate)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_parquet(plate / "results" / "measured" / "cells" / "P.parquet")) == 12


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('{"sise": 64}', ["unknown key 'sise'", "did you mean 'size'?"]),
        ('{"segmentation": {"nucleus_chanel": "a"}}', ["did you mean 'nucleus_channel'?"]),
        ('{"size": "large"}', ["size", "valid number", "'large'"]),
        ('{"size": -64}', ["size", "greater than 0", "-64"]),
        ('{"unit": "inch"}', ["unit", "'pixel' or 'um'", "'inch'"]),
        ('{"size": 64', ["JSON"]),
        ("no/such.yaml", ["no/such.yaml"]),
    ],
)
def test_a_setting_that_does_not_exist_or_fit(plate: Path, settings: str, told: list[str]):
    refused(tiles(plate, settings), *told)


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


BREAK: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no column control": (
        lambda p: rewrite(p / "map.csv", "control", "kontrol"),
        ["column 'control'", "kontrol", "map.csv"],
    ),
    "two rows for a well": (
        lambda p: rewrite(p / "map.csv", "B03,drug,false", "B02,drug,false"),
        ["one row per well", "B02", "line 3", "map.csv"],
    ),
    "a well that the platemap does not list": (
        lambda p: rewrite(p / "map.csv", "B03", "C03"),
        ["every imaged well", "B03"],
    ),
    "no platemap": (lambda p: (p / "map.csv").unlink(), ["map.csv", "plates.tsv"]),
    "names that fit no layout": (
        lambda p: [
            file.rename(p / "raw" / f"image{number}.tif")
            for number, file in enumerate(sorted((p / "raw").iterdir()))
        ],
        ["imagexpress", "none of 6", "image"],
    ),
    "no image": (
        lambda p: [f.unlink() for f in (p / "raw").iterdir()],
        ["image files", "none at raw"],
    ),
    "a link that leads nowhere": (
        lambda p: (
            (p / "raw" / "P_B03_s1_w2.tif").unlink(),
            (p / "raw" / "P_B03_s1_w2.tif").symlink_to(p / "gone.tif"),
        ),
        ["P_B03_s1_w2.tif", "no such file"],
    ),
    "no folder": (lambda p: shutil.rmtree(p / "raw"), ["image files", "none at raw"]),
    "a channel is missing": (
        lambda p: (p / "raw" / "P_B03_s1_w2.tif").unlink(),
        ["same channels", "well B03"],
    ),
    "channels of different shape": (
        lambda p: tifffile.imwrite(p / "raw" / "P_B03_s1_w2.tif", field(0)[:40]),
        ["channels of one size", "P_B03_s1_w2.tif: 40 × 96"],
    ),
    "a truncated file": (
        lambda p: os.truncate(p / "raw" / "P_B03_s1_w2.tif", 9000),
        ["P_B03_s1_w2.tif", "truncated"],
    ),
    "an empty file": (
        lambda p: os.truncate(p / "raw" / "P_B03_s1_w2.tif", 0),
        ["P_B03_s1_w2.tif", "0 bytes"],
    ),
    "an image of floats": (
        lambda p: tifffile.imwrite(p / "raw" / "P_B03_s1_w2.tif", field(0).astype(np.float32)),
        ["raw counts", "float32", "P_B03_s1_w2.tif"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("broken", BREAK)
def test_a_plate_that_cannot_be_indexed(plate: Path, broken: str):
    damage, told = BREAK[broken]
    damage(plate)
    refused(index(plate), *told)
    assert not (plate / "results" / "images" / "P.parquet").exists()


@pytest.mark.parametrize(
    "broken",
    [
        "a channel is missing",
        "channels of different shape",
        "a truncated file",
        "an empty file",
        "an image of floats",
    ],
)
def test_a_broken_field_is_a_ledger_entry_where_the_settings_say_so(plate: Path, broken: str):
    BREAK[broken][0](plate)
    done = index(plate, DROP)
    assert done.returncode == 0, done.stderr
    assert "B03" in done.stderr
    assert tiles(plate, images=DROP).returncode == 0
    steps = json.loads((plate / "results" / "measured" / "ledger" / "P.json").read_text())["steps"]
    assert steps[0] == {
        "step": "fields",
        "unit": "field",
        "found": 3,
        "kept": 2,
        "dropped": {"broken": 1},
    }
    fields = pd.read_parquet(plate / "results" / "images" / "P.parquet")
    reasons = fields.set_index("well")["reason"]
    assert reasons.loc[["B02", "B04"]].isna().all()
    assert reasons.loc[["B03"]].str.contains("B03").all()


def test_a_broken_first_field_costs_no_good_one(plate: Path):
    (plate / "raw" / "P_B02_s1_w2.tif").unlink()
    refused(index(plate), "here 1, 2", "found: 1 in well B02")
    assert index(plate, DROP).returncode == 0
    fields = pd.read_parquet(plate / "results" / "images" / "P.parquet")
    assert fields.groupby("well")["verdict"].first().to_dict() == {
        "B02": "broken",
        "B03": "ok",
        "B04": "ok",
    }


def test_what_the_machine_cannot_read_now_is_never_dropped(plate: Path):
    """Root reads everything: a loop of links stands for a failing disk."""
    path = plate / "raw" / "P_B03_s1_w2.tif"
    path.unlink()
    path.symlink_to(path)
    refused(index(plate, DROP), "P_B03_s1_w2.tif", "Too many levels of symbolic links")


def test_a_plate_on_which_no_cell_is_found(plate: Path):
    for path in (plate / "raw").iterdir():
        tifffile.imwrite(path, np.random.default_rng(0).poisson(100, (SIZE, SIZE)).astype("uint16"))
    assert index(plate).returncode == 0
    refused(tiles(plate), "at least one cell on plate P", "nucleus_diameter_um")
    assert not (plate / "results" / "measured" / "cells" / "P.parquet").exists()


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with ready-made tiles: plates of grey levels in steps of 16 and of 1, one with a
    third channel, and a model trained on the first."""
    folder = tmp_path_factory.mktemp("stacks")
    random = np.random.default_rng(0)
    for name, step, channels in (("P", 16, 2), ("fine", 1, 2), ("three", 16, 3)):
        counts = random.poisson(200, (24, channels, 16, 16)).astype(np.uint16) * step
        tifffile.imwrite(folder / f"{name}.ome.tif", counts, ome=True, metadata={"axes": "TCYX"})
        rows = [f"{name}.ome.tif,{i},B0{2 + i % 2},{i},{i}.5" for i in range(24)]
        (folder / f"{name}.csv").write_text("\n".join(["stack,index,well,cell,y", *rows]) + "\n")
        (folder / f"{name}.tsv").write_text(f"plate\tkind\ttable\n{name}\ttiles\t{name}.csv\n")
        done = vae_sci(
            folder,
            *("tiles", "--plate", name, "--plates", f"{name}.tsv", "--settings", '{"size": 16}'),
        )
        assert done.returncode == 0, done.stderr
        done = vae_sci(folder, "select", "--plate", name, "--settings", '{"noise": null}')
        assert done.returncode == 0, done.stderr
    done = train(folder)
    assert done.returncode == 0, done.stderr
    return folder


MODEL = '{"name": "vae", "latent_dim": 2, "widths": [8]}'


def train(
    folder: Path, epochs: int = 1, name: str = "vae", plates: str = "P.tsv", **limits: int
) -> subprocess.CompletedProcess[str]:
    return vae_sci(
        folder,
        *("train", "--plates", plates, "--settings", MODEL.replace('"vae"', f'"{name}"')),
        *("--log", "train.log"),
        *("--training", json.dumps({"epochs": epochs, "batch_size": 8}), "--device", "cpu"),
        **limits,
    )


@pytest.fixture
def project(stacks: Path, tmp_path: Path) -> Path:
    """A copy of `stacks` to be damaged."""
    return Path(shutil.copytree(stacks, tmp_path / "project"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("P.ome.tif,5,", "P.ome.tif,nan,", ["'index'", "'nan'", "line 7 of P.csv"]),
        ("P.ome.tif,5,", "P.ome.tif,,", ["'index'", "line 7 of P.csv"]),
        (",5,5.5", ",5,nan", ["'y'", "'nan'", "line 7 of P.csv"]),
        ("P.ome.tif,5,", "gone.ome.tif,5,", ["gone.ome.tif", "no such file"]),
        ("P.ome.tif,23,", "P.ome.tif,24,", ["positions below 24", "24 in line 25 of P.csv"]),
        ("P.ome.tif,5,", "P.ome.tif,4,", ["stack", "again in line 7 of P.csv"]),
        ("B03,5,", "B03,3,", ["cell_id", "P/B03/-/3 again in line 7 of P.csv"]),
        ("stack,index", "stack,place", ["column 'index'", "P.csv"]),
    ],
)
def test_a_table_of_tiles_that_does_not_hold(project: Path, old: str, new: str, told: list[str]):
    before = (project / "results" / "measured" / "cells" / "P.parquet").read_bytes()
    rewrite(project / "P.csv", old, new)
    done = vae_sci(
        project, "tiles", "--plate", "P", "--plates", "P.tsv", "--settings", '{"size": 16}'
    )
    refused(done, *told)
    assert (project / "results" / "measured" / "cells" / "P.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("three", ["channels ['1', '2']", "['1', '2', '3']", "three.zarr"]),
        ("fine", ["(step 16)", "fine.zarr", "fine/B0"]),
    ],
)
def test_tiles_of_another_kind_than_the_model_was_trained_on(
    stacks: Path, name: str, told: list[str]
):
    refused(vae_sci(stacks, "embed", "--plate", name, "--device", "cpu"), *told)
    assert not (stacks / "results" / "embeddings" / "vae" / f"{name}.parquet").exists()


def test_tiles_of_coarser_grey_levels_than_the_model_was_trained_on(project: Path):
    done = train(project, plates="fine.tsv", name="fine")
    assert done.returncode == 0, done.stderr
    done = vae_sci(project, "embed", "--plate", "P", "--model", "fine", "--device", "cpu")
    refused(done, "counts in steps of 1", "all in steps of 16", "P.zarr")


def test_a_table_that_belongs_to_another_store(project: Path):
    path = project / "results" / "tiles" / "P.parquet"
    table = pd.read_parquet(path)
    table["store_digest"] = "0" * 32
    table.to_parquet(path)
    for done in (
        train(project, name="again"),
        vae_sci(project, "embed", "--plate", "P", "--device", "cpu"),
    ):
        refused(done, "the table that belongs to", "P.zarr", "tile the plate again")


@pytest.mark.parametrize("file", ["model.safetensors", "model.json"])
def test_a_damaged_model(project: Path, file: str):
    path = project / "results" / "models" / "vae" / file
    os.truncate(path, path.stat().st_size // 2)
    refused(vae_sci(project, "embed", "--plate", "P", "--device", "cpu"), "a trained model", "vae")


LONG = 100_000  # epochs that no test waits for


@pytest.fixture
def training(project: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A training that goes on, and the state that it has written after its first epoch."""
    command = (
        *("train", "--plates", "P.tsv", "--settings", MODEL, "--device", "cpu", "--training"),
        json.dumps({"epochs": LONG, "batch_size": 8}),
    )
    folder, until = project / "results" / "models" / "vae", time.monotonic() + 120
    running = subprocess.Popen(
        [sys.executable, "-m", "vae_sci", *command], cwd=project, stderr=subprocess.DEVNULL
    )
    try:
        while not (state := list(folder.glob(".training-*.safetensors"))):
            assert running.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        yield running, state[0]
    finally:
        running.kill()
        running.wait()


def test_a_second_training_of_one_model_is_told_of_the_first(
    training: tuple[subprocess.Popen[bytes], Path], project: Path
):
    running, _ = training
    refused(train(project, LONG), "one process at a time", f"process {running.pid}")


def test_a_damaged_checkpoint(training: tuple[subprocess.Popen[bytes], Path], project: Path):
    running, state = training
    running.kill()
    running.wait()
    os.truncate(state, state.stat().st_size // 2)
    refused(train(project, LONG), "state of an interrupted training", state.name)


def left_behind(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


def test_a_full_disk_while_tiles_are_written(project: Path):
    before = (project / "results" / "measured" / "cells" / "P.parquet").read_bytes()
    done = vae_sci(
        project,
        *("tiles", "--plate", "P", "--plates", "P.tsv", "--settings", '{"size": 16}'),
        largest_file=4000,
    )
    refused(done, "room to write", "P.zarr", "MiB free", "run again")
    assert (project / "results" / "measured" / "cells" / "P.parquet").read_bytes() == before
    assert not left_behind(project)


def test_a_full_disk_while_a_checkpoint_is_written(project: Path):
    refused(train(project, epochs=2, largest_file=4000), "room to write", ".safetensors")
    assert not left_behind(project)
    done = train(project, epochs=2)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", ["index", "embed"])
def test_a_full_disk_while_a_table_is_written(plate: Path, project: Path, room: str):
    if room == "index":
        done = vae_sci(
            plate,
            *("index", "--plate", "P", "--plates", "plates.tsv", "--settings", PIXEL),
            largest_file=1000,
        )
        refused(done, "room to write", "P.parquet")
    else:
        done = vae_sci(project, "embed", "--plate", "P", "--device", "cpu", largest_file=1000)
        refused(done, "room to write", "P.parquet")
    assert not left_behind(plate)
    assert not left_behind(project)


def test_a_disk_that_is_really_full(project: Path, tmp_path: Path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        done = vae_sci(
            project,
            *("tiles", "--plate", "three", "--plates", "three.tsv", "--settings"),
            *('{"size": 16}', "--results", str(small)),
        )
        refused(done, "room to write", "No space left on device; 0 MiB free")
        assert not left_behind(small)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images for calibration and what is none."""
    folder = tmp_path_factory.mktemp("frames")
    rng = np.random.default_rng(0)
    light = np.linspace(50, 500, 160)[:, None] * np.ones(160)
    for k in range(3):
        tifffile.imwrite(folder / f"image{k}.tif", rng.poisson(light).astype(np.uint16))
        dark = np.rint(rng.normal(100, 3, (160, 160)))
        tifffile.imwrite(folder / f"dark{k}.tif", dark.astype(np.uint16))
    two = rng.poisson(light, (2, 160, 160)).astype(np.uint16)
    tifffile.imwrite(folder / "two.ome.tif", two, ome=True, metadata={"axes": "CYX"})
    tifffile.imwrite(folder / "float.tif", light.astype(np.float32))
    tifffile.imwrite(folder / "small.tif", rng.poisson(99, (40, 40)).astype(np.uint16))
    tifffile.imwrite(folder / "black.tif", np.zeros((160, 160), np.uint16))
    (folder / "notes.tif").write_text("not an image")
    return folder


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["gone.tif"], ["gone.tif", "no such file"]),
        (["notes.tif"], ["notes.tif"]),
        (["float.tif"], ["raw counts", "float32"]),
        (["image0.tif", "two.ome.tif"], ["1 channels", "two.ome.tif"]),
        (["small.tif"], ["40 patches", "channel 0"]),
        (["black.tif"], ["40 patches", "100.0% are 0"]),
        (["image0.tif", "--repeated"], ["two frames", "image0.tif"]),
        (["image0.tif", "small.tif", "--repeated"], ["frames of one size", "small.tif"]),
        (["image0.tif", "--dark", "black.tif"], ["not cut at zero", "100% of them 0"]),
        (["image0.tif", "--dark", "dark0.tif", "small.tif"], ["frames of one size", "small.tif"]),
        (["image0.tif", "--dark", "two.ome.tif"], ["dark frames of one channel", "2 channels"]),
    ],
)
def test_images_that_cannot_be_calibrated(
    frames: Path, tmp_path: Path, given: list[str], told: list[str]
):
    refused(vae_sci(frames, "calibrate", *given, "--out", str(tmp_path / "out")), *told)
    assert not (tmp_path / "out").exists()


def test_dark_frames_as_the_shell_expands_them(frames: Path, tmp_path: Path):
    images = [f"image{k}.tif" for k in range(3)]
    dark = [f"dark{k}.tif" for k in range(3)]
    done = vae_sci(frames, "calibrate", *images, "--dark", *dark, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "calibration.json").read_text())
    assert (record["images"], record["dark"]) == (images, dark)
    assert {path.name for path in tmp_path.iterdir()} == {
        "calibration.json",
        "calibration.png",
        "calibration.svg",
    }
