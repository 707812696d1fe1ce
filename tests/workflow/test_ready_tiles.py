"""The BBBC021 example's own steps on a small made-up folder of that layout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from vae_sci import open_results

ROOT = Path(__file__).parents[2]
WELLS = {"B02": ("DMSO", 0.0, True), "C03": ("compound a", 1.5, False)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two plates of 24 cells: other plate names, labels and columns than the real ones."""
    random = np.random.default_rng(0)
    folder = tmp_path / "data"
    (folder / "tiles").mkdir(parents=True)
    cells, wells = [], []
    for plate in ("Week1_A", "Week2_B"):
        light = np.linspace(50, 750, 68)  # not noise alone, which would be dropped
        counts = random.poisson(light, (24, 3, 68, 68)).astype(np.uint16) * 16
        path = f"tiles/{plate}.ome.tif"
        tifffile.imwrite(folder / path, counts, ome=True, metadata={"axes": "TCYX"})
        for index in range(24):
            well = ("B02", "C03")[index % 2]
            compound, dose, control = WELLS[well]
            cells.append(
                {
                    "tile_file": path,
                    "tile_index": index,
                    "plate": plate,
                    "well": well,
                    "site": 1,
                    "cell": index,
                    "compound": compound,
                    "concentration": dose,
                    "moa": "mine",
                    "control": str(control).lower(),
                    "source": "here",
                }
            )
        for well, (compound, dose, control) in WELLS.items():
            wells.append((plate, well, compound, dose, "mine", str(control).lower()))
    pd.DataFrame(cells).to_csv(folder / "cells.csv", index=False)
    columns = ["plate", "well", "compound", "concentration", "moa", "control"]
    pd.DataFrame(wells, columns=columns).to_csv(folder / "platemap.csv", index=False)
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_any_folder_of_that_layout_runs_to_the_end(data: Path, tmp_path: Path):
    for name in ("workflow", "environment.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    example = tmp_path / "config" / "examples" / "bbbc021"
    done = run(tmp_path, str(example / "plates.py"), str(data))
    assert done.returncode == 0, done.stderr
    (tmp_path / "small.yaml").write_text(
        "model: {latent_dim: 4, widths: [8, 8, 8, 8]}\ntraining: {epochs: 1, batch_size: 8}\n"
    )
    files = ("--configfile", str(example / "config.yaml"), "small.yaml")
    done = run(tmp_path, "-m", "snakemake", "--cores", "2", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results" / "bbbc021"
    cells = open_results(results).cells
    assert len(cells) == 48
    assert set(cells["treatment"]) == {"DMSO", "compound a"}
    assert set(cells["moa"]) == {"mine"}
    assert cells["y"].isna().all()
    assert open_results(results).fields.empty
    for plate in ("Week1_A", "Week2_B"):
        steps = json.loads((results / "ledger" / f"{plate}.json").read_text())["steps"]
        assert steps[0]["found"] == steps[-1]["kept"] == 24
    card = json.loads((results / "models" / "vae" / "model.json").read_text())
    assert card["grey_levels"]["step"] == [16, 16, 16]
    assert (results / "figures" / "vae" / "umap_moa.png").stat().st_size > 10_000


def test_a_folder_without_cells_is_refused_without_a_traceback(tmp_path: Path):
    script = ROOT / "config" / "examples" / "bbbc021" / "plates.py"
    done = run(tmp_path, str(script), str(tmp_path))
    assert done.returncode == 1
    assert "cells.csv" in done.stderr
    assert "Traceback" not in done.stderr
