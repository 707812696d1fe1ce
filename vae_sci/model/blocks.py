"""The layers that encoders and decoder share; initialisation stands beside each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def conv(inputs: int, outputs: int, size: int, *, gain: float = 1.0, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the scale of activations: variance-preserving weights, zero bias.

    `gain` multiplies the weights' standard deviation 1/√fan_in (0: the layer starts silent).
    """
    layer = nn.Conv2d(inputs, outputs, size, stride=stride, padding=(size - 1) // 2)
    nn.init.normal_(layer.weight, std=gain / (inputs * size * size) ** 0.5)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def linear(inputs: int, outputs: int, *, gain: float = 1.0) -> nn.Linear:
    """A linear layer initialised as `conv`."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=gain / inputs**0.5)
    nn.init.zeros_(layer.bias)
    return layer


def bounded(x: Tensor, limit: float) -> Tensor:
    """x where it is small, never beyond ±limit; approached smoothly, so that no gradient dies."""
    return limit * torch.tanh(x / limit)


class Planes(nn.Conv2d):
    """A 1 × 1 convolution from pixels with their features side by side (channels last) to planes,
    one feature after the other, and its gradient back.

    The same numbers as those of `conv`, but nothing is turned over in memory in between: on a CPU
    that took an eighth of a training step (docs/decisions.md). In the type of its input.
    """

    def __init__(self, inputs: int, outputs: int, *, gain: float = 1.0) -> None:
        super().__init__(inputs, outputs, 1)
        nn.init.normal_(self.weight, std=gain / inputs**0.5)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H, W)."""
        assert self.bias is not None
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
        weight, bias = (part.to(x.dtype) for part in (self.weight.flatten(1), self.bias))
        # Autocast would choose another type on the way there than on the way back.
        with torch.autocast(x.device.type, enabled=False):
            made: Tensor = _Planes.apply(pixels, weight, bias)
        return made.unflatten(2, x.shape[2:])


class _Planes(torch.autograd.Function):
    """x (N, P, C), weight (K, C), bias (K,) → (N, K, P)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        # Not matmul: it would fold N and P into one axis, and copy to do so.
        return torch.bmm(weight.expand(len(x), -1, -1), x.mT).add_(bias[:, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        by_x = torch.bmm(outer.mT, weight.expand(len(x), -1, -1))
        return by_x, torch.bmm(outer, x).sum(0), outer.sum((0, 2))


class ResidualBlock(nn.Module):
    """x + f(x), f a bottleneck 1×1 → 3×3 → 3×3 → 1×1 at half the width (Child 2021, VDVAE).

    A third of the multiplications of two full 3×3 convolutions. The last layer starts at zero,
    so that every block starts as the identity and activations keep their scale at any depth.

    Where `latent_dim` is given, z scales and shifts the bottleneck's features (FiLM, Perez 2018):
    the wire by which a generative skip feeds z to every resolution (Dieng 2019).
    """

    def __init__(self, width: int, latent_dim: int | None = None) -> None:
        super().__init__()
        inner = max(width // 2, 8)
        # √2 makes up for the half of the variance that an activation takes.
        self.reduce = conv(width, inner, 1, gain=2**0.5)
        self.first = conv(inner, inner, 3, gain=2**0.5)
        self.second = conv(inner, inner, 3, gain=2**0.5)
        self.expand = conv(inner, width, 1, gain=0.0)
        self.film = linear(latent_dim, 2 * inner, gain=0.3) if latent_dim else None

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """(N, width, H, W), and z (N, latent_dim) where the block was built for it."""
        h = self.first(F.silu(self.reduce(F.silu(x))))
        if self.film is not None and z is not None:
            scale, shift = self.film(z)[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return x + self.expand(F.silu(self.second(F.silu(h))))


class Down(nn.Module):
    """Halve height and width: average over 2 × 2 pixels, then mix to the next width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # An average halves the standard deviation of independent features: make up for some.
        self.mix = conv(inputs, outputs, 1, gain=2**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(F.avg_pool2d(x, 2))


class Up(nn.Module):
    """Double height and width: mix to the next width, then bilinear interpolation.

    Interpolation is followed by 3 × 3 convolutions in the blocks; transposed convolutions and
    pixel shuffles leave checkerboards (Odena 2016).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.mix(x), scale_factor=2, mode="bilinear", align_corners=False)
