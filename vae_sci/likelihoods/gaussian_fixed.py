"""Discretised Gaussian with one σ for everything: the classic VAE, the control that blurs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vae_sci.likelihoods.base import Likelihood
from vae_sci.likelihoods.discretised_gaussian import DiscretisedGaussian
from vae_sci.likelihoods.grey_levels import GreyLevels
from vae_sci.likelihoods.light import Light


class GaussianFixed(Likelihood):
    """The decoder gives the mean alone; σ is `sigma` standard deviations of the channel, in any
    light.

    With ``sigma=1`` the log-likelihood is, up to a constant and the open tails, minus half the
    squared error on standardised channels. As mass over grey levels it is comparable, in bits per
    pixel, with every other family.
    """

    n_params = 1

    def __init__(
        self,
        grey_levels: GreyLevels,
        centre: Sequence[float],
        scale: Sequence[float],
        sigma: float,
    ) -> None:
        super().__init__(grey_levels, centre, scale)
        self.sigma = sigma

    def distribution(self, params: Tensor, light: Light | None = None) -> DiscretisedGaussian:
        loc = self.located(params.squeeze(2), light)
        return DiscretisedGaussian(loc, self.sigma * self.scale, self.top, validate_args=False)
