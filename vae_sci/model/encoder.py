"""q(z | x): from a tile of grey levels to a distribution over its phenotype."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from vae_sci.model.blocks import MOMENTS, Down, ResidualBlock, bounded, linear, pooled

# Bounds on log sd of the posterior, approached smoothly so that no gradient dies. Wider than the
# prior by more than e is never useful, and a wild width early on would throw the decoder off.
LOG_SD_MIN, LOG_SD_MAX = -7.0, 1.0


class Encoder(nn.Module):
    """Residual convolutional encoder.

    z is read from moments over space of the tile and of its activations at every resolution
    (`blocks.pooled`): what is in the tile (amounts, texture, shape), not where it lies. A head that
    flattens the last map spends z on positions (docs/decisions.md).

    Parameters
    ----------
    channels : image channels.
    widths : feature maps at each resolution, from half the tile's size downward.
    depth : residual blocks per resolution.
    latent_dim : numbers in z.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, channels: int, widths: tuple[int, ...], depth: int, latent_dim: int) -> None:
        super().__init__()
        # The first step goes straight to half resolution: full-size maps cost the most.
        self.stem = nn.Conv2d(channels, widths[0], 4, stride=2, padding=1)
        with torch.no_grad():
            # Each filter starts on one channel: mixed from the start, the texture of one channel
            # is hidden by the others.
            self.stem.weight.zero_()
            for index, kernel in enumerate(self.stem.weight):
                kernel[index % channels].normal_(std=16**-0.5)
        nn.init.zeros_(self.stem.bias)  # type: ignore[arg-type]
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(depth))) for width in widths
        )
        self.downs = nn.ModuleList(Down(a, b) for a, b in itertools.pairwise(widths))
        summaries = MOMENTS * (channels + sum(widths))
        self.register_buffer("centre", torch.zeros(summaries))
        self.register_buffer("spread", torch.ones(summaries))
        self.head = linear(summaries, 2 * latent_dim, gain=0.5)
        with torch.no_grad():
            # Start with log sd near −1: narrower than the prior, so that z carries signal.
            self.head.bias[latent_dim:] = 2.0

    def activations(self, x: Tensor) -> tuple[Tensor, ...]:
        """Standardised input (N, C, H, W) → activations at every resolution, fine to coarse."""
        h = self.stem(x)
        found = []
        for level, stage in enumerate(self.stages):
            if level:
                h = self.downs[level - 1](h)
            h = stage(h)
            found.append(h)
        return tuple(found)

    @staticmethod
    def summaries(x: Tensor, activations: tuple[Tensor, ...]) -> Tensor:
        """Moments over space of the input and of its activations, (N, summaries)."""
        # The input's few channels side by side would leave a CPU's vectors half empty.
        return torch.cat([pooled(part) for part in (x.contiguous(), *activations)], dim=1)

    @torch.no_grad()
    def standardize_summaries(self, x: Tensor) -> None:
        """Start the head on summaries of mean 0 and sd 1 over the tiles x (N, C, H, W).

        Their differences between cells are small beside their means; without this the head learns
        texture more slowly (docs/decisions.md). Data-dependent start: Salimans & Kingma 2016.
        """
        summaries = self.summaries(x, self.activations(x))
        self.centre.copy_(summaries.mean(dim=0))
        self.spread.copy_(summaries.std(dim=0, unbiased=False).clamp(min=1e-3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Standardised input (N, C, H, W) → mean and sd of q(z|x), (N, latent_dim), float32, and
        the activations at every resolution, coarse to fine, as the decoder takes them."""
        activations = self.activations(x)
        summaries = (self.summaries(x, activations) - self.centre) / self.spread
        mean, log_sd = self.head(summaries).float().chunk(2, dim=1)
        half = (LOG_SD_MAX - LOG_SD_MIN) / 2
        log_sd = LOG_SD_MIN + half + bounded(log_sd, half)
        return mean, log_sd.exp(), activations[::-1]
