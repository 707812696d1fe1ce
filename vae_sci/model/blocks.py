"""The pieces that encoder and decoder share; initialisation stands beside each layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def conv(inputs: int, outputs: int, size: int, *, gain: float = 1.0) -> nn.Conv2d:
    """A convolution that keeps the scale of activations: variance-preserving weights, zero bias.

    `gain` multiplies the weights' standard deviation 1/√fan_in (0: the layer starts silent).
    """
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2)
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


MOMENTS = 5  # numbers per feature map in `pooled`
WINDOW = 8  # pixels of a map: the second scale of `coherence`
# Numbers per block on the CPU: a few temporaries of that size fit in the cache.
BLOCK = 2**17


def pooled(x: Tensor) -> Tensor:
    """What is in the maps, not where: (N, C, H, W) → (N, 5 C).

    Mean, standard deviation and the fourth root of the fourth central moment over space, in units
    of the activations: how much, how textured, and whether the texture is made of few strong spots
    or of many weak ones. Last, without unit, the coherence of the map's gradients: over the whole
    map and within windows of 8 pixels.
    """
    x = x.float()  # cells differ by a few per cent: bf16 would round that away
    mean, square, fourth = _Moments.apply(x)
    # A gradient through a root of 0 is infinite: the floors keep a constant map harmless.
    spread = square.add(1e-4).sqrt()
    peaks = fourth.add(1e-8).sqrt().sqrt()
    return torch.cat([mean, spread, peaks, *coherence(x)], dim=1)


def coherence(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each map's texture runs one way: (N, C, H, W) → twice (N, C), 0 no way, 1 one way.

    (λ₁ − λ₂) / (λ₁ + λ₂) of the eigenvalues of the structure tensor (Bigün & Granlund 1987), the
    same for any direction: first of the whole map (are its filaments parallel?), then of windows
    of 8 × 8 pixels, weighted by their gradients (filaments or dots?). No linear head could read
    that from moments of filters, each of which prefers a direction of its own.
    """
    if min(x.shape[2:]) < 2:  # no gradient in a map of one pixel
        zero = 0 * x.mean(dim=(2, 3))
        return zero, zero
    whole, parts = _StructureTensors.apply(x)
    return _anisotropy(whole), _anisotropy(parts)


def _anisotropy(tensor: Tensor) -> Tensor:
    """Structure tensors (3, N, C, H, W) as a, b and their product → (N, C), over all places."""
    a, b, both = tensor.flatten(3)
    # The floors as above: a map without texture has no direction.
    apart = ((a - b).square() + 4 * both.square() + 1e-8).sqrt()
    return apart.mean(dim=2) / ((a + b).mean(dim=2) + 1e-2)


def _tiles_per_block(x: Tensor) -> int:
    return max(1, BLOCK * len(x) // x.numel()) if x.device.type == "cpu" else len(x)


class _Moments(torch.autograd.Function):
    """Mean, variance and fourth central moment of each map: (N, C, H, W) → (3, N, C).

    By hand, as `_StructureTensors`, because autograd would keep and pass over a dozen tensors of
    the size of x: this keeps x alone, and is several times faster on the CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        found = []
        for block in x.split(_tiles_per_block(x)):
            mean = block.mean(dim=(2, 3), keepdim=True)
            square = (block - mean).square_()
            variance = square.mean(dim=(2, 3))
            fourth = square.square_().mean(dim=(2, 3))
            found.append(torch.stack([mean.flatten(1), variance, fourth]))
        return torch.cat(found, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        by_x = torch.empty_like(x)
        by_moments = gradient[..., None, None] / (x.shape[2] * x.shape[3])
        rows = _tiles_per_block(x)
        blocks = zip(x.split(rows), by_moments.split(rows, dim=1), by_x.split(rows), strict=True)
        for block, (by_mean, by_variance, by_fourth), out in blocks:
            centred = block - block.mean(dim=(2, 3), keepdim=True)
            found = torch.addcmul(2 * by_variance, centred.square(), 4 * by_fourth).mul_(centred)
            # The mean moves with every pixel.
            out.copy_(found.add_(by_mean - found.mean(dim=(2, 3), keepdim=True)))
        return by_x


class _StructureTensors(torch.autograd.Function):
    """Squares and product of the two diagonal differences of each map (N, C, H, W), averaged over
    the whole map, (3, N, C, 1, 1), and over windows that share their halves, (3, N, C, h, w)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        whole, parts = [], []
        for block in x.split(_tiles_per_block(x)):
            down, up = _differences(block)
            tensor = (down * down, up * up, down * up)
            whole.append(torch.stack([t.mean(dim=(2, 3), keepdim=True) for t in tensor]))
            parts.append(torch.stack([F.avg_pool2d(t, *_window(block)) for t in tensor]))
        return torch.cat(whole, dim=1), torch.cat(parts, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_whole: Tensor, by_parts: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        by_x = torch.empty_like(x)
        by_whole = by_whole / ((x.shape[2] - 1) * (x.shape[3] - 1))
        size, stride = ([edge, edge] for edge in _window(x))
        rows = _tiles_per_block(x)
        parts = (by_whole.split(rows, dim=1), by_parts.split(rows, dim=1), by_x.split(rows))
        for block, whole, windows, out in zip(x.split(rows), *parts, strict=True):
            down, up = _differences(block)
            by_a, by_b, by_both = (
                torch.ops.aten.avg_pool2d_backward(
                    by_window.contiguous(memory_format=torch.channels_last),
                    down,
                    size,
                    stride,
                    [0, 0],
                    False,
                    True,
                    None,
                ).add_(by_map)
                for by_window, by_map in zip(windows, whole, strict=True)
            )
            by_down = by_a.mul_(down).mul_(2).addcmul_(by_both, up)
            by_up = by_b.mul_(up).mul_(2).addcmul_(by_both, down)
            out.zero_()
            out[:, :, 1:, 1:].add_(by_down)
            out[:, :, :-1, :-1].sub_(by_down)
            out[:, :, :-1, 1:].add_(by_up)
            out[:, :, 1:, :-1].sub_(by_up)
        return by_x


def _differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Across a 2 × 2 square, along its two diagonals: both at the same place."""
    return x[:, :, 1:, 1:] - x[:, :, :-1, :-1], x[:, :, :-1, 1:] - x[:, :, 1:, :-1]


def _window(x: Tensor) -> tuple[int, int]:
    """Edge and stride of the windows, pixels."""
    size = min(WINDOW, x.shape[2] - 1, x.shape[3] - 1)
    return size, max(1, size // 2)
