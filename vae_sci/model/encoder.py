"""q(z | x): from a tile of grey levels to a distribution over its phenotype."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

from vae_sci.model.blocks import Down, ResidualBlock, conv, linear, pooled

# Bounds on log sd of the posterior, approached smoothly so that no gradient dies. Wider than the
# prior by more than e is never useful, and a wild width early on would throw the decoder off.
LOG_SD_MIN, LOG_SD_MAX = -7.0, 1.0


class Encoder(nn.Module):
    """Residual convolutional encoder.

    z is read from two views at once: the coarsest map, flattened (where things lie), and mean and
    standard deviation of the activations at every resolution (texture, wherever it lies).

    Parameters
    ----------
    channels : image channels.
    size : edge of a tile, pixels; must be divisible by 2 ** len(widths).
    widths : feature maps at each resolution, from size / 2 downward.
    depth : residual blocks per resolution.
    latent_dim : numbers in z.
    """

    def __init__(
        self, channels: int, size: int, widths: tuple[int, ...], depth: int, latent_dim: int
    ) -> None:
        super().__init__()
        # The first step goes straight to half resolution: full-size maps cost the most.
        self.stem = nn.Conv2d(channels, widths[0], 4, stride=2, padding=1)
        nn.init.normal_(self.stem.weight, std=(channels * 16) ** -0.5)
        nn.init.zeros_(self.stem.bias)  # type: ignore[arg-type]
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(depth))) for width in widths
        )
        self.downs = nn.ModuleList(Down(a, b) for a, b in itertools.pairwise(widths))
        edge = size // 2 ** len(widths)
        # One 1×1 layer before flattening keeps the head small for any width.
        self.squeeze = conv(widths[-1], 16, 1)
        self.head = linear(16 * edge * edge + 2 * sum(widths), 2 * latent_dim, gain=0.5)
        with torch.no_grad():
            # Start with log sd near −1: narrower than the prior, so that z carries signal.
            self.head.bias[latent_dim:] = 2.0

    def forward(self, x: Tensor) -> Normal:
        """Standardised input (N, C, H, W) → q(z|x), mean and sd (N, latent_dim), float32."""
        h = self.stem(x)
        summaries = []
        for level, stage in enumerate(self.stages):
            if level:
                h = self.downs[level - 1](h)
            h = stage(h)
            summaries.append(pooled(h))
        flat = self.squeeze(F.gelu(h)).flatten(1)
        mean, log_sd = self.head(torch.cat([flat, *summaries], dim=1)).float().chunk(2, dim=1)
        half = (LOG_SD_MAX - LOG_SD_MIN) / 2
        log_sd = LOG_SD_MIN + half * (1 + torch.tanh(log_sd / half))
        return Normal(mean, log_sd.exp(), validate_args=False)
