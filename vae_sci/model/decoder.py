"""p(x | z, u): from a phenotype, and what the skips tell, to the parameters of a likelihood."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_sci.model.blocks import Planes, ResidualBlock, Up, bounded, conv, linear

# Bounds on a skip latent's numbers, approached smoothly. A shift of 20 prior sds costs 200 nats, a
# width of e^±5 of the prior's at most 1.1e4: enough for any signal, and nothing can overflow.
SHIFT_MAX, LOG_RATIO_MAX, LOG_SD_MAX = 20.0, 5.0, 3.0


@dataclass(frozen=True)
class Decoded:
    """What a pass through the decoder gives.

    Parameters
    ----------
    params : (N, outputs, H, W), raw parameters of the likelihood.
    u : the skip latents, coarse to fine, (N, channels, h, w) each.
    rates : KL(q(u_l | ·) ‖ p(u_l | ·)) of each, (N,), nats; 0 where u came from the prior.
    """

    params: Tensor
    u: tuple[Tensor, ...]
    rates: tuple[Tensor, ...]


class SkipLatent(nn.Module):
    """u at one resolution: the only way by which the encoder's activations reach the decoder.

    The prior p(u | z, u above) is read from what is decoded so far; the posterior sees the
    encoder's activations too, and is told **relative** to the prior (Vahdat & Kautz 2020, NVAE):
    shift in units of the prior's sd, ratio of the two sds. So no number is divided by a small sd,
    the KL is that of two bounded numbers, and posterior without evidence *is* the prior: one path
    for both. At initialisation the prior is standard normal and the posterior close to it.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        # Narrow: the kinds of skip are to differ in what they let through, not in their size.
        inner = max(width // 4, 8)
        self.prior = conv(width, 2 * channels, 1, gain=0.0)
        self.see = conv(2 * width, inner, 1)
        self.think = conv(inner, inner, 3, gain=2**0.5)
        self.tell = conv(inner, 2 * channels, 1, gain=0.1)
        self.enter = conv(channels, width, 1, gain=0.5)

    def forward(
        self,
        h: Tensor,
        seen: Tensor | None,
        u: Tensor | None,
        temperature: float,
        noise: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h (N, width, H, W) → h with u added, u, and the rate (N,), nats; see `Decoder.forward`.

        seen : the encoder's activations of the first n ≤ N tiles, (n, width, H, W). noise : of this
        resolution.
        """
        mean, log_sd = self.prior(F.silu(h)).float().chunk(2, dim=1)
        sd = bounded(log_sd, LOG_SD_MAX).exp()
        if seen is None:
            shift = log_ratio = torch.zeros_like(mean)
        else:
            by_h, by_seen = self.see.weight.chunk(2, dim=1)
            # Sliced as it lies in memory, so that its gradient lies there likewise.
            own = h.permute(0, 2, 3, 1)[: len(seen)].permute(0, 3, 1, 2)
            told = F.silu(F.conv2d(own, by_h, self.see.bias) + F.conv2d(seen, by_seen))
            shift, log_ratio = self.tell(F.silu(self.think(told))).float().chunk(2, dim=1)
            # No evidence of the others: their posterior is the prior.
            others = (0, 0, 0, 0, 0, 0, 0, len(h) - len(seen))
            shift = F.pad(bounded(shift, SHIFT_MAX), others)
            log_ratio = F.pad(bounded(log_ratio, LOG_RATIO_MAX), others)
        rate = (0.5 * (shift.square() + (2 * log_ratio).exp() - 1) - log_ratio).sum(dim=(1, 2, 3))
        if u is None:
            noise = torch.randn_like(mean) if noise is None else noise
            u = mean + sd * (shift + temperature * log_ratio.exp() * noise)
        return h + self.enter(u.to(h.dtype)), u, rate


class Decoder(nn.Module):
    """Residual convolutional decoder, the encoder's mirror, with one of three kinds of skip.

    "none": z enters once, at the bottom. "latent": every block is also modulated by z (Dieng
    2019). "ladder": moreover each resolution has a small latent map of its own, `SkipLatent`
    (Sønderby 2016; NVAE; VDVAE): what z leaves open, such as where things lie.

    The other two, the ladder's controls, have as many weights as it has together with its
    `SkipEncoder`, within a tenth: twice the blocks, and one more at the coarsest resolution.

    Parameters
    ----------
    outputs : numbers per pixel, image channels × parameters of the likelihood.
    size, widths, depth : as in `SkipEncoder`; depth is that of the ladder.
    latent_dim : numbers that enter at the bottom: z, and one per plate where it is conditioned.
    skip : the kind.
    skip_channels : maps of u at each resolution, coarse to fine; resolutions beyond its end, and
        those with 0, have none. Ladder only.
    """

    def __init__(
        self,
        outputs: int,
        size: int,
        widths: tuple[int, ...],
        depth: int,
        latent_dim: int,
        skip: str,
        skip_channels: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        coarse = widths[::-1]
        self.halvings = len(widths)
        self.bottom = (coarse[0], size // 2**self.halvings, size // 2**self.halvings)
        self.root = linear(latent_dim, self.bottom[0] * self.bottom[1] * self.bottom[2])
        wire = None if skip == "none" else latent_dim
        blocks = [depth] * len(coarse)
        if skip != "ladder":
            blocks = [2 * depth + (level == 0) for level in range(len(coarse))]
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, wire) for _ in range(count))
            for count, width in zip(blocks, coarse, strict=True)
        )
        self.ups = nn.ModuleList(Up(a, b) for a, b in itertools.pairwise(coarse))
        self.skips = nn.ModuleDict(
            {
                str(level): SkipLatent(width, channels)
                for level, (width, channels) in enumerate(zip(coarse, skip_channels, strict=False))
                if channels and skip == "ladder"
            }
        )
        fine = max(coarse[-1] // 2, 8)
        self.last_up = Up(coarse[-1], fine)
        self.refine = conv(fine, fine, 3, gain=2**0.5)
        # Near zero: the first prediction is each channel's own mean and spread (see Likelihood).
        self.head = Planes(fine, outputs, gain=0.1)

    def latent_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(channels, h, w) of every u, coarse to fine, for tiles of height × width pixels."""
        found = []
        for level, skip in self.skips.items():
            assert isinstance(skip, SkipLatent)
            halved = 2 ** (self.halvings - int(level))
            found.append((skip.channels, height // halved, width // halved))
        return found

    def forward(
        self,
        z: Tensor,
        skips: tuple[Tensor, ...] | None = None,
        u: tuple[Tensor, ...] | None = None,
        temperature: float = 1.0,
        noise: tuple[Tensor, ...] | None = None,
        shape: tuple[int, int] | None = None,
    ) -> Decoded:
        """z (N, latent_dim) → raw parameters; one path for inference, sampling and forced u.

        Parameters
        ----------
        skips : the encoder's activations, coarse to fine, of the first n ≤ N tiles: their u comes
            from its posterior. That of the others (None: of all) comes from its prior, and its rate
            is 0: skip dropout, which leaves a true bound.
        u : forced: these are taken as they are.
        temperature : factor on the sd with which u is drawn; 0 gives its mean.
        noise : standard normal, the shapes of u; None: drawn here.
        shape : (height, width) of the tiles, pixels, where it is not that of training. Skips tell
            it by themselves.
        """
        h = self.root(z).unflatten(1, self.bottom)
        bottom = list(self.bottom[1:])
        if skips is not None:
            bottom = list(skips[0].shape[2:])
        elif shape is not None:
            bottom = [edge // 2**self.halvings for edge in shape]
        if bottom != list(self.bottom[1:]):
            h = F.interpolate(h, bottom, mode="bilinear", align_corners=False)
        used: list[Tensor] = []
        rates: list[Tensor] = []
        for level, blocks in enumerate(self.stages):
            if level:
                h = self.ups[level - 1](h)
            if str(level) in self.skips:
                place = len(used)
                h, drawn, rate = self.skips[str(level)](
                    h,
                    None if skips is None else skips[level],
                    None if u is None else u[place],
                    temperature,
                    None if noise is None else noise[place],
                )
                used.append(drawn)
                rates.append(rate)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, z)
        h = self.last_up(h)
        h = h + self.refine(F.silu(h))
        return Decoded(self.head(F.silu(h)), tuple(used), tuple(rates))
