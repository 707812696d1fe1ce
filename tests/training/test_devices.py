"""Several devices, as two processes on the CPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vae_sci.contracts import HISTORY
from vae_sci.model.checkpoint import load_model

pytestmark = pytest.mark.slow


def test_two_processes_train_one_model_like_one_process(tiny_project: Path, tmp_path: Path):
    results = tmp_path / "results"
    shutil.copytree(tiny_project / "results" / "tiles", results / "tiles")
    bits = {}
    for devices in (1, 2):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "vae_sci", "train", "--results", str(results)),
                *("--plates", str(tiny_project / "config" / "plates.tsv"), "--device", "cpu"),
                *("--settings", f'{{"name": "on{devices}", "widths": [8, 8], "latent_dim": 4}}'),
                *("--training", '{"epochs": 2, "batch_size": 8}', "--devices", str(devices)),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        load_model(results / "models" / f"on{devices}")
        history = HISTORY.read(results / "models" / f"on{devices}" / "history.parquet")
        bits[devices] = history["validation_bits"].iloc[-1]
    # Draws of z differ between processes; what is learned in a few steps hardly does.
    assert bits[2] == pytest.approx(bits[1], rel=0.01)
