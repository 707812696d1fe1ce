"""The whole workflow, run for real on the tiny simulated screen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import anndata
import pytest

from vae_sci import open_results
from vae_sci.contracts import CONTRACTS, TILES, Contract
from vae_sci.tiles.store import open_store

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PLATES = ("tiny1", "tiny2")


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder,
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
    text = done.stdout + done.stderr
    return set(re.findall(r"^(?:local)?rule (\w+):", text, flags=re.M)) - {"all"}


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.path)
def test_every_table_keeps_its_contract(tiny_results: Path, contract: Contract):
    for plate in PLATES if "{plate}" in contract.path else ("",):
        table = contract.read(tiny_results / contract.path.format(plate=plate, model="vae"))
        assert len(table)


def test_everything_the_data_dictionary_lists_is_there(tiny_results: Path):
    listed = re.findall(r"^\| (`[^|]+) \|", (ROOT / "results" / "README.md").read_text(), re.M)
    paths: list[str] = []
    for cell in listed:
        names = re.findall(r"`([^`]+)`", cell)
        if not any("/" in name for name in names):
            continue  # a column of a table, not a file
        folder = names[0].rpartition("/")[0]
        paths += [name if "/" in name else f"{folder}/{name}" for name in names]
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
    assert steps[-1]["kept"] == len(table) == store["tiles"].shape[0]


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
        ("phenotypes={resolution: 0.5}", {"phenotypes", "figures"}),
        ("report={gallery_cells: 6}", {"figures"}),
        (
            "training={learning_rate: 0.0005}",
            {"train", "embed", "generate", "phenotypes", "figures"},
        ),
        (
            "tiles={neighbours: mask}",
            {"tiles", "train", "embed", "generate", "phenotypes", "figures"},
        ),
    ],
)
def test_a_changed_setting_reruns_what_depends_on_it(
    tiny_project: Path, change: str, rules: set[str]
):
    assert rules_to_run(tiny_project, change) == rules


def test_a_corrected_platemap_reruns_phenotypes_but_no_training(tiny_project: Path):
    path = tiny_project / "results" / "simulated" / "tiny1" / "platemap.csv"
    text = path.read_text()
    try:
        path.write_text(text.replace("fragmentin", "renamed"))
        assert rules_to_run(tiny_project) == {"phenotypes", "figures"}
    finally:
        path.write_text(text)


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
