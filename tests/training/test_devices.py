"""Several devices, as two processes on the CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vae_sci.contracts import HISTORY, TILES
from vae_sci.model.checkpoint import load_model

pytestmark = pytest.mark.slow

EPOCHS, BATCH = 5, 8

# The command line, but every process notes which tiles its loop took in which epoch.
NOTING = """
import os
from pathlib import Path

from vae_sci.cli import main
from vae_sci.training.stream import TileStream

shuffled = TileStream.shuffled


def noting(self, batch_size, seed, rank=0, world=1):
    for batch in shuffled(self, batch_size, seed, rank, world):
        if len(seed) == 2:
            with (Path(os.environ["NOTES"]) / f"{rank}.tsv").open("a") as notes:
                for plate, tile in zip(batch.plate, batch.tile):
                    print(seed[1], self.sources[plate].plate, tile, sep="\\t", file=notes)
        yield batch


TileStream.shuffled = noting
main()
"""


def train(results: Path, plates: Path, devices: int, notes: Path) -> tuple[pd.DataFrame, list]:
    """The history of a training, and the tiles that each process saw."""
    script = notes.parent / "noting.py"
    script.write_text(NOTING)
    notes.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, str(script), "train", "--results", str(results)),
            *("--plates", str(plates), "--device", "cpu", "--devices", str(devices)),
            *("--settings", f'{{"name": "on{devices}", "widths": [8, 8], "latent_dim": 4}}'),
            *("--training", f'{{"epochs": {EPOCHS}, "batch_size": {BATCH}}}'),
        ],
        env=os.environ | {"NOTES": str(notes)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    load_model(results / "models" / f"on{devices}")
    seen = [
        pd.read_csv(notes / f"{rank}.tsv", sep="\t", names=["epoch", "plate", "tile"])
        for rank in range(devices)
    ]
    return HISTORY.read(results / "models" / f"on{devices}" / "history.parquet"), seen


def test_two_processes_train_one_model_like_one_process(tiny_project: Path, tmp_path: Path):
    results, plates = tmp_path / "results", tiny_project / "config" / "plates.tsv"
    shutil.copytree(tiny_project / "results" / "tiles", results / "tiles")
    alone, (whole,) = train(results, plates, 1, tmp_path / "one")
    shared, halves = train(results, plates, 2, tmp_path / "two")

    tables = [TILES.read(path) for path in sorted((results / "tiles").glob("*.parquet"))]
    table = pd.concat(tables)
    wanted = set(table.loc[table["split"] == "train", ["plate", "tile"]].itertuples(index=False))
    full = len(wanted) // BATCH * BATCH
    for epoch in range(EPOCHS):
        per_process = [half[half["epoch"] == epoch] for half in halves]
        assert [len(half) for half in per_process] == [full / 2, full / 2]
        both = set(pd.concat(per_process)[["plate", "tile"]].itertuples(index=False))
        assert len(both) == full  # none twice
        assert both <= wanted
        assert both == set(
            whole[whole["epoch"] == epoch][["plate", "tile"]].itertuples(index=False)
        )

    # Same tiles, moves and draws of z: what is left is the order of sums.
    assert alone["step"].tolist() == shared["step"].tolist()
    for curve in (
        "train_bits",
        "train_rate_z",
        "train_rate_u",
        "train_view_loss",
        "validation_bits",
    ):
        one, two = alone[curve].to_numpy(), shared[curve].to_numpy()
        np.testing.assert_allclose(two, one, rtol=2e-3, err_msg=curve)
    assert alone["train_bits"].iloc[-1] < 0.98 * alone["train_bits"].iloc[0]
