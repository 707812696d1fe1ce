"""benchmarks/model_speed.py and gpu.py: what they count, on the CPU, and CPU against card."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import gpu
import model_speed
import pytest
import torch

from vae_sci.config import ModelSettings

ROOT = Path(__file__).resolve().parents[2]
SMALL = ModelSettings(latent_dim=4, widths=(8, 16))
needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")


def test_operations_are_those_of_the_plain_stacks_convolutions():
    plain = model_speed.Plain((8, 16))
    x = torch.randn(3, 8, 12, 12)
    forward = 3 * 2 * 9 * ((8 * 8 + 8 * 8) * 12 * 12 + (8 * 16 + 16 * 16) * 6 * 6)
    assert model_speed.counted(lambda: plain(x)) == forward
    # Backward takes twice as many, but for the gradient by the input, which nobody asks for.
    first = 3 * 2 * 9 * 8 * 8 * 12 * 12
    step = model_speed.counted(lambda: plain(x).sum().backward())
    assert step == 3 * forward - first


def test_a_training_step_learns():
    levels = model_speed.cells(16, 16, seed=0)
    model = model_speed.make_model(levels, SMALL, seed=0)
    optimizer = model_speed.make_optimizer(model)
    random = torch.Generator().manual_seed(0)
    losses = [
        float(model_speed.training_step(model, optimizer, levels, levels.flip(2), random))
        for _ in range(30)
    ]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_rates_are_operations_over_time():
    found = model_speed.compare(SMALL, size=16, batch=4, rounds=3, steps=1, seed=0)
    for name in ("model", "plain"):
        expected = found["flops_per_step"][name] / found["seconds_per_step"][name]["median"] / 1e9
        assert math.isclose(found["gflops_per_second"][name]["median"], expected)
    assert len(found["ratio_by_round"]) == 3


@pytest.mark.parametrize("bf16", [False, True])
def test_what_is_measured_on_a_card_runs_on_the_cpu(bf16: bool):
    row = gpu.throughput(SMALL, "cpu", 16, 4, bf16, False, rounds=2, steps=1, seed=0)
    assert row["tiles_per_second"]["median"] > 0
    assert math.isfinite(row["last_loss"])
    assert gpu.peak("cpu", 64, 2, 1)["median"] > 0


def test_a_device_differs_from_itself_in_nothing():
    found = gpu.equality(SMALL, "cpu", 16, 4, seed=0)
    assert found["within"]
    assert set(found["largest"]["float32"].values()) == {0.0}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA card")
def test_without_a_card_three_lines_say_so(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--json", str(tmp_path / "gpu.json")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert [line.split(":")[0].strip() for line in done.stderr.splitlines()] == [
        "required",
        "found",
        "to do",
    ]


@pytest.mark.gpu
@needs_card
@pytest.mark.parametrize("skip", ["none", "latent", "ladder"])
def test_cpu_and_card_give_the_same_distortion_rates_and_means(skip: str):
    settings = ModelSettings.model_validate({"decoder": {"skip": skip}})
    assert gpu.equality(settings, "cuda", 64, 8, seed=0)["within"]
