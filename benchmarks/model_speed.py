"""Is a training step as fast, operation for operation, as plain convolutions?

    python benchmarks/model_speed.py --json FILE [--size N] [--batch N] [--rounds N] [--steps N]

The default model's training step on tiles in memory (forward, likelihood, view loss, backward,
clipping, optimiser) against forward and backward through a plain stack of 3 × 3 convolutions and
SiLU, of the same widths at the same resolutions, by turns. Both are counted alike: the FLOPs of
convolutions and matrix products, forward and backward, by torch's own counter. What a step does
beside those (likelihood, moments, optimiser) counts for nothing and takes its time.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vae_sci.config import ModelSettings, TrainingSettings
from vae_sci.files import write_json
from vae_sci.likelihoods import GreyLevels
from vae_sci.model.objective import score, view_loss
from vae_sci.model.vae import VAE, Scaling

CHANNELS, TOP = 3, 4095


def cells(n: int, size: int, seed: int) -> Tensor:
    """Levels (n, CHANNELS, size, size) of spots of light with photon noise, as a 12-bit camera's:
    their speed is to be that of images, where no likelihood underflows and none is certain."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] + 0.5
    spots = np.full((n * CHANNELS, size, size), 100.0)
    for spot in spots:
        for centre_y, centre_x in random.uniform(0, size, (6, 2)):
            away = (y - centre_y) ** 2 + (x - centre_x) ** 2
            spot += 1500 * np.exp(-away / (0.02 * size**2))
    counts = random.poisson(spots).clip(0, TOP).reshape(n, CHANNELS, size, size)
    return torch.from_numpy(counts.astype(np.int32))


def make_model(levels: Tensor, settings: ModelSettings, seed: int) -> VAE:
    """An untrained model for these levels (N, C, H, H), on the CPU."""
    torch.manual_seed(seed)
    values = levels.double()
    numbers = [
        tuple(statistic.tolist())
        for part in (values, values.sqrt())
        for statistic in (part.mean(dim=(0, 2, 3)), part.std(dim=(0, 2, 3)))
    ]
    grey_levels = GreyLevels((0,) * CHANNELS, (1,) * CHANNELS, (TOP,) * CHANNELS)
    return VAE(settings, levels.shape[-1], grey_levels, Scaling(*numbers))


def make_optimizer(network: nn.Module) -> torch.optim.Optimizer:
    settings = TrainingSettings()
    return torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )


def training_step(
    model: VAE,
    optimizer: torch.optim.Optimizer,
    levels: Tensor,
    view: Tensor,
    random: torch.Generator,
    *,
    bf16: bool = False,
) -> Tensor:
    """One step on levels and their view (N, C, H, H), as in `vae_sci.training.loop` with the
    default settings and β at its final value; returns the loss, nats per value."""
    settings = TrainingSettings()
    noise = model.draw_noise(len(levels), random).share(slice(None), levels.device)
    kept = torch.rand(len(levels), generator=random) >= settings.skip_dropout
    x, x_view = model.standardized(levels), model.standardized(view)
    with torch.autocast(levels.device.type, torch.bfloat16, enabled=bf16):
        q, made, q_view = model(x, x_view, noise, kept.to(levels.device))
    terms = score(q, made, levels)
    nats = terms.loss(settings.beta, settings.beta_skips)
    nats = nats + settings.view_weight * view_loss(q.mean, q_view.mean)
    loss = nats / terms.values.mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
    optimizer.step()
    return loss.detach()


class Plain(nn.Module):
    """Two 3 × 3 convolutions with SiLU at each resolution, halved by averages in between."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        inputs = (widths[0], *widths[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, padding=1), nn.SiLU(), nn.Conv2d(b, b, 3, padding=1), nn.SiLU()
            )
            for a, b in zip(inputs, widths, strict=True)
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """(N, widths[0], H, W) → (N, widths[-1], h, w)."""
        for number, level in enumerate(self.levels):
            x = level(F.avg_pool2d(x, 2) if number else x)
        return x


def counted(step: Callable[[], object]) -> int:
    """FLOPs of one step; a multiplication and an addition are two."""
    counter = FlopCounterMode(display=False)
    with counter:
        step()
    return int(counter.get_total_flops())


def quartiles(values: list[float]) -> dict[str, float]:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return {"median": float(middle), "lower_quartile": float(low), "upper_quartile": float(high)}


def compare(
    settings: ModelSettings, size: int, batch: int, rounds: int, steps: int, seed: int
) -> dict[str, Any]:
    """FLOP/s of the model's training step and of the plain stack, on the CPU, by turns."""
    torch.set_flush_denormal(True)  # as in training
    levels = cells(2 * batch, size, seed)
    model = make_model(levels, settings, seed)
    levels, view = levels.split(batch)
    optimizer = make_optimizer(model)
    random = torch.Generator().manual_seed(seed)
    plain = Plain(settings.widths)
    half = size // 2
    features = torch.randn(batch, settings.widths[0], half, half, generator=random)
    features = features.contiguous(memory_format=torch.channels_last)

    def plain_step() -> None:
        plain.zero_grad()
        plain(features).square().mean().backward()

    competitors: dict[str, Callable[[], object]] = {
        "model": lambda: training_step(model, optimizer, levels, view, random),
        "plain": plain_step,
    }
    flops = {}
    for name, step in competitors.items():
        step()  # warm
        flops[name] = counted(step)
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for number in range(rounds):
        for name in list(competitors)[:: 1 if number % 2 == 0 else -1]:
            start = time.perf_counter()
            for _ in range(steps):
                competitors[name]()
            seconds[name].append((time.perf_counter() - start) / steps)
    rates = {n: [flops[n] / second for second in seconds[n]] for n in competitors}
    ratios = [m / p for m, p in zip(rates["model"], rates["plain"], strict=True)]
    return {
        "flops_per_step": flops,
        "seconds_per_step": {name: quartiles(values) for name, values in seconds.items()},
        "gflops_per_second": {n: quartiles([r / 1e9 for r in v]) for n, v in rates.items()},
        "tiles_per_second": batch / float(np.median(seconds["model"])),
        "ratio": quartiles(ratios),
        "ratio_by_round": ratios,
    }


def machine() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def main() -> int:
    """Measure, print, and write the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--size", type=int, default=64, help="edge of the tiles, pixels")
    parser.add_argument("--batch", type=int, default=64, help="tiles per step")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=3, help="of each in a round")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    asked = {name: value for name, value in vars(given).items() if name != "json"}
    report = {"asked": asked, "machine": machine()}
    report |= compare(ModelSettings(), **asked)
    write_json(report, given.json)
    print("| | GFLOP a step | GFLOP/s, median (quartiles) |\n|---|---|---|")
    for name, rate in report["gflops_per_second"].items():
        print(
            f"| {name} | {report['flops_per_step'][name] / 1e9:.2f} | {rate['median']:.1f} "
            f"({rate['lower_quartile']:.1f}–{rate['upper_quartile']:.1f}) |"
        )
    ratio = report["ratio"]
    print(
        f"\nModel / plain: {ratio['median']:.3f} (quartiles of rounds "
        f"{ratio['lower_quartile']:.3f}–{ratio['upper_quartile']:.3f}); "
        f"{report['tiles_per_second']:.0f} tiles/s."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
