"""Discretised Laplace with a predicted location and scale at every pixel: heavier tails, L1."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vae_sci.likelihoods.base import LevelDistribution, Likelihood, at_least_float32
from vae_sci.likelihoods.blocks import in_blocks
from vae_sci.likelihoods.light import Light

MIN_SCALE = 0.05  # levels: one then holds all but 1e-4 of its Laplace; smaller gains nothing
LOG_2 = math.log(2)


class DiscretisedLaplace(LevelDistribution):
    """Laplace(loc, scale), of density ``exp(−|y − loc| / scale) / (2 scale)``, over each level.

    Parameters
    ----------
    loc, scale : (N, C, H, W), levels.
    top : highest level per channel, (C, 1, 1).
    """

    def __init__(
        self, loc: Tensor, scale: Tensor, top: Tensor, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale = at_least_float32(loc), at_least_float32(scale)
        super().__init__(top, self.loc.shape, validate_args=validate_args)

    def _log_mass(self, levels: Tensor) -> Tensor:
        def log_mass(levels: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
            distance = (levels - loc) / scale
            return log_laplace_level(distance, 1 / scale, levels == 0, levels == self.top)

        return in_blocks(log_mass, levels, self.loc, self.scale)

    def _draw(self, shape: torch.Size) -> Tensor:
        uniform = torch.rand((2, *shape), dtype=self.loc.dtype, device=self.loc.device)
        # A Laplace is the difference of two exponentials.
        ahead, behind = -torch.log1p(-uniform)
        return self.loc + self.scale * (ahead - behind)

    @property
    def mean(self) -> Tensor:
        # E[clip(Y, 0, top)] = ∫ P(Y > y) dy over (0, top); from y to ∞ it is:
        def beyond(y: Tensor | float) -> Tensor:
            distance = (self.loc - y).abs() / self.scale
            return F.relu(self.loc - y) + 0.5 * self.scale * torch.exp(-distance)

        return beyond(0.0) - beyond(self.top)

    @property
    def variance(self) -> Tensor:
        return (2 * self.scale.square() + 1 / 12).expand(self.batch_shape)


class Laplace(Likelihood):
    """The decoder gives the location (`Likelihood.located`) and the scale (`Likelihood.spread`),
    which at 0 has the channel's standard deviation."""

    n_params = 2

    def distribution(self, params: Tensor, light: Light | None = None) -> DiscretisedLaplace:
        loc, log_scale = params.unbind(2)
        return DiscretisedLaplace(
            self.located(loc, light),
            self.spread(log_scale, self.scale / math.sqrt(2), MIN_SCALE, light),
            self.top,
            validate_args=False,
        )


def log_laplace_level(distance: Tensor, width: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Log mass of the standard Laplace between ``distance ± ½ width``, open at the edges.

    Parameters
    ----------
    distance : (x − loc) / scale.
    width : one level / scale, above 0.
    lowest, highest : bool; where true the interval is open below, or above.
    """
    # A level beside the peak: e^(−|d|) sinh(w/2). One that holds it: 1 minus both tails. An open
    # one: its tail, or 1 minus the other. Each `where` guards an input: a branch not taken must
    # not send NaN back as its gradient.
    half, away = 0.5 * width, distance.abs()
    beside = half - away + torch.log(-torch.expm1(-width)) - LOG_2
    holds = away < half
    inner = torch.where(holds, away, 0.0)
    around = torch.log(-0.5 * (torch.expm1(-(half + inner)) + torch.expm1(-(half - inner))))
    inside = torch.where(holds, around, beside)

    end = torch.where(highest, -distance, distance) + half
    left = end < 0
    tail = torch.where(left, end, 0.0) - LOG_2
    rest = torch.log1p(-0.5 * torch.exp(-torch.where(left, 0.0, end)))
    return torch.where(lowest | highest, torch.where(left, tail, rest), inside)
