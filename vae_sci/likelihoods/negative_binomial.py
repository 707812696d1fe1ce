"""Negative binomial: over-dispersed counts, in levels above the dark.

Written as a Poisson with corrections that go to 0 with 1/dispersion, so that nothing cancels
toward that limit (the parametrisation is that of scvi-tools; Lopez et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Gamma

from vae_sci.likelihoods.base import LevelDistribution, at_least_float32, tamed
from vae_sci.likelihoods.blocks import in_blocks
from vae_sci.likelihoods.counts import CountLikelihood, draw_share, log_rising, log_share
from vae_sci.likelihoods.grey_levels import GreyLevels
from vae_sci.likelihoods.light import Light
from vae_sci.likelihoods.noise import CameraNoise

NODES, WEIGHTS = np.polynomial.legendre.leggauss(32)
CUT = 34.0  # nats below its start at which a tail's integrand is cut off
SHIFT = 4  # steps of the recurrence that keeps a tail's integrand smooth at small powers
MIN_DISPERSION = 1e-3
# The channel's variance must exceed its mean by this share, or is taken to: a Poisson has no
# finite dispersion.
MIN_EXCESS = 0.01
MOST = 1e9  # levels: beyond any ceiling, and within what torch draws from a Poisson


class NegativeBinomial(LevelDistribution):
    """``first + K``, K negative binomial with variance ``mean + mean² / dispersion``.

    Levels below `first` get a share of that of K = 0 (`log_share`); the highest holds the tail.

    Parameters
    ----------
    signal : (N, C, H, W), mean of K, levels, above 0.
    dispersion : (N, C, H, W), θ, above 0; at ∞ K is Poisson.
    first : level of K = 0, integers, 0 ≤ first < top, broadcastable to `signal`.
    top : highest level per channel, (C, 1, 1).
    """

    def __init__(
        self,
        signal: Tensor,
        dispersion: Tensor,
        first: Tensor,
        top: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.signal, self.dispersion = at_least_float32(signal), at_least_float32(dispersion)
        self.first = first
        super().__init__(top, self.signal.shape, validate_args=validate_args)

    def _log_mass(self, levels: Tensor) -> Tensor:
        def log_mass(levels: Tensor, signal: Tensor, dispersion: Tensor, first: Tensor) -> Tensor:
            count = (levels - first).clamp(min=0)
            value = log_count(count, signal, dispersion)
            value = value + torch.where(levels <= first, log_share(levels, first), 0.0)
            full = levels == self.top
            if full.any():
                tail = log_tail(count[full], signal[full], dispersion[full])
                value = value.masked_scatter(full, tail)
            return value

        return in_blocks(log_mass, levels, self.signal, self.dispersion, self.first)

    def _draw(self, shape: torch.Size) -> Tensor:
        signal, dispersion, first = (
            t.double().expand(shape) for t in (self.signal, self.dispersion, self.first)
        )
        rate = Gamma(dispersion, dispersion / signal, validate_args=False).sample()
        count = torch.poisson(rate.clamp(max=MOST))
        return first + count - torch.where(count == 0, draw_share(first, shape), 0.0)

    @property
    def mean(self) -> Tensor:
        # E[min(K, c)], from k P(k) = mean · P'(k − 1), P' with dispersion + 1 and the same odds.
        ceiling, mean, theta = torch.broadcast_tensors(
            self.top - self.first, self.signal.double(), self.dispersion.double()
        )
        # Chernoff: beyond it K exceeds the ceiling with a chance below e^(−40).
        ceiling = ceiling.double()
        rate = ceiling * (ceiling / mean).log()
        rate = rate - (ceiling + theta) * torch.log1p((ceiling - mean) / (mean + theta))
        near = (ceiling < mean) | (rate < 40)
        value, (ceiling, mean, theta) = mean.clone(), (ceiling[near], mean[near], theta[near])
        beyond = log_tail(ceiling, mean, theta).exp()
        before = -torch.expm1(log_tail((ceiling - 1).clamp(min=1), mean + mean / theta, theta + 1))
        value[near] = mean * torch.where(ceiling > 1, before, 0.0) + ceiling * beyond
        return (self.first + value).to(self.signal.dtype)

    @property
    def variance(self) -> Tensor:
        return self.signal + self.signal.square() / self.dispersion


class NegativeBinomialLikelihood(CountLikelihood):
    """The decoder gives the mean above dark (`CountLikelihood.signal`) and the dispersion.

    The dispersion is the same in any light: its share of the variance goes with the mean's square.
    Of the camera's noise it needs the dark level alone. At raw output 0 the dispersion is such
    that the channel has its own variance.
    """

    n_params = 2
    dispersion: Tensor

    def __init__(
        self,
        grey_levels: GreyLevels,
        centre: Sequence[float],
        scale: Sequence[float],
        noise: CameraNoise,
    ) -> None:
        dark = [max(0, math.floor(level)) for level in noise.dark]
        super().__init__(grey_levels, centre, scale, dark)
        signal = self.signal(torch.zeros_like(self.centre))
        excess = torch.maximum(self.scale.square() - signal, MIN_EXCESS * signal)
        self.register_buffer("dispersion", signal.square() / excess)

    def distribution(self, params: Tensor, light: Light | None = None) -> NegativeBinomial:
        signal, log_dispersion = params.unbind(2)
        return NegativeBinomial(
            self.signal(signal, light),
            MIN_DISPERSION + self.dispersion * tamed(log_dispersion).exp(),
            self.dark.to(torch.int64),
            self.top,
            validate_args=False,
        )


def log_count(count: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
    """log P(K = count), float64.

    ``count log mean − log count! − mean`` and two terms that are 0 at dispersion ∞. As
    ``θ (log θ − log(θ + mean))`` it would cancel there: in float32 its mass sums to 0.95 at
    θ = 1e5, and to 0.05 at 1e7.
    """
    poisson = count * mean.log() - torch.lgamma(count + 1)
    spread = (dispersion + count) * torch.log1p(mean / dispersion)
    return poisson - spread + log_rising(dispersion, count)


def log_tail(least: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
    """log P(K ≥ least), float64, least ≥ 1.

    P(K ≥ k) = I_p(k, θ), the incomplete beta function with p = mean / (mean + θ), is an integral
    over log(p / (1 − p)), of k P(K = k) times exp(−drop): from the mean downwards, or, where the
    mean is above `least`, 1 minus the same integral upwards, with p and 1 − p, k and θ exchanged.
    Either way it falls from 1 without a turn: Gauss–Legendre, up to where it is e^(−CUT). Where
    it would fall slowly after a fast start, as a power of few steps, the power a is raised by the
    recurrence I(a) = (1 + (a + b) q I(a + 1)) / a, a sum of positive terms.
    """
    least, mean, dispersion = (t.unsqueeze(-1) for t in (least, mean, dispersion))
    total, powers = mean + dispersion, least + dispersion
    upper = mean < least
    slope, other = torch.where(upper, least, dispersion), torch.where(upper, dispersion, least)
    fading, staying = torch.where(upper, mean, dispersion), torch.where(upper, dispersion, mean)
    slight, share = fading < staying, fading / total
    few, many = torch.where(slight, share, 0.0), torch.where(slight, 0.0, staying / total)

    def drop(t: Tensor) -> Tensor:
        # With L(t) = log((staying + fading e^(−t)) / total): slope t + powers L(t), and the same
        # as powers (L(t) + t) − other t, by the form that keeps its digits.
        falling = (slope + SHIFT) * t + (powers + SHIFT) * torch.log1p(few * torch.expm1(-t))
        rising = (powers + SHIFT) * torch.log1p(many * torch.expm1(t)) - other * t
        return torch.where(slight, falling, rising)

    with torch.no_grad():
        reach = _reach(drop, torch.zeros_like(mean))
    nodes, weights = (torch.tensor(t).to(mean) for t in ((NODES + 1) / 2, WEIGHTS / 2))
    integral = reach * (weights * torch.exp(-drop(reach * nodes))).sum(-1, keepdim=True)
    for step in reversed(range(SHIFT)):
        integral = (1 + (powers + step) * share * integral) / (slope + step)
    log_part = log_count(least, mean, dispersion) + least.log() + torch.log(integral)
    rest = torch.log1p(-torch.where(upper, -1.0, log_part).exp())
    return torch.where(upper, log_part, rest).squeeze(-1)


def _reach(drop: Callable[[Tensor], Tensor], zero: Tensor) -> Tensor:
    """Where a convex `drop`, 0 at 0, has grown to `CUT`, to 2 %: bisection on the logarithm."""
    low, high = zero - 20, zero + 12
    for _ in range(11):
        middle = 0.5 * (low + high)
        enough = drop(middle.exp()) >= CUT
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high.exp()
