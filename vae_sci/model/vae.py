"""The three acts: inference gives q(z|x), generative gives p(x|z); the objective only scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from vae_sci.config import ModelSettings
from vae_sci.errors import SettingsError
from vae_sci.likelihoods import GreyLevels, LevelDistribution, make_likelihood
from vae_sci.model.decoder import Decoder
from vae_sci.model.encoder import Encoder


@dataclass(frozen=True)
class Scaling:
    """How each channel's grey levels are distributed over the training tiles.

    Parameters
    ----------
    mean, sd : of the levels, one number per channel; centre and scale of the likelihood.
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


class VAE(nn.Module):
    """A variational autoencoder over tiles of grey levels (Kingma & Welling 2014).

    Raises
    ------
    SettingsError : the tile cannot be halved as often as the model has widths.
    """

    root_mean: Tensor
    root_sd: Tensor

    def __init__(
        self, settings: ModelSettings, size: int, grey_levels: GreyLevels, scaling: Scaling
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
        self.grey_levels = grey_levels
        chosen = settings.likelihood
        options: dict[str, dict[str, Any]] = {
            "logistic_mixture": {"components": chosen.components},
            "gaussian_fixed": {"sigma": chosen.sigma},
        }
        self.likelihood = make_likelihood(
            chosen.name, grey_levels, scaling.mean, scaling.sd, **options[chosen.name]
        )
        shape = (settings.widths, settings.depth, settings.latent_dim)
        channels = grey_levels.n_channels
        self.encoder = Encoder(channels, *shape)
        self.decoder = Decoder(
            channels * self.likelihood.n_params, size, *shape, skip=settings.decoder.skip
        )
        # Convolutions run faster on pixels with their features side by side (docs/decisions.md).
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name in ("root_mean", "root_sd"):
            values = torch.tensor(getattr(scaling, name), dtype=torch.float32)
            self.register_buffer(name, values.view(-1, 1, 1))

    def standardized(self, levels: Tensor, visible: Tensor | None = None) -> Tensor:
        """Levels (N, C, H, W) → the encoder's input; pixels not `visible` get the mean, 0."""
        x = (levels.float().sqrt() - self.root_mean) / self.root_sd
        if visible is not None:
            x = torch.where(visible, x, 0.0)
        return x.contiguous(memory_format=torch.channels_last)

    def inference(self, levels: Tensor, visible: Tensor | None = None) -> Normal:
        """Levels (N, C, H, W), integers → q(z|x) with mean and sd (N, latent_dim).

        `visible` (N, 1, H, W), bool: pixels that the model may see.
        """
        return self.encoder(self.standardized(levels, visible))

    def generative(self, z: Tensor) -> LevelDistribution:
        """z (N, latent_dim) → p(x|z), a distribution over levels (N, C, H, W)."""
        return self.likelihood(self.decoder(z))

    def forward(
        self,
        levels: Tensor,
        visible: Tensor | None,
        view: Tensor,
        view_visible: Tensor | None,
        noise: Tensor,
    ) -> tuple[Normal, LevelDistribution, Normal]:
        """What a training step needs: q(z|x), p(x|z) at one draw of z, and q(z|x') of a second
        view x' of the same cells (the same shapes).

        noise (N, latent_dim), standard normal, is what z is drawn with (Kingma & Welling 2014).
        """
        both = torch.cat(
            [self.standardized(levels, visible), self.standardized(view, view_visible)]
        )
        means, sds = (part.chunk(2) for part in self.encoder.moments(both))
        q, q_view = (
            Normal(mean, sd, validate_args=False) for mean, sd in zip(means, sds, strict=True)
        )
        return q, self.generative(q.mean + q.stddev * noise), q_view
