"""Discretised Gaussian with a predicted mean and σ at every pixel."""

from __future__ import annotations

from torch import Tensor

from vae_sci.likelihoods.base import Likelihood
from vae_sci.likelihoods.discretised_gaussian import DiscretisedGaussian
from vae_sci.likelihoods.light import Light

MIN_SIGMA = 0.13  # levels: one then holds all but 1e-4 of its Gaussian; smaller gains nothing


class Gaussian(Likelihood):
    """The decoder gives the mean (`Likelihood.located`) and σ (`Likelihood.spread`)."""

    n_params = 2

    def distribution(self, params: Tensor, light: Light | None = None) -> DiscretisedGaussian:
        loc, log_sigma = params.unbind(2)
        return DiscretisedGaussian(
            self.located(loc, light),
            self.spread(log_sigma, self.scale, MIN_SIGMA, light),
            self.top,
            validate_args=False,
        )
