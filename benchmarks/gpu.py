"""What a CUDA card makes of the default model, and whether it computes what the CPU computes.

    python benchmarks/gpu.py --json FILE [--rounds N] [--steps N]

Tiles per second and TFLOP/s of the training step of `model_speed.py`, for tiles of 64 and 128
pixels, batches of 64 (the default) and 512, float32 and bf16, with and without torch.compile; and
their share of what the card gives for one large bf16 matrix product, measured before and after.
Runs from the repository without installation: PYTHONPATH=. python benchmarks/gpu.py --json FILE.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from model_speed import cells, counted, make_model, make_optimizer, quartiles, training_step

from vae_sci.config import ModelSettings
from vae_sci.errors import InputError
from vae_sci.files import write_json
from vae_sci.model.device import pick_device
from vae_sci.model.objective import describe

SIZES, BATCHES = (64, 128), (64, 512)
WARM_UP = 5  # steps: kernels are chosen, and compiled where asked for
PEAK_EDGE = 8192  # rows and columns of the matrices
# Largest differences between the devices in float32: sums in another order, other kernels.
TOLERANCES = {"distortion": 1e-4, "rate_z": 1e-3, "rate_u": 1e-3, "mean": 1e-2}


def timed(step: Callable[[], object], device: str, rounds: int, steps: int) -> list[float]:
    """Seconds per step in each round."""

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(WARM_UP):
        step()
    seconds = []
    for _ in range(rounds):
        wait()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        seconds.append((time.perf_counter() - start) / steps)
    return seconds


def peak(device: str, edge: int, rounds: int, steps: int) -> dict[str, float]:
    """TFLOP/s of a bf16 matrix product."""
    a, b = (torch.randn(edge, edge, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = timed(lambda: a @ b, device, rounds, steps)
    return quartiles([2 * edge**3 / s / 1e12 for s in seconds])


def throughput(
    settings: ModelSettings,
    device: str,
    size: int,
    batch: int,
    bf16: bool,
    compiled: bool,
    rounds: int,
    steps: int,
    seed: int,
) -> dict[str, Any]:
    """Tiles/s and TFLOP/s of training steps, after some that count for nothing."""
    levels = cells(2 * batch, size, seed)
    model = make_model(levels, settings, seed).to(device)
    optimizer = make_optimizer(model)
    random = torch.Generator().manual_seed(seed)
    tiles, view = levels.to(device).split(batch)

    def step() -> torch.Tensor:
        return training_step(model, optimizer, tiles, view, random, bf16=bf16)

    flops = counted(step)  # of what was asked for, before a compiler rearranges it
    if compiled:
        # For these shapes alone: else those of the combinations before would count too.
        torch.compiler.reset()
        model.encoder.compile(dynamic=False)
        model.decoder.compile(dynamic=False)
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(step, device, rounds, steps)
    return {
        "size": size,
        "batch": batch,
        "precision": "bf16" if bf16 else "float32",
        "compiled": compiled,
        "tiles_per_second": quartiles([batch / s for s in seconds]),
        "tflops_per_second": quartiles([flops / s / 1e12 for s in seconds]),
        "gflop_per_step": flops / 1e9,
        "first_step_seconds": first,
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None,
        "last_loss": float(step()),
    }


def differences(
    settings: ModelSettings, device: str, size: int, batch: int, seed: int
) -> dict[str, float]:
    """Largest differences of `device` from the CPU over a batch, float32 without TF32: of
    distortion and rates as shares, of the posterior means in units of the posterior's sd."""
    levels = cells(batch, size, seed)
    model = make_model(levels, settings, seed)
    with torch.no_grad():
        # As initialised, many layers are silent and would hide a difference.
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    (expected, terms), (found, others) = (
        describe(model.to(place), levels.to(place)) for place in ("cpu", device)
    )
    numbers = {
        name: float((getattr(others, name).cpu() / getattr(terms, name) - 1).abs().max())
        for name in ("distortion", "rate_z", "rate_u")
    }
    apart = (found.z.mean.cpu() - expected.z.mean) / expected.z.stddev
    return numbers | {"mean": float(apart.abs().max())}


def equality(settings: ModelSettings, device: str, size: int, batch: int, seed: int) -> Any:
    """`differences` as measured, and as a training has them: TF32 in convolutions is on there."""
    found, before = {}, torch.backends.cudnn.allow_tf32
    try:
        for name, tf32 in (("float32", False), ("tf32", True)):
            torch.backends.cudnn.allow_tf32 = tf32
            found[name] = differences(settings, device, size, batch, seed)
    finally:
        torch.backends.cudnn.allow_tf32 = before
    within = all(found["float32"][name] <= limit for name, limit in TOLERANCES.items())
    return {"size": size, "largest": found, "tolerances": TOLERANCES, "within": within}


def main() -> int:
    """Measure, print, and write the figures; returns the exit status: 1 where CPU and card differ,
    2 without a card."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="in a round")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        device = pick_device("cuda")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    settings, often = ModelSettings(), (given.rounds, given.steps)
    report: dict[str, Any] = {
        "asked": {"rounds": given.rounds, "steps": given.steps, "seed": given.seed},
        "machine": {
            "card": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "torch": torch.__version__,
            "platform": platform.platform(),
        },
        "equality": [equality(settings, device, size, 16, given.seed) for size in SIZES],
        "peak_tflops": [peak(device, PEAK_EDGE, *often)],
        "training": [],
    }
    combinations = itertools.product(SIZES, BATCHES, (False, True), (False, True))
    for size, batch, bf16, compiled in combinations:
        row = throughput(settings, device, size, batch, bf16, compiled, *often, given.seed)
        report["training"].append(row)
        write_json(report, given.json)  # what is measured stays, whatever the next one does
        print(
            f"{size} px, batch {batch}, {row['precision']}{', compiled' * compiled}: "
            f"{row['tiles_per_second']['median']:,.0f} tiles/s, "
            f"{row['tflops_per_second']['median']:.2f} TFLOP/s",
            flush=True,
        )
    report["peak_tflops"].append(peak(device, PEAK_EDGE, *often))
    highest = max(found["median"] for found in report["peak_tflops"])
    for row in report["training"]:
        row["share_of_peak"] = row["tflops_per_second"]["median"] / highest
    write_json(report, given.json)
    print(markdown(report, highest))
    return 0 if all(found["within"] for found in report["equality"]) else 1


def markdown(report: dict[str, Any], highest: float) -> str:
    """The figures as tables."""
    lines = [
        f"\n{report['machine']['card']}, bf16 matrix product: {highest:.0f} TFLOP/s.\n",
        "| tiles | batch | precision | compiled | tiles/s | TFLOP/s | share of the peak | GiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["training"]:
        lines.append(
            f"| {row['size']} px | {row['batch']} | {row['precision']} "
            f"| {'yes' if row['compiled'] else 'no'} | {row['tiles_per_second']['median']:,.0f} "
            f"| {row['tflops_per_second']['median']:.2f} | {row['share_of_peak']:.2%} "
            f"| {row['peak_memory_gib']:.1f} |"
        )
    lines += ["", "| CPU against card | float32 | TF32 | tolerance |", "|---|---|---|---|"]
    for found in report["equality"]:
        for name, limit in TOLERANCES.items():
            plain, fast = (found["largest"][kind][name] for kind in ("float32", "tf32"))
            lines.append(f"| {name}, {found['size']} px | {plain:.1e} | {fast:.1e} | {limit:.0e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
