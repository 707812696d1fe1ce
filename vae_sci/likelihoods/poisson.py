"""Poisson photons at any gain: mass for every grey level, also between two photons.

With b(x) = (x + ½ − dark) / gain + ½, the mass of level x is Q(b(x), rate) − Q(b(x − 1), rate), Q
the regularised upper incomplete gamma function. At gain 1 and whole-numbered dark it is the
Poisson's own, since Q(n + 1, rate) = P(N ≤ n).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vae_sci.likelihoods.base import LOG_SQRT_2PI, LevelDistribution, at_least_float32
from vae_sci.likelihoods.blocks import in_blocks
from vae_sci.likelihoods.counts import (
    STIRLING,
    CountLikelihood,
    draw_share,
    log_share,
    stirling_rest,
)
from vae_sci.likelihoods.grey_levels import GreyLevels
from vae_sci.likelihoods.light import Light
from vae_sci.likelihoods.noise import CameraNoise

NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
CUT = 34.0  # nats below its start at which a tail's integrand is cut off: a share of 2e-15
LEAST = 1e-9  # b that stands for 0, where Q is 0 and its logarithm −∞
SHIFT = 4  # steps of the recurrence that keep the upper tail's integrand smooth at small b


class DiscretisedPoisson(LevelDistribution):
    """``dark + gain · Poisson(rate)``, spread over grey levels by the incomplete gamma function.

    Levels that begin below ``dark − ½ gain``, where a Poisson has no mass, get a share of the
    lowest count's (`log_share`), so that the mass of every level is above 0, and sums to 1.

    Parameters
    ----------
    rate : (N, C, H, W), photo-electrons, above 0.
    gain : levels per photo-electron, broadcastable to `rate`.
    dark : levels, below `top`, broadcastable to `rate`.
    top : highest level per channel, (C, 1, 1).

    `mean` is that of the photons, clipped; the mass's own is lower where the rate is below 1, by
    half a photon at most.
    """

    def __init__(
        self,
        rate: Tensor,
        gain: Tensor,
        dark: Tensor,
        top: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.rate = at_least_float32(rate)
        self.gain, self.dark = gain, dark
        # The lowest level that holds mass of its own: its lower end is at b ≤ 0.
        self.first = torch.floor(dark.double() + 0.5 - 0.5 * gain).clamp(min=0).to(torch.int64)
        super().__init__(top, self.rate.shape, validate_args=validate_args)

    def _log_mass(self, levels: Tensor) -> Tensor:
        def log_mass(
            levels: Tensor, rate: Tensor, gain: Tensor, dark: Tensor, first: Tensor
        ) -> Tensor:
            lowest = levels <= first
            upper = (torch.maximum(levels, first) + 0.5 - dark) / gain + 0.5
            inside = log_poisson_level(upper, rate, 1 / gain, lowest, levels == self.top)
            return torch.where(lowest, inside + log_share(levels, first), inside)

        return in_blocks(log_mass, levels, self.rate, self.gain, self.dark, self.first)

    def _draw(self, shape: torch.Size) -> Tensor:
        # Bisection: the least level whose cumulative mass is at least a uniform draw.
        rate, gain, dark, first = (
            t.double().expand(shape) for t in (self.rate, self.gain, self.dark, self.first)
        )
        uniform = torch.rand(shape, dtype=torch.float64, device=rate.device)
        low, high = first.clone(), self.top.double().expand(shape)
        for _ in range(int(self.top.max()).bit_length()):
            middle = torch.floor((low + high) / 2)
            enough = cumulative((middle + 0.5 - dark) / gain + 0.5, rate) >= uniform
            low, high = torch.where(enough, low, middle + 1), torch.where(enough, middle, high)
            low = torch.minimum(low, high)
        return high - torch.where(high == first, draw_share(first, shape), 0.0)

    @property
    def mean(self) -> Tensor:
        # clip(N, a, c) = min(N, c) − min(N, a) + a, and N is never below 0.
        bottom, ceiling = -self.dark / self.gain, (self.top - self.dark) / self.gain
        clipped = self._least(ceiling)
        if (bottom > 0).any():
            bottom = bottom.clamp(min=0)
            clipped = clipped - self._least(bottom) + bottom
        return (self.dark + self.gain * clipped).to(self.rate.dtype)

    def _least(self, bound: Tensor) -> Tensor:
        """E[min(N, bound)] of the photons N, from n P(N = n) = rate P(N = n − 1); float64."""
        bound, rate = torch.broadcast_tensors(bound.double(), self.rate.double())
        # Chernoff: beyond it N exceeds the bound with a chance below e^(−40).
        near = (bound < rate) | (torch.xlogy(bound, bound / rate) - bound + rate < 40)
        value, (bound, part) = rate.clone(), (bound[near], rate[near])
        beyond = bound * (1 - cumulative(bound, part))
        value[near] = part * cumulative(bound - 1, part) + beyond
        return value

    @property
    def variance(self) -> Tensor:
        # Spreading whole photons over levels takes gain²/12 away, rounding to levels adds 1/12.
        spread = self.gain.square() * (self.rate - 1 / 12).clamp(min=0)
        return (spread + 1 / 12).expand(self.batch_shape)


class Poisson(CountLikelihood):
    """The decoder gives the mean alone; the camera's noise says the rest.

    Read noise enters as `read_variance / gain²` more photons, through `CameraNoise.dark`.
    """

    n_params = 1
    gain: Tensor

    def __init__(
        self,
        grey_levels: GreyLevels,
        centre: Sequence[float],
        scale: Sequence[float],
        noise: CameraNoise,
    ) -> None:
        super().__init__(grey_levels, centre, scale, noise.dark)
        self.register_buffer("gain", self.per_channel(noise.gain))

    def distribution(self, params: Tensor, light: Light | None = None) -> DiscretisedPoisson:
        rate = self.signal(params.squeeze(2), light) / self.gain
        return DiscretisedPoisson(rate, self.gain, self.dark, self.top, validate_args=False)


def log_poisson_level(
    upper: Tensor, rate: Tensor, width: Tensor, lowest: Tensor, highest: Tensor
) -> Tensor:
    """log [Q(upper, rate) − Q(upper − width, rate)], float64, open at the edges.

    Parameters
    ----------
    upper, width : b at the level's upper end, and b's step from level to level, above 0.
    lowest, highest : bool; where true the interval is open below, or above.

    Each end is given as its smaller tail (`log_tail`), which keeps its digits. A level whose ends
    lie on the same side of the rate is a difference of tails, one that holds it 1 minus both.
    """
    upper = upper.clamp(min=LEAST)
    lower = torch.where(lowest, upper, (upper - width).clamp(min=LEAST))
    log_upper, log_lower = log_tail(upper, rate), log_tail(lower, rate)
    above, below = lower > rate, upper <= rate
    rest = torch.where(lowest, ~below, torch.where(highest, ~above, ~(above | below)))
    edge = lowest | highest
    near = torch.where(above & ~lowest | highest, log_lower, log_upper)
    far = torch.where(above, log_upper, log_lower)
    # Each `where` guards an input: a branch not taken must not send NaN back as its gradient.
    log_ratio = torch.where(edge | rest, -1.0, far - near)
    outside = torch.where(highest, 0.0, log_upper.exp()) + torch.where(lowest, 0.0, log_lower.exp())
    held = torch.log1p(-torch.where(rest, outside, 0.5))
    one_side = near + torch.where(edge, 0.0, torch.log(-torch.expm1(log_ratio)))
    return torch.where(rest, held, one_side)


def log_tail(b: Tensor, rate: Tensor) -> Tensor:
    """log P(b, rate) where b > rate, log Q(b, rate) elsewhere: float64, relative error 1e-12.

    No gradient reaches b. Torch's own incomplete gamma functions underflow far from the rate, and
    jump by 2e-9 where they change method, which a narrow level multiplies.
    """
    return _LogTail.apply(b, rate)


def cumulative(b: Tensor, rate: Tensor) -> Tensor:
    """Q(b, rate), float64; 0 for b ≤ 0. No gradient."""
    b, rate = torch.broadcast_tensors(b.double(), rate)
    tail = _tail(b.clamp(min=LEAST), rate)[0].exp()
    return torch.where(b <= 0, 0.0, torch.where(b > rate, 1 - tail, tail))


class _LogTail(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, b: Tensor, rate: Tensor) -> Tensor:
        value, slope = _tail(b, rate)
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[None, Tensor]:
        return None, outer * ctx.saved_tensors[0]


def _tail(b: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """`log_tail` and its derivative by the rate.

    With r = rate · exp(−t), both tails of ∫ r^(b−1) e^(−r) dr / Γ(b) are the integrand at the rate
    times I = ∫ exp(−(b t + rate (e^(−t) − 1))) dt, over t > 0 for P and, with its sign turned,
    over t < 0 for Q. It falls from 1 without a turn: Gauss–Legendre, up to where it is e^(−CUT).
    For P at small b it falls slowly after a fast start; there b is raised by the recurrence
    I(b) = (1 + rate I(b + 1)) / b, a sum of positive terms.
    """
    above = b > rate
    raised = torch.where(above, b + SHIFT, b)
    distance = (raised - rate).abs()
    # b t + rate (e^(−t) − 1) = CUT: with the quadratic term alone this is exact near b = rate. For
    # P that is too short, and one Newton step too long; for Q too long, as is the other bound.
    reach = 2 * CUT / (distance + torch.sqrt(distance.square() + 2 * CUT * rate))
    left = CUT - raised * reach - rate * torch.expm1(-reach)
    longer = reach + left / (raised - rate * torch.exp(-reach))
    shorter = torch.minimum(reach, torch.log1p((CUT + b * reach) / rate))
    reach = torch.where(above, longer, shorter)
    signed = torch.where(above, reach, -reach)
    integral = torch.zeros_like(b)
    for node, weight in zip((NODES + 1) / 2, WEIGHTS / 2, strict=True):
        t = signed * -node
        fall = torch.expm1(t).mul_(-rate).addcmul_(raised, t)
        integral.add_(fall.exp_(), alpha=weight)
    integral.mul_(reach)
    recurred = integral
    for step in reversed(range(SHIFT)):
        recurred = (1 + rate * recurred) / (b + step)
    integral = torch.where(above, recurred, integral)
    slope = torch.where(above, 1.0, -1.0) / (rate * integral)
    return log_weight(b, rate) + integral.log(), slope


def log_weight(b: Tensor, rate: Tensor) -> Tensor:
    """b log rate − rate − log Γ(b), float64, without cancellation at large b."""
    wide = b.clamp(min=STIRLING)
    excess = (rate - wide) / wide
    near = excess.abs() < 0.5
    log_ratio = torch.where(near, torch.log1p(torch.where(near, excess, 0.0)), (rate / wide).log())
    series = wide * (log_ratio - excess) + 0.5 * wide.log() - LOG_SQRT_2PI - stirling_rest(wide)
    small = b.clamp(max=STIRLING)
    direct = small * rate.log() - rate - torch.lgamma(small)
    return torch.where(b < STIRLING, direct, series)
