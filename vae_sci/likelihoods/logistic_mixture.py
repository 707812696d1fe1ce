"""Mixture of K discretised logistics per channel (PixelCNN++): the default likelihood.

Salimans, Karpathy, Chen & Kingma 2017, PixelCNN++, sections 2.1 and 2.2; here with edges found by
integer level, not by a float threshold, and with a component drawn for each channel by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vae_sci.likelihoods.base import LevelDistribution, Likelihood, at_least_float32, tamed
from vae_sci.likelihoods.grey_levels import GreyLevels
from vae_sci.likelihoods.light import Light

COMPONENTS = -3  # the axis of the components in (N, C, K, H, W)
CHANNELS = -3  # that of the channels in (N, C, H, W)
MIN_SCALE = 0.05  # steps: a level then holds all but 1e-4 of its component; smaller gains nothing
FAR = 1e4  # scales: exp(−FAR) is 0 in float64 too, and FAR · 0 is 0, which inf · 0 is not
# Numbers per temporary on the CPU: a few of them fit in the cache, which halves the time.
BLOCK = 2**18


class LogisticMixture(LevelDistribution):
    """Σ_k π_k Logistic(mean_k, scale_k), integrated over each level.

    Parameters
    ----------
    logits : (N, C, K, H, W), log π up to a constant.
    means : (N, C, K, H, W), levels.
    log_scales : (N, C, K, H, W), log of levels; sound from −14 to 80 (float32).
    top : highest level per channel, (C, 1, 1).
    """

    def __init__(
        self,
        logits: Tensor,
        means: Tensor,
        log_scales: Tensor,
        top: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.logits, self.means, self.log_scales = map(
            at_least_float32, (logits, means, log_scales)
        )
        shape = self.means.shape[:COMPONENTS] + self.means.shape[COMPONENTS + 1 :]
        super().__init__(top, shape, validate_args=validate_args)

    def _log_mass(self, levels: Tensor) -> Tensor:
        levels = levels.expand(torch.broadcast_shapes(levels.shape, self.batch_shape))
        shape = (*levels.shape[:-2], self.means.shape[COMPONENTS], *levels.shape[-2:])
        params = [p.expand(shape) for p in (self.logits, self.means, self.log_scales)]
        with_gradient = torch.is_grad_enabled() and any(p.requires_grad for p in params)
        return _MixtureLogMass.apply(levels, self.top, *params, with_gradient)

    def _draw(self, shape: torch.Size) -> Tensor:
        components = (*shape[:-2], self.means.shape[COMPONENTS], *shape[-2:])
        uniform = torch.rand(components, dtype=self.logits.dtype, device=self.logits.device)
        gumbel = -torch.log(-torch.log(uniform))
        chosen = (self.logits + gumbel).argmax(COMPONENTS, keepdim=True)
        mean, log_scale = (
            p.expand(components).gather(COMPONENTS, chosen).squeeze(COMPONENTS)
            for p in (self.means, self.log_scales)
        )
        return mean + log_scale.exp() * torch.logit(torch.rand_like(mean))

    @property
    def mean(self) -> Tensor:
        # E[clip(Y, 0, top)] = ∫ P(Y > y) dy over (0, top), and ∫ sigmoid = softplus.
        scales, top = self.log_scales.exp(), self.top.unsqueeze(COMPONENTS)
        above_zero = F.softplus(self.means / scales)
        above_top = F.softplus((self.means - top) / scales)
        weights = self.logits.softmax(COMPONENTS)
        return (weights * scales * (above_zero - above_top)).sum(COMPONENTS)

    @property
    def variance(self) -> Tensor:
        weights = self.logits.softmax(COMPONENTS)
        centre = (weights * self.means).sum(COMPONENTS, keepdim=True)
        within = self.log_scales.exp().square() * (math.pi**2 / 3)
        spread = within + (self.means - centre).square()
        return (weights * spread).sum(COMPONENTS) + 1 / 12


class CoupledLogisticMixture(LogisticMixture):
    """A `LogisticMixture` in which later channels know what was observed in earlier ones.

    ``mean_ck + Σ_{j<c} coupling_cjk (x_j − m_j)``, with x_j the level observed in channel j and
    ``m_j = Σ_k π_jk mean_jk``. `log_prob` of channel c is that given channels j < c, so that its
    sum over channels is the log mass of the pixel. PixelCNN++ shares one component over the
    channels of a pixel; here each channel draws its own, given the levels before it. What is
    linear in x_j − m_j then has expectation 0: `mean` (earlier channels at their means) and
    `variance` (the recursion over covariances) are those of the joint distribution, to clipping.

    Parameters
    ----------
    coupling : for every channel j but the last, that of the channels after it with it,
        (N, C − 1 − j, K, H, W).
    """

    def __init__(
        self,
        logits: Tensor,
        means: Tensor,
        log_scales: Tensor,
        coupling: Sequence[Tensor],
        top: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(logits, means, log_scales, top, validate_args=validate_args)
        self.coupling = [at_least_float32(one) for one in coupling]

    def _log_mass(self, levels: Tensor) -> Tensor:
        means = self._shifted(levels)
        return LogisticMixture(self.logits, means, self.log_scales, self.top)._log_mass(levels)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Levels, int32, ``sample_shape + batch_shape``; channel by channel."""
        shape = torch.Size(sample_shape) + self.batch_shape
        drawn = torch.zeros(shape, dtype=torch.int32, device=self.top.device)
        top = self.top.expand(shape[CHANNELS], 1, 1)
        with torch.no_grad():
            for channel in range(shape[CHANNELS]):
                own = slice(channel, channel + 1)
                means = self._shifted(drawn)[..., own, :, :, :]
                means = means.expand(*sample_shape, -1, -1, -1, -1, -1)
                logits, log_scales = self.logits[:, own], self.log_scales[:, own]
                logits, log_scales = logits.expand_as(means), log_scales.expand_as(means)
                alone = LogisticMixture(logits, means, log_scales, top[own])
                drawn[..., own, :, :] = alone.sample()
        return drawn

    def _shifted(self, levels: Tensor) -> Tensor:
        """Means (…, N, C, K, H, W), each channel's given the levels (…, N, C, H, W) before it."""
        # One unbind each, not slices: a slice's gradient would fill the whole with zeros.
        own, logits = self.means.unbind(1), self.logits.unbind(1)
        means = list(own)
        for j, coupling in enumerate(self.coupling):
            expected = (logits[j].softmax(1) * own[j]).sum(1)
            excess = (levels[..., j, :, :] - expected).unsqueeze(COMPONENTS)
            for c, by in enumerate(coupling.unbind(1), start=j + 1):
                means[c] = means[c] + by * excess
        return torch.stack(torch.broadcast_tensors(*means), COMPONENTS - 1)

    @property
    def variance(self) -> Tensor:
        own = super().variance
        weights = self.logits.softmax(COMPONENTS)
        # Cov(x_c, x_j) = Σ_k π_ck coupling_ck · Cov(x_<c, x_j): the shift alone is shared.
        rows: list[list[Tensor]] = []
        for c in range(self.batch_shape[CHANNELS]):
            by = [self.coupling[j][:, c - j - 1] for j in range(c)]
            among = [[rows[max(i, j)][min(i, j)] for j in range(c)] for i in range(c)]
            pull = [sum(by[i] * among[i][j].unsqueeze(1) for i in range(c)) for j in range(c)]
            shared = [(weights[:, c] * p).sum(1) for p in pull]
            moved = sum((weights[:, c] * p * b).sum(1) for p, b in zip(pull, by, strict=True))
            rows.append([*shared, own[:, c] + moved])
        return torch.stack([row[-1] for row in rows], CHANNELS)


class LogisticMixtureLikelihood(Likelihood):
    """The decoder gives K logits, K means and K log scales per channel, in that order, and with
    `coupling` C − 1 times K numbers more, of which channel c reads the first c times K.

    ``mean_k = centre + scale · (raw + offset_k)`` is linear, so that a bright spot costs the same
    effort at any brightness. ``scale_k = MIN_SCALE + spread · scale · exp(raw)``: the floor is
    approached, never hit, so its gradient fades but does not stop. The offsets are the middles of
    K equal parts of ±1 standard deviation, so that components differ from the start, and `spread`
    is such that at raw output 0 the mixture has the channel's mean and (to the floor) its variance.
    Time grows in proportion to K. Coupling is ``tanh(raw)``, between channels in standard
    deviations (PixelCNN++), of levels under even light.
    """

    offsets: Tensor

    def __init__(
        self,
        grey_levels: GreyLevels,
        centre: Sequence[float],
        scale: Sequence[float],
        components: int,
        coupling: bool,
    ) -> None:
        super().__init__(grey_levels, centre, scale)
        self.components, self.coupling = components, coupling
        self.n_params = components * (3 + coupling * (grey_levels.n_channels - 1))
        offsets = (2 * torch.arange(components) + 1) / components - 1
        # A logistic of scale s has variance s²π²/3; offsets and logistics share the channel's.
        left = 1 - float(offsets.square().mean())
        self.log_spread = 0.5 * math.log(3 * left / math.pi**2)
        self.register_buffer("offsets", offsets.view(-1, 1, 1))

    def distribution(self, params: Tensor, light: Light | None = None) -> LogisticMixture:
        # One unbind, not slices: its gradient is written once, not summed from several.
        logits, means, log_scales, *raw = params.unflatten(2, (-1, self.components)).unbind(2)
        centre, scale = self.centre.unsqueeze(1), self.scale.unsqueeze(1)
        floor = math.log(MIN_SCALE)
        # exp(softplus(t)) = 1 + exp(t): the floor plus the scale, with nothing to overflow.
        above = tamed(log_scales) + (scale.log() + (self.log_spread - floor))
        means = centre + scale * (means + self.offsets)
        if light is not None:
            gain, dark = (part.unsqueeze(2) for part in light)
            means, above = Light(gain, dark).seen(means), above + 0.5 * gain.log()
        mixture = (logits, means, floor + F.softplus(above))
        # The levels were checked when they were made from counts: `GreyLevels.to_steps`.
        if not (self.coupling and raw):
            return LogisticMixture(*mixture, self.top, validate_args=False)
        coupling = []
        for j, one in enumerate(raw):
            # Of the channels after j, levels per level of channel j.
            told = one[:, j + 1 :].tanh() * (scale[j + 1 :] / scale[j])
            if light is not None:
                told = told * (gain[:, j + 1 :] / gain[:, j : j + 1])
            coupling.append(told)
        return CoupledLogisticMixture(*mixture, coupling, self.top, validate_args=False)


class _MixtureLogMass(torch.autograd.Function):
    """Log mass and its gradient in one pass, block by block.

    Written by hand because autograd would keep some fifteen tensors of K times the image: this
    keeps three, and is several times faster on the CPU. `gradcheck` holds it to its word.
    """

    @staticmethod
    def forward(
        ctx: Any,
        levels: Tensor,
        top: Tensor,
        logits: Tensor,
        means: Tensor,
        log_scales: Tensor,
        with_gradient: bool,
    ) -> Tensor:
        params = (logits, means, log_scales)
        log_mass = torch.empty(levels.shape, dtype=means.dtype, device=means.device)
        # Not empty_like: expanded parameters share memory between their numbers.
        gradients = [p.new_empty(p.shape) for p in params] if with_gradient else []
        rows = len(levels)
        if means.device.type == "cpu":
            rows = max(1, BLOCK * len(means) // max(1, means.numel()))
        for start in range(0, len(levels), rows):
            block = slice(start, start + rows)
            log_mass[block], *parts = _log_mass_block(
                levels[block], top, logits[block], means[block], log_scales[block], with_gradient
            )
            for gradient, part in zip(gradients, parts, strict=False):
                gradient[block] = part
        ctx.save_for_backward(*gradients)
        return log_mass

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        outer = outer.unsqueeze(COMPONENTS)
        return None, None, *(outer * gradient for gradient in ctx.saved_tensors), None


def _log_mass_block(
    levels: Tensor,
    top: Tensor,
    logits: Tensor,
    means: Tensor,
    log_scales: Tensor,
    with_gradient: bool,
) -> tuple[Tensor, ...]:
    """Levels (n, C, H, W), parameters (n, C, K, H, W) → log mass, and its three gradients.

    With a, b the upper and lower end of the level in scales and w = a − b, a component's log mass
    is log σ(a) + log σ(−b) + log(1 − exp(−w)) (MODEL.md, section 2). At the highest level a, and
    at the lowest b, lies at infinity, and the factor in w is 1.
    """
    levels = levels.unsqueeze(COMPONENTS)
    lowest, highest = levels == 0, levels == top.unsqueeze(COMPONENTS)
    # Edges enter by min and max with one number per pixel, K times fewer than a mask would fill.
    lower_limit = torch.where(lowest, -FAR, torch.inf)
    upper_limit = torch.where(highest, FAR, -torch.inf)

    width = (-log_scales).exp_()
    upper = (levels - means).mul_(width)
    lower = torch.minimum(torch.add(upper, width, alpha=-0.5), lower_limit)
    upper = torch.maximum(upper.add_(width, alpha=0.5), upper_limit)
    inside = torch.maximum(width.neg().expm1_().neg_(), lowest | highest)  # 1 − exp(−w), or 1

    # log σ(t) = min(t, 0) − log(1 + exp(−|t|)), for both ends under one logarithm.
    excess = upper.abs().neg_().exp_().add_(1)
    excess.mul_(lower.abs().neg_().exp_().add_(1))
    joint = torch.div(inside, excess, out=excess).log_()
    joint.add_(upper.clamp(max=0)).sub_(lower.clamp(min=0)).add_(logits)
    weights, log_total = _softmax_(logits.clone())
    share, log_mass = _softmax_(joint)  # share: of each component in this level's mass
    log_mass.sub_(log_total).squeeze_(COMPONENTS)
    if not with_gradient:
        return (log_mass,)

    above, below = torch.sigmoid(-upper), torch.sigmoid(lower)
    by_mean = (below - above).mul_(width).mul_(share)
    # d log(1 − exp(−w)) / d log s = −w exp(−w) / (1 − exp(−w)), and 0 at the edges
    by_width = (1 - inside).div_(inside).mul_(width)
    by_log_scale = below.mul_(lower).sub_(above.mul_(upper)).sub_(by_width).mul_(share)
    return log_mass, share.sub_(weights), by_mean, by_log_scale


def _softmax_(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over the components, in place, and its log-sum-exp: torch's two, in a third of the
    time, since the axis of the components is short and not the last."""
    largest = logits.amax(COMPONENTS, keepdim=True)
    weights = logits.sub_(largest).exp_()
    total = weights.sum(COMPONENTS, keepdim=True)
    return weights.div_(total), total.log().add_(largest)
