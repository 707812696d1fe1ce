"""The pieces that encoder and decoder share; initialisation stands beside each layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
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


def pooled(x: Tensor) -> Tensor:
    """What is in the maps, not where: (N, C, H, W) → (N, 5 C).

    Mean, standard deviation and the fourth root of the fourth central moment over space, in units
    of the activations: how much, how textured, and whether the texture is made of few strong spots
    or of many weak ones. Last, without unit, the coherence of the map's gradients: over the whole
    map and within windows of 8 pixels.
    """
    x = x.float()  # cells differ by a few per cent: bf16 would round that away
    mean = x.mean(dim=(2, 3), keepdim=True)
    square = (x - mean).square()
    # A gradient through a root of 0 is infinite: the floors keep a constant map harmless.
    spread = square.mean(dim=(2, 3)).add(1e-4).sqrt()
    peaks = square.square().mean(dim=(2, 3)).add(1e-8).sqrt().sqrt()
    return torch.cat([mean.flatten(1), spread, peaks, *coherence(x)], dim=1)


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
    # Differences across a 2 × 2 square, along its two diagonals: both at the same place.
    down = x[:, :, 1:, 1:] - x[:, :, :-1, :-1]
    up = x[:, :, :-1, 1:] - x[:, :, 1:, :-1]
    tensor = torch.stack([down * down, up * up, down * up], dim=1)
    whole = tensor.mean(dim=(3, 4), keepdim=True)
    size = min(WINDOW, *tensor.shape[3:])
    parts = F.avg_pool2d(tensor.flatten(1, 2), size, max(1, size // 2)).unflatten(1, (3, -1))
    return _anisotropy(whole), _anisotropy(parts)


def _anisotropy(tensor: Tensor) -> Tensor:
    """Structure tensors (N, 3, C, H, W) as a, b and their product → (N, C), over all places."""
    a, b, both = tensor.flatten(3).unbind(1)
    # The floors as above: a map without texture has no direction.
    apart = ((a - b).square() + 4 * both.square() + 1e-8).sqrt()
    return apart.mean(dim=2) / ((a + b).mean(dim=2) + 1e-2)
