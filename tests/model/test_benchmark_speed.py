"""The speed benchmarks take a step of the real model; the card computes what the CPU does."""

from __future__ import annotations

import json
from pathlib import Path

import gpu
import model_speed
import pytest
import torch
from steps import count_flops, make_levels, make_model, model_step


def test_a_step_is_counted_and_moves_the_model():
    model = make_model(16, "cpu")
    before = [weight.clone() for weight in model.parameters()]
    step = model_step(model, make_levels(16, "cpu", 4))
    small, large = count_flops(step), count_flops(model_step(model, make_levels(16, "cpu", 8)))
    assert large == pytest.approx(2 * small, rel=0.01)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.slow
def test_the_ratio_is_written(tmp_path: Path):
    assert model_speed.main(["--json", str(tmp_path / "s.json"), "--rounds", "1"]) == 0
    report = json.loads((tmp_path / "s.json").read_text())
    assert report["ratio_of_arithmetic_rates"] > 0.05
    assert report["model_gflop_per_second"] < 1e5


def test_equal_places_give_equal_numbers():
    assert max(gpu.differences("cpu", bf16=False, size=16).values()) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card here")
def test_without_a_card_it_says_what_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert gpu.main(["--json", str(tmp_path / "g.json")]) == 1
    assert "CUDA card" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_card_computes_what_the_cpu_does(precision: str):
    found = gpu.differences("cuda", precision == "bf16")
    assert max(found.values()) < gpu.TOLERANCE[precision]
