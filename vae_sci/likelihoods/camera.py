"""Discretised Gaussian whose variance follows the camera's noise law."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_sci.likelihoods.base import ROUNDING_SD, Likelihood
from vae_sci.likelihoods.discretised_gaussian import DiscretisedGaussian
from vae_sci.likelihoods.grey_levels import GreyLevels
from vae_sci.likelihoods.light import Light
from vae_sci.likelihoods.noise import CameraNoise


class Camera(Likelihood):
    """The decoder gives the mean alone; ``σ² = gain · (mean − offset) + read_variance``.

    The mean is that which the camera sees, in any light. σ² is not less than the read variance, nor
    than the 1/12 of rounding. The Gaussian stands for the sum of a Poisson and a Gaussian variable
    (Foi et al. 2008): its skew is missing.
    """

    n_params = 1
    gain: Tensor
    constant: Tensor
    floor: Tensor

    def __init__(
        self,
        grey_levels: GreyLevels,
        centre: Sequence[float],
        scale: Sequence[float],
        noise: CameraNoise,
    ) -> None:
        super().__init__(grey_levels, centre, scale)
        self.register_buffer("gain", self.per_channel(noise.gain))
        self.register_buffer("constant", self.per_channel(noise.constant))
        self.register_buffer("floor", self.per_channel(noise.read_variance))

    def distribution(self, params: Tensor, light: Light | None = None) -> DiscretisedGaussian:
        mean = self.located(params.squeeze(2), light)
        # The levels were checked when they were made from counts: `GreyLevels.to_steps`.
        return camera_gaussian(
            mean, self.gain, self.constant, self.floor, self.top, validate_args=False
        )


def camera_gaussian(
    mean: Tensor,
    gain: Tensor,
    constant: Tensor,
    floor: Tensor,
    top: Tensor,
    validate_args: bool | None = None,
) -> DiscretisedGaussian:
    """Gaussian of variance ``gain · mean + constant``, at least `floor` and 1/12, over levels.

    mean : (N, C, H, W), levels. The numbers of the camera are broadcastable to it.
    """
    variance = (gain * mean + constant).clamp(min=ROUNDING_SD**2)
    return DiscretisedGaussian(mean, torch.maximum(variance, floor).sqrt(), top, validate_args)
