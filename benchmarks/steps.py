"""One training step as the loop takes it, and its counted arithmetic: what the speed is of."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vae_sci.config import ModelSettings, TrainingSettings
from vae_sci.likelihoods import GreyLevels
from vae_sci.model.objective import score, view_loss
from vae_sci.model.vae import VAE, Scaling

CHANNELS, BATCH = 3, TrainingSettings().batch_size


def make_model(size: int, device: str) -> VAE:
    """The default model for 12-bit tiles of three channels, the same weights every time."""
    torch.manual_seed(0)
    numbers = (300.0,) * CHANNELS, (150.0,) * CHANNELS, (16.0,) * CHANNELS, (4.0,) * CHANNELS
    levels = GreyLevels((0,) * CHANNELS, (1,) * CHANNELS, (4095,) * CHANNELS)
    return VAE(ModelSettings(), size, levels, Scaling(*numbers)).to(device)


def make_levels(size: int, device: str, batch: int = BATCH) -> Tensor:
    """Blurred noise with photon noise on it: (batch, 3, size, size), levels."""
    draw = torch.Generator().manual_seed(1)
    rough = torch.randn(batch, CHANNELS, size // 8, size // 8, generator=draw)
    smooth = nn.functional.interpolate(rough, (size, size), mode="bicubic")
    mean = (300 + 150 * smooth).clamp(min=5)
    noisy = mean + mean.sqrt() * torch.randn(mean.shape, generator=draw)
    return noisy.round().clamp(0, 4095).to(torch.int32).to(device)


def training_step(
    model: VAE,
    optimizer: torch.optim.Optimizer,
    levels: Tensor,
    view: Tensor,
    draw: torch.Generator,
    bf16: bool = False,
) -> Tensor:
    """A step of `training.loop`: two views, the bound, the view loss, clipping; → the loss."""
    settings, device = TrainingSettings(), levels.device
    noise = model.draw_noise(len(levels), draw).share(slice(None), device)
    kept = math.ceil((1 - settings.skip_dropout) * len(levels))
    x, x_view = model.standardized(levels), model.standardized(view)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        q, made, q_view = model(x, x_view, noise, kept)
    terms = score(q, made, levels)
    nats = terms.loss(settings.beta, settings.beta_skips)
    nats = nats + settings.view_weight * view_loss(q.mean, q_view.mean)
    loss = nats / terms.values.mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
    optimizer.step()
    return loss.detach()


def model_step(model: VAE, levels: Tensor, bf16: bool = False) -> Callable[[], object]:
    """`training_step` on the same tiles and their mirror images each time, with AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    draw, view = torch.Generator().manual_seed(2), levels.flip(3)
    return lambda: training_step(model, optimizer, levels, view, draw, bf16)


def plain_step(size: int, device: str) -> Callable[[], None]:
    """A step of nothing but 3 × 3 convolutions and SiLU, of the model's widths and resolutions."""
    torch.manual_seed(0)
    widths = ModelSettings().widths
    layers: list[nn.Module] = [nn.Conv2d(CHANNELS, widths[0], 3, stride=2, padding=1)]
    for level, width in enumerate(widths):
        if level:
            layers.append(nn.Conv2d(widths[level - 1], width, 3, stride=2, padding=1))
        layers += [nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.SiLU()]
    stack = nn.Sequential(*layers).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(stack.parameters(), 1e-3)
    x = torch.randn(2 * BATCH, CHANNELS, size, size, device=device)
    x = x.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        optimizer.zero_grad()
        stack(x).square().mean().backward()
        optimizer.step()

    return step


def count_flops(step: Callable[[], object]) -> int:
    """Multiplications and additions of convolutions and matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())
