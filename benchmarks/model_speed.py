"""How much of the machine's arithmetic does training use? On the CPU, as a ratio in one run.

    python benchmarks/model_speed.py --json FILE [--rounds N] [--threads N]

The counted arithmetic per second of a training step of the default model (its batch of tiles of
64 × 64 × 3) over that of a plain stack of 3 × 3 convolutions of the same widths. The two take
turns, so that what else the machine does hits both; the ratio is the median over rounds, with
quartiles.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from steps import BATCH, count_flops, make_levels, make_model, model_step, plain_step

from vae_sci.files import write_json
from vae_sci.model.device import tune_cpu

SIZE = 64
STEPS = 2  # of a round


def seconds(step: Callable[[], object]) -> float:
    """Of one step, mean over a round."""
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - start) / STEPS


def main(arguments: list[str] | None = None) -> int:
    """Measure; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    tune_cpu()  # as in training
    steps = {
        "model": model_step(make_model(SIZE, "cpu"), make_levels(SIZE, "cpu")),
        "plain": plain_step(SIZE, "cpu"),
    }
    flops = {name: count_flops(step) for name, step in steps.items()}
    times = {name: np.empty(given.rounds) for name in steps}
    for step in steps.values():  # warm up
        seconds(step)
    for turn in range(given.rounds):
        for name, step in steps.items():
            times[name][turn] = seconds(step)
    rates = {name: flops[name] / times[name] / 1e9 for name in steps}
    ratio = rates["model"] / rates["plain"]
    report = {
        "ratio_of_arithmetic_rates": float(np.median(ratio)),
        "ratio_quartiles": np.percentile(ratio, (25, 75)).tolist(),
        "model_gflop_per_second": float(np.median(rates["model"])),
        "plain_gflop_per_second": float(np.median(rates["plain"])),
        "model_gflop_per_step": flops["model"] / 1e9,
        "plain_gflop_per_step": flops["plain"] / 1e9,
        "model_seconds_per_step": float(np.median(times["model"])),
        "tiles_per_second": float(BATCH / np.median(times["model"])),
        "threads": given.threads,
        "rounds": given.rounds,
        "torch": torch.__version__,
    }
    write_json(report, given.json)
    print("| | GFLOP a step | GFLOP/s | s a step |\n|---|---|---|---|")
    for name in steps:
        print(
            f"| {name} | {flops[name] / 1e9:.1f} | {np.median(rates[name]):.1f} | "
            f"{np.median(times[name]):.3f} |"
        )
    low, high = report["ratio_quartiles"]
    print(
        f"\nThe model reaches {report['ratio_of_arithmetic_rates']:.0%} of the plain stack's rate "
        f"(quartiles {low:.0%}–{high:.0%} of {given.rounds} rounds, {given.threads} threads)."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
