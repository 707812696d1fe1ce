"""The three acts: inference gives q(z|x), generative gives p(x|z); the objective only scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from vae_sci.config import ModelSettings
from vae_sci.errors import SettingsError
from vae_sci.likelihoods import (
    CameraNoise,
    GreyLevels,
    LevelDistribution,
    Light,
    make_likelihood,
)
from vae_sci.model.decoder import Decoder
from vae_sci.model.encoder import Encoder, SkipEncoder


@dataclass(frozen=True)
class Scaling:
    """How each channel's grey levels are distributed over the training tiles.

    Parameters
    ----------
    mean, sd : of the levels, one number per channel; centre and scale of the likelihood. Where a
        flat field is known, of those under even light, here and below.
    root_mean, root_sd : of the square root of the levels; the encoder's input is standardised by
        them. Photon noise grows with the root of the signal: on roots it is even (Anscombe 1948).
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    root_mean: tuple[float, ...]
    root_sd: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Scaling:
        return cls(**{name: tuple(numbers) for name, numbers in values.items()})


@dataclass(frozen=True)
class Posterior:
    """What the encoder makes of a batch.

    Parameters
    ----------
    z : q(z|x), mean and sd (N, latent_dim).
    skips : activations, coarse to fine, from which the decoder reads q(u|x, z); None where the
        decoder has no skip latents.
    """

    z: Normal
    skips: tuple[Tensor, ...] | None


# Tuples, not frozen dataclasses: Lightning Fabric rebuilds what passes through a wrapped model.
class Generated(NamedTuple):
    """What the decoder makes of a batch.

    Parameters
    ----------
    p : p(x | z, u) over levels (N, C, H, W).
    u, rates : the skip latents and the rate (N,), nats, of each: see `Decoded`.
    """

    p: LevelDistribution
    u: tuple[Tensor, ...]
    rates: tuple[Tensor, ...]


class Noise(NamedTuple):
    """Standard normal numbers with which z (N, latent_dim) and each u (its shape) are drawn."""

    z: Tensor
    u: tuple[Tensor, ...]

    def share(self, rows: slice, device: torch.device) -> Noise:
        """Those of some tiles, on `device`."""
        return Noise(self.z[rows].to(device), tuple(part[rows].to(device) for part in self.u))


class VAE(nn.Module):
    """A variational autoencoder over tiles of grey levels (Kingma & Welling 2014).

    `plates` are the plates that the decoder is told apart, where it is conditioned on them;
    `noise` is the camera's, for the likelihoods that know it.

    Raises
    ------
    SettingsError : the tile cannot be halved as often as the model has widths.
    """

    root_mean: Tensor
    root_sd: Tensor

    def __init__(
        self,
        settings: ModelSettings,
        size: int,
        grey_levels: GreyLevels,
        scaling: Scaling,
        plates: tuple[str, ...] = (),
        noise: CameraNoise | None = None,
    ) -> None:
        super().__init__()
        halvings = len(settings.widths)
        if size % 2**halvings:
            raise SettingsError(
                required=f"a tile edge divisible by {2**halvings}: {halvings} widths halve it "
                f"{halvings} times",
                found=f"tiles of {size} pixels and widths {list(settings.widths)}",
                action=f"set tiles.size to {max(1, round(size / 2**halvings)) * 2**halvings}, or "
                "give model.widths fewer entries",
            )
        self.settings, self.size, self.scaling = settings, size, scaling
        self.grey_levels, self.noise = grey_levels, noise
        self.plates = plates if "plate" in settings.decoder.condition else ()
        self.likelihood = make_likelihood(
            settings.likelihood, grey_levels, scaling.mean, scaling.sd, noise
        )
        channels = grey_levels.n_channels
        self.encoder = Encoder(channels, size, halvings, settings.latent_dim)
        self.decoder = Decoder(
            channels * self.likelihood.n_params,
            size,
            settings.widths,
            settings.depth,
            settings.latent_dim + len(self.plates),
            settings.decoder.skip,
            settings.decoder.skip_channels,
        )
        self.skip_encoder = (
            SkipEncoder(channels, settings.widths, settings.depth) if self.decoder.skips else None
        )
        # Convolutions run faster on pixels with their features side by side (docs/decisions.md).
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name in ("root_mean", "root_sd"):
            values = torch.tensor(getattr(scaling, name), dtype=torch.float32)
            self.register_buffer(name, values.view(-1, 1, 1))

    def plate_number(self, plate: str) -> int:
        """Index of a plate among those that the decoder is told apart; −1: none of them."""
        return self.plates.index(plate) if plate in self.plates else -1

    def standardized(
        self, levels: Tensor, visible: Tensor | None = None, light: Light | None = None
    ) -> Tensor:
        """Levels (N, C, H, W) → the encoders' input; pixels not `visible` get the mean, 0.

        With the light on the tiles: of levels as under even light.
        """
        even = levels.float() if light is None else light.evened(levels)
        x = (even.sqrt() - self.root_mean) / self.root_sd
        if visible is not None:
            x = torch.where(visible, x, 0.0)
        return x.contiguous(memory_format=torch.channels_last)

    def inference(
        self, levels: Tensor, visible: Tensor | None = None, light: Light | None = None
    ) -> Posterior:
        """Levels (N, C, H, W), integers → the posterior of z, and what the skips see.

        `visible` (N, 1, H, W), bool: pixels that the model may see. light : on the tiles.
        """
        x = self.standardized(levels, visible, light)
        return Posterior(self.phenotype(x), self.skip_encoder(x) if self.skip_encoder else None)

    def phenotype(self, x: Tensor) -> Normal:
        """q(z|x) from the encoders' input x (N, C, H, W), as of `standardized`."""
        mean, sd = self.encoder(x)
        return Normal(mean, sd, validate_args=False)

    def generative(
        self,
        z: Tensor,
        skips: tuple[Tensor, ...] | None = None,
        u: tuple[Tensor, ...] | None = None,
        temperature: float = 1.0,
        noise: tuple[Tensor, ...] | None = None,
        plate: Tensor | None = None,
        shape: tuple[int, int] | None = None,
        light: Light | None = None,
    ) -> Generated:
        """z (N, latent_dim) → p(x | z, u), a distribution over levels (N, C, H, W).

        With `skips`, u comes from its posterior, without from its prior, with `u` it is forced:
        `Decoder.forward` tells of these and the other arguments. plate (N,), index into `plates`,
        −1 for any other plate; left out: that of none. light : under which the tiles are seen; left
        out: even.
        """
        if self.plates:
            told = torch.zeros(len(z), len(self.plates) + 1, device=z.device, dtype=z.dtype)
            if plate is not None:
                told.scatter_(1, plate.to(z.device)[:, None] % (len(self.plates) + 1), 1.0)
            z = torch.cat([z, told[:, :-1]], dim=1)
        made = self.decoder(z, skips, u, temperature, noise, shape)
        return Generated(self.likelihood(made.params, light), made.u, made.rates)

    def draw_noise(
        self, n: int, generator: torch.Generator, shape: tuple[int, int] | None = None
    ) -> Noise:
        """Noise for n tiles of `shape` (height, width; left out: as in training), on the CPU."""
        height, width = shape or (self.size, self.size)
        shapes = [(self.settings.latent_dim,), *self.decoder.latent_shapes(height, width)]
        z, *u = (torch.randn(n, *one, generator=generator) for one in shapes)
        return Noise(z, tuple(u))

    def forward(
        self,
        x: Tensor,
        view: Tensor,
        noise: Noise,
        kept: int,
        plate: Tensor | None = None,
        light: Light | None = None,
    ) -> tuple[Normal, Generated, Normal]:
        """What a training step needs: q(z|x), p(x|z, u) at one draw of z and u, and q(z|x') of a
        second view x' of the same cells.

        x, view : (N, C, H, W), encoders' inputs as of `standardized`. `noise` is what z and u are
        drawn with (Kingma & Welling 2014); the first `kept` tiles keep their skips, u of the others
        is drawn from its prior (skip dropout). light : on the tiles.
        """
        q = self.phenotype(x)
        skips = self.skip_encoder(x[:kept]) if self.skip_encoder else None
        z = q.mean + q.stddev * noise.z
        made = self.generative(z, skips, noise=noise.u, plate=plate, light=light)
        return q, made, self.phenotype(view)
