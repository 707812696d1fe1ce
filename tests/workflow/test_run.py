"""The whole workflow, run for real on the tiny simulated screen."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest

from vae_sci import open_results
from vae_sci.contracts import ASSIGNED, CONTRACTS, DROPPED, TILES, Contract
from vae_sci.files import exclusive
from vae_sci.images.flat_field import read_flat_field
from vae_sci.tiles.store import open_store

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PLATES = ("tiny1", "tiny2")
UP_TO_TILES = ("index", "flat_field", "tiles", "select")
AFTER_PHENOTYPES = {"score", "morph", "compare", "figures", "explorer"}
AFTER_TILES = {"train", "embed", "generate", "diagnose", "phenotypes", *AFTER_PHENOTYPES}
AFTER_SELECT = {"draw_quality", *AFTER_TILES}


def snakemake(
    folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def rules_to_run(project: Path, *config: str) -> set[str]:
    """Rules that a dry run would execute."""
    given = ("--config", *config) if config else ()
    done = snakemake(project, "-n", "--configfile", "tiny.yaml", *given)
    assert done.returncode == 0, done.stdout + done.stderr
    return rules_in(done)


def rules_in(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Rules that the output of a dry run names."""
    text = done.stdout + done.stderr
    return set(re.findall(r"^(?:local)?rule (\w+):", text, flags=re.M)) - {"all"}


def test_a_changed_calibration_trains_again_what_is_told_of_it(tiny_project: Path, tmp_path: Path):
    path = tmp_path / "calibration.json"
    path.write_text("{}")
    likelihood = f"model={{likelihood: {{name: camera, calibration: {path}}}}}"
    done = snakemake(tiny_project, "-n", "--configfile", "tiny.yaml", "--config", likelihood)
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = re.findall(r"rule train:\s+input: (.*)", done.stdout + done.stderr)
    assert str(path) in job


def test_a_further_model_is_trained_and_compared_and_leaves_the_first_alone(tiny_project: Path):
    done = snakemake(
        tiny_project,
        *("-n", "--configfile", "tiny.yaml", "--config"),
        "models={plain: {model: {decoder: {skip: none}}}}",
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    trained = re.findall(r"rule train:.*?wildcards: model=(\w+)", text, flags=re.S)
    assert trained == ["plain"]
    assert {"diagnose", "compare"} <= rules_in(done)


@pytest.mark.parametrize(
    # A plate is assigned on demand, by `vae-sci assign`.
    "contract",
    [contract for contract in CONTRACTS if contract is not ASSIGNED],
    ids=lambda c: c.path,
)
def test_every_table_keeps_its_contract(tiny_results: Path, contract: Contract):
    for plate in PLATES if "{plate}" in contract.path else ("",):
        table = contract.read(tiny_results / contract.path.format(plate=plate, model="vae"))
        # Whether anything was dropped is the images' affair.
        assert len(table) or contract is DROPPED


def test_everything_the_data_dictionary_lists_is_there(tiny_results: Path):
    listed = re.findall(r"^\| (`[^|]+) \|", (ROOT / "results" / "README.md").read_text(), re.M)
    paths: list[str] = []
    for cell in listed:
        names = re.findall(r"`([^`]+)`", cell)
        if not any("/" in name for name in names):
            continue  # a column of a table, not a file
        folder = names[0].rpartition("/")[0]
        paths += [name if "/" in name else f"{folder}/{name}" for name in names]
    paths.remove(ASSIGNED.path)
    assert len(paths) > 15
    missing = [
        path
        for path in paths
        if not list(tiny_results.glob(path.format(plate="tiny1", model="vae").rstrip("/")))
    ]
    assert not missing


@pytest.mark.parametrize("plate", PLATES)
def test_the_ledger_balances_down_to_the_rows_of_the_table(tiny_results: Path, plate: str):
    steps = json.loads((tiny_results / "ledger" / f"{plate}.json").read_text())["steps"]
    for step in steps:
        assert step["found"] == step["kept"] + sum(step["dropped"].values())
    table = TILES.read(tiny_results / "tiles" / f"{plate}.parquet")
    store = open_store(tiny_results / "tiles" / f"{plate}.zarr")
    assert steps[-1]["kept"] == len(table)
    assert steps[-1]["found"] == store["tiles"].shape[0]


def test_no_cell_is_lost_on_the_way_and_no_well_is_in_two_parts(tiny_results: Path):
    run = open_results(tiny_results)
    tiles = [TILES.read(tiny_results / "tiles" / f"{plate}.parquet") for plate in PLATES]
    assert len(run.cells) == sum(map(len, tiles))
    assert run.cells.groupby(["plate", "well"])["split"].nunique().max() == 1
    assert run.tiles(run.cells.head(3)).shape == (3, 3, 64, 64)


def test_the_anndata_file_holds_the_same_cells(tiny_results: Path):
    table = anndata.read_h5ad(tiny_results / "phenotypes" / "vae" / "cells.h5ad")
    cells = open_results(tiny_results).cells
    assert table.obs_names.tolist() == cells["cell_id"].tolist()
    assert table.obsm["X_umap"].shape == (len(cells), 2)


def test_a_second_run_does_nothing(tiny_project: Path):
    assert rules_to_run(tiny_project) == set()


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ("phenotypes={resolutions: [0.5]}", {"phenotypes", *AFTER_PHENOTYPES}),
        ("phenotypes={labels: [treatment]}", {"score"}),
        ("report={gallery_cells: 6}", {"figures"}),
        ("report={explorer_cells: 60}", {"explorer"}),
        ("training={learning_rate: 0.0005}", AFTER_TILES),
        ("quality={focus: 0.3}", {"select", *AFTER_SELECT}),
        ("tiles={neighbours: mask}", {"tiles", "overlay", "select", *AFTER_SELECT}),
    ],
)
def test_a_changed_setting_reruns_what_depends_on_it(
    tiny_project: Path, change: str, rules: set[str]
):
    assert rules_to_run(tiny_project, change) == rules


@pytest.mark.parametrize(
    ("room", "rules"),
    [
        ("FIGURES", {"compare", "draw_quality", "figures", "overlay"}),
        ("EXPLORER", {"explorer"}),
        ("EMBED", {"embed", "phenotypes", *AFTER_PHENOTYPES}),
        ("INDEX", {"index", "flat_field", "tiles", "overlay", "select", *AFTER_SELECT}),
        ("FLAT_FIELD", {"flat_field", "tiles", "select", *AFTER_SELECT}),
    ],
)
def test_a_new_version_of_an_algorithm_reruns_what_depends_on_it(
    tiny_project: Path, tmp_path: Path, room: str, rules: set[str]
):
    """Python imports `sitecustomize` before all else: here it stands for another version."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import vae_sci.algorithms\nvae_sci.algorithms.{room} += 1000\n"
    )
    done = snakemake(
        tiny_project, "-n", "--configfile", "tiny.yaml", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert rules_in(done) == rules


@pytest.mark.parametrize(("given", "device"), [((), "auto"), (("--resources", "gpu=0"), "cpu")])
def test_one_rule_serves_gpu_and_cpu(tiny_project: Path, given: tuple[str, ...], device: str):
    done = snakemake(tiny_project, "-n", "-p", "--forceall", "--configfile", "tiny.yaml", *given)
    assert done.returncode == 0, done.stdout + done.stderr
    devices = re.findall(r"vae-sci (\w+) .*--device (\w+)", done.stdout + done.stderr)
    assert sorted(devices) == [
        ("diagnose", device),
        *(("embed", device), ("embed", device)),
        *((name, device) for name in ("generate", "morph", "train")),
    ]


def test_a_corrected_platemap_reruns_phenotypes_but_no_training(tiny_project: Path):
    path = tiny_project / "results" / "simulated" / "tiny1" / "platemap.csv"
    text = path.read_text()
    try:
        path.write_text(text.replace("fragmentin", "renamed"))
        assert rules_to_run(tiny_project) == {"phenotypes", *AFTER_PHENOTYPES}
    finally:
        path.write_text(text)


@pytest.fixture(scope="module")
def own_images(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose two plates are images of the user's own, tiled."""
    folder = tmp_path_factory.mktemp("own")
    for name in ("workflow", "environment.yml", "config", "tiny.yaml"):
        (folder / name).symlink_to(tiny_project / name)
    rows = ["plate\timages\tplatemap"]
    for plate in PLATES:
        source = tiny_project / "results" / "simulated" / plate
        shutil.copytree(source / "images", folder / plate)
        shutil.copy(source / "platemap.csv", folder / f"{plate}.csv")
        rows.append(f"{plate}\t{plate}\t{plate}.csv")
    (folder / "plates.tsv").write_text("\n".join(rows) + "\n")
    done = snakemake(folder, *OWN, "--", *(f"results/tiles/{plate}.parquet" for plate in PLATES))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


OWN = ("--configfile", "tiny.yaml", "--config", "plates=plates.tsv")


def planned(project: Path) -> dict[str, set[str]]:
    """Rule → plates that a dry run would execute it for, up to the tiles."""
    targets = (f"results/tiles/{plate}.parquet" for plate in PLATES)
    done = snakemake(project, "-n", *OWN, "--", *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = re.findall(
        r"^(?:local)?rule (\w+):.*?wildcards: plate=(\w+)", done.stdout + done.stderr, re.M | re.S
    )
    return {rule: {plate for name, plate in jobs if name == rule} for rule, _ in jobs}


def test_the_examples_of_raw_images_end_with_tiles_and_pictures(own_images: Path):
    """As `make example-…-fields` stops the workflow: in one run, from nothing."""
    (until,) = re.findall(r"--until (.+)$", (ROOT / "Makefile").read_text(), re.M)
    done = snakemake(own_images, *OWN, "results=raw", "--until", *until.split())
    assert done.returncode == 0, done.stdout + done.stderr
    for plate in PLATES:
        for made in ("tiles/{}.parquet", "ledger/{}_segmentation.png", "figures/dropped/{}.png"):
            assert (own_images / "raw" / made.format(plate)).exists()
    assert not (own_images / "raw" / "models").exists()


def test_images_that_did_not_change_are_left_alone(own_images: Path):
    assert planned(own_images) == {}


def test_a_raw_image_with_other_content_reruns_its_plate(own_images: Path):
    image = sorted((own_images / "tiny2").iterdir())[0]
    before, stat = image.read_bytes(), image.stat()
    try:
        image.write_bytes(before[:-1] + b"x")
        assert planned(own_images) == {rule: {"tiny2"} for rule in UP_TO_TILES}
    finally:
        image.write_bytes(before)
        os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert planned(own_images) == {}


def test_an_image_that_comes_or_goes_reruns_its_plate(own_images: Path):
    image = sorted((own_images / "tiny1").iterdir())[0]
    away = own_images / "away.tif"
    image.rename(away)
    try:
        assert planned(own_images) == {rule: {"tiny1"} for rule in UP_TO_TILES}
    finally:
        away.rename(image)


def test_a_second_run_in_one_folder_is_told_of_the_first(own_images: Path):
    with exclusive(own_images / "results" / ".lock", "test"):
        done = snakemake(own_images, *OWN, "--forcerun", "index")
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"process {os.getpid()} on" in text
    assert "wait until it has ended" in text
    assert "Traceback" not in text


def test_a_killed_run_leaves_no_lock(own_images: Path):
    """Snakemake's own lock would ask for --unlock after kill -9."""
    target = "results/images/tiny1.parquet"
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *OWN, "--forcerun", "index"]
    running = subprocess.Popen(
        [*command, "--", target],
        cwd=own_images,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    lock, until = own_images / "results" / ".lock", time.monotonic() + 60
    while f"process {running.pid} " not in lock.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    done = snakemake(own_images, *OWN, "--forcerun", "index", "--", target)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_order_of_channels_reaches_the_jobs(tiny_project: Path):
    (tiny_project / "swapped.yaml").write_text(
        'images: {channels: {"3": fibres, "1": nucleus, "2": mitochondria}}\n'
    )
    done = snakemake(tiny_project, "-n", "-p", "--configfile", "swapped.yaml")
    printed = (done.stdout + done.stderr).splitlines()
    commands = [line for line in printed if "vae-sci index" in line]
    assert len(commands) == 2
    for line in commands:
        assert '{"3": "fibres", "1": "nucleus", "2": "mitochondria"}' in line


def test_a_misspelt_key_stops_before_any_job_with_a_suggestion(tiny_project: Path):
    done = snakemake(tiny_project, "-n", "--config", "traning={epochs: 3}")
    assert done.returncode != 0
    assert "did you mean 'training'?" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_neighbours_can_be_masked_from_images_to_embeddings(tiny_project: Path):
    """The whole line with another results folder and masked neighbours."""
    config = (
        "results=masked",
        "tiles={neighbours: mask}",
        "training={epochs: 1, batch_size: 16}",
    )
    target = "masked/embeddings/vae/tiny1.parquet"
    done = snakemake(tiny_project, "--configfile", "tiny.yaml", "--config", *config, "--", target)
    assert done.returncode == 0, done.stdout + done.stderr
    about = open_store(tiny_project / "masked" / "tiles" / "tiny1.zarr").attrs["vae_sci"]
    assert about["neighbours"] == "mask"


def test_a_flat_field_goes_from_images_to_phenotypes(tiny_project: Path):
    """The tiny screen has too few fields to tell one: it is planted between two runs."""
    config = ("results=lit", "training={epochs: 1, batch_size: 16}")
    given = ("--configfile", "tiny.yaml", "--config", *config, "--")
    made = [tiny_project / "lit" / "flat_field" / f"{plate}.npz" for plate in PLATES]
    done = snakemake(tiny_project, *given, *(f"lit/flat_field/{path.name}" for path in made))
    assert done.returncode == 0, done.stdout + done.stderr
    for path in made:
        found = read_flat_field(path, (3, 256, 256))
        light = np.linspace(0.7, 1.3, 256, dtype=np.float32)
        used = np.array([True, False, True])
        gain = np.where(used[:, None, None], light, 1).astype(np.float32)
        gain = np.broadcast_to(gain, found.gain.shape)
        offset = np.where(used, 100.0, np.nan)
        replace(found, gain=gain, offset=offset, used=used).write(path)
    names = ("phenotypes/vae/scores.json", "generated/vae/cells.csv", "diagnostics/vae/rings.csv")
    done = snakemake(tiny_project, *given, *(f"lit/{name}" for name in names))
    assert done.returncode == 0, done.stdout + done.stderr
    card = json.loads((tiny_project / "lit" / "models" / "vae" / "model.json").read_text())
    assert set(card["data"]["flat_fields"]) == set(PLATES)
    run = open_results(tiny_project / "lit")
    assert np.isfinite(run.cells.filter(regex="^z_")).all(axis=None)
    run.show(run.cells["cell_id"].iloc[0], tiny_project / "lit" / "cell.png")
