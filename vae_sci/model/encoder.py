"""From a tile to q(z | x), and to what the decoder's skips see."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from vae_sci.model.blocks import Down, ResidualBlock, bounded, conv, linear
from vae_sci.model.statistics import tile_statistics

# Bounds on log sd of the posterior, approached smoothly so that no gradient dies. Wider than the
# prior by more than e is never useful, and a wild width early on would throw the decoder off.
LOG_SD_MIN, LOG_SD_MAX = -7.0, 1.0
# Likewise on a tile's statistics, in sds of those of the training tiles: a saturated tile must not
# throw off the head.
STATISTIC_MAX = 8.0


class Encoder(nn.Module):
    """q(z | x), read off the statistics of a tile by one linear layer.

    So z is told what is in the tile (amounts, texture), not where it lies or which way it is
    turned. Heads on learned maps, flattened or pooled, spend z on those, and tell mechanisms worse
    (docs/decisions.md). What lies where is for the skips.

    Parameters
    ----------
    channels : image channels.
    size : edge of the tiles, pixels.
    octaves : bands of the statistics (`tile_statistics`).
    latent_dim : numbers in z.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, channels: int, size: int, octaves: int, latent_dim: int) -> None:
        super().__init__()
        self.octaves = octaves
        count = tile_statistics(torch.zeros(1, channels, size, size), octaves).shape[1]
        self.register_buffer("centre", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))
        self.head = linear(count, 2 * latent_dim, gain=0.5)
        with torch.no_grad():
            # Start with log sd near −1: narrower than the prior, so that z carries signal.
            self.head.bias[latent_dim:] = 2.0

    @torch.no_grad()
    def standardize(self, x: Tensor) -> None:
        """Let the head see statistics of mean 0 and sd 1 over the tiles x (N, C, H, W).

        Their differences between cells are small beside their means; without this the head learns
        texture more slowly (docs/decisions.md). Data-dependent start: Salimans & Kingma 2016.
        """
        found = tile_statistics(x, self.octaves)
        self.centre.copy_(found.mean(dim=0))
        self.spread.copy_(found.std(dim=0, unbiased=False).clamp(min=1e-3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised input (N, C, H, W) → mean and sd of q(z|x), (N, latent_dim), float32."""
        found = (tile_statistics(x, self.octaves) - self.centre) / self.spread
        mean, log_sd = self.head(bounded(found, STATISTIC_MAX)).float().chunk(2, dim=1)
        half = (LOG_SD_MAX - LOG_SD_MIN) / 2
        log_sd = LOG_SD_MIN + half + bounded(log_sd, half)
        return mean, log_sd.exp()


class SkipEncoder(nn.Module):
    """What the skips see of a tile: a residual convolutional network's activations.

    Parameters
    ----------
    channels : image channels.
    widths : feature maps at each resolution, from half the tile's size downward.
    depth : residual blocks per resolution.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], depth: int) -> None:
        super().__init__()
        # The first step goes straight to half resolution: full-size maps cost the most.
        self.stem = conv(channels, widths[0], 4, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(depth))) for width in widths
        )
        self.downs = nn.ModuleList(Down(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Standardised input (N, C, H, W) → activations at every resolution, coarse to fine, as
        the decoder takes them."""
        h = self.stem(x)
        found = []
        for level, stage in enumerate(self.stages):
            if level:
                h = self.downs[level - 1](h)
            h = stage(h)
            found.append(h)
        return tuple(found[::-1])
