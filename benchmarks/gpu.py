"""Training speed on a CUDA card, its share of the card's peak, and whether it computes the same.

    PYTHONPATH=. python benchmarks/gpu.py --json FILE [--batch N]

First the default model on card and CPU, same weights, tiles and noise, without TF32: relative
differences of distortion, rates and posterior means. Then, for tiles of 64 and 128 pixels, bfloat16
and float32 (as in training, TF32 in convolutions), without and with torch.compile: tiles/s, counted
arithmetic per second, its share of the rate that large bf16 matrix products reach in this run, and
the relative difference of a step's gradient to that of the same step uncompiled. Needs a card; the
package need not be installed, but torch, numpy, pydantic and PyYAML. The file is written after
every row.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from steps import count_flops, make_levels, make_model, model_step, training_step
from torch import Tensor

from vae_sci.errors import InputError, VaeSciError
from vae_sci.files import write_json
from vae_sci.model.objective import bound
from vae_sci.model.vae import VAE

SIZES = (64, 128)
WARM_UP, REPEATS = 5, 20
MATRIX = 8192
TOLERANCE = {"float32": 1e-3, "bf16": 3e-2}  # relative


def milliseconds(step: Callable[[], Any]) -> float:
    """Median of a step on the card, by its own clock."""
    for _ in range(WARM_UP):
        step()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return float(np.median(times))


def matrix_peak() -> float:
    """TFLOP/s of a large product of random bf16 matrices."""
    a, b = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * MATRIX**3 / milliseconds(lambda: a @ b) / 1e9


def gradient(model: VAE, levels: Tensor, bf16: bool) -> Tensor:
    """Of a step with the same draws every time, all parameters' in one vector, clipped."""
    still = torch.optim.SGD(model.parameters(), 0.0)
    draw = torch.Generator().manual_seed(4)
    training_step(model, still, levels, levels.flip(3), draw, bf16)
    return torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None])


def speed(size: int, bf16: bool, compiled: bool, batch: int, peak: float) -> dict[str, Any]:
    """One row of the table."""
    model, levels = make_model(size, "cuda"), make_levels(size, "cuda", batch)
    flops = count_flops(model_step(model, levels, bf16))
    eager = gradient(model, levels, bf16)
    if compiled:
        # For these shapes alone: else those of the rows before would count too.
        torch.compiler.reset()
        for part in (model.encoder, model.skip_encoder, model.decoder):
            if part is not None:
                part.compile(dynamic=False)
    # A compiled step was met whose loss was right and whose gradient was not.
    changed = float((gradient(model, levels, bf16) - eager).norm() / eager.norm())
    torch.cuda.reset_peak_memory_stats()
    taken = milliseconds(model_step(model, levels, bf16))
    rate = flops / taken / 1e9
    return {
        "tile_pixels": size,
        "precision": "bf16" if bf16 else "float32",
        "compiled": compiled,
        "gradient_difference_to_eager": changed,
        "tiles_per_second": batch / taken * 1e3,
        "milliseconds_per_step": taken,
        "tflop_per_second": rate,
        "share_of_matrix_peak": rate / peak,
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


@contextmanager
def strict_float32() -> Iterator[None]:
    """No TF32 in convolutions; in matrix products it is off by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.no_grad()
@strict_float32()
def differences(device: str, bf16: bool, size: int = 64) -> dict[str, float]:
    """Largest relative difference to the CPU in float32 of what the model says of 64 tiles."""
    found = []
    for place, cast in (("cpu", False), (device, bf16)):
        model, levels = make_model(size, place).eval(), make_levels(size, place, 64)
        draw = torch.Generator().manual_seed(3)
        for weight in model.parameters():
            # As initialised, the blocks are silent and would hide a difference.
            weight.add_(0.02 * torch.randn(weight.shape, generator=draw).to(weight))
        noise = model.draw_noise(len(levels), draw)
        with torch.autocast(place, torch.bfloat16, enabled=cast):
            seen, terms = bound(model, levels, None, noise.share(slice(None), levels.device))
        values = {name: getattr(terms, name) for name in ("distortion", "rate_z", "rate_u")}
        found.append({**values, "z": seen.z.mean})
    return {
        name: float((found[1][name].cpu().double() - value.double()).norm() / value.double().norm())
        for name, value in found[0].items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--batch", type=int, default=512, help="tiles of 64 pixels a step")
    given = parser.parse_args(arguments)
    try:
        if not torch.cuda.is_available():
            raise InputError(
                required="a CUDA card and a torch that sees it",
                found=f"torch {torch.__version__}, which sees none",
                action="run this on a machine with a card; benchmarks/model_speed.py is for CPUs",
            )
    except VaeSciError as error:
        print(error, file=sys.stderr)
        return 1
    peak = matrix_peak()
    equal = {name: differences("cuda", bf16) for name, bf16 in (("float32", False), ("bf16", True))}
    rows: list[dict[str, Any]] = []
    report = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "matrix_tflop_per_second": peak,
        "relative_difference_to_cpu": equal,
        "within_tolerance": {
            name: max(found.values()) < TOLERANCE[name] for name, found in equal.items()
        },
        "speed": rows,
    }
    # Compiling takes longest: it comes last, and what was measured before a cut-off is kept.
    for compiled, size, bf16 in itertools.product((False, True), SIZES, (True, False)):
        rows.append(speed(size, bf16, compiled, given.batch * SIZES[0] ** 2 // size**2, peak))
        write_json(report, given.json)
    print("| tile | precision | compiled | tiles/s | TFLOP/s | share of peak | gradient |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['tile_pixels']} | {row['precision']} | {row['compiled']} | "
            f"{row['tiles_per_second']:.0f} | {row['tflop_per_second']:.1f} | "
            f"{row['share_of_matrix_peak']:.1%} | {row['gradient_difference_to_eager']:.1e} |"
        )
    print(f"\n{report['device']}; difference to the CPU: {equal}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
