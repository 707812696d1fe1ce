"""The Gaussian as mass over grey levels, for every family that differs in its σ alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_sci.likelihoods.base import LOG_SQRT_2PI, LevelDistribution, at_least_float32
from vae_sci.likelihoods.blocks import in_blocks

# Below this width · max(1, |distance|), the series of `log_normal_level` is exact to 1e-11 and
# the difference of two cumulative values no longer is.
NARROW = 0.01
DEEP = -30.0


class DiscretisedGaussian(LevelDistribution):
    """N(mean, sigma²) integrated over each level.

    Parameters
    ----------
    loc : (N, C, H, W), levels.
    sigma : levels, broadcastable to `loc`.
    top : highest level per channel, (C, 1, 1).
    """

    def __init__(
        self, loc: Tensor, sigma: Tensor, top: Tensor, validate_args: bool | None = None
    ) -> None:
        self.loc = at_least_float32(loc)
        self.sigma = at_least_float32(sigma)
        super().__init__(top, self.loc.shape, validate_args=validate_args)

    def _log_mass(self, levels: Tensor) -> Tensor:
        def log_mass(levels: Tensor, loc: Tensor, sigma: Tensor) -> Tensor:
            distance = (levels - loc) / sigma
            return log_normal_level(distance, 1 / sigma, levels == 0, levels == self.top)

        return in_blocks(log_mass, levels, self.loc, self.sigma)

    def _draw(self, shape: torch.Size) -> Tensor:
        return self.loc + self.sigma * torch.randn(
            shape, dtype=self.loc.dtype, device=self.loc.device
        )

    @property
    def mean(self) -> Tensor:
        # E[clip(Y, 0, top)] = ∫ P(Y > y) dy over (0, top), and ∫ Φ = tΦ(t) + φ(t).
        def integral(t: Tensor) -> Tensor:
            return t * torch.special.ndtr(t) + torch.exp(-0.5 * t * t - LOG_SQRT_2PI)

        below = integral((self.loc - self.top) / self.sigma)
        return self.sigma * (integral(self.loc / self.sigma) - below)

    @property
    def variance(self) -> Tensor:
        return (self.sigma**2 + 1 / 12).expand(self.batch_shape)


def log_normal_level(distance: Tensor, width: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Log mass of the standard normal between ``distance ± ½ width``, open at the edges.

    Parameters
    ----------
    distance : (x − mean) / σ, float64.
    width : one level / σ, float64, above 0, broadcastable to `distance`.
    lowest, highest : bool; where true the interval is open below, or above.

    Both ends are moved to the left tail, where log Φ keeps its digits, and subtracted as
    ``log Φ(hi) + log(1 − Φ(lo)/Φ(hi))``. A narrow interval is its density times its width, with
    the next term of the series: ``1 + (distance² − 1) width² / 24``.
    """
    edge = lowest | highest
    mirrored = torch.where(lowest, distance, torch.where(highest, -distance, -distance.abs()))
    narrow = width * distance.abs().clamp(min=1) < NARROW
    # Each `where` guards an *input*: a branch not taken must not send NaN back as its gradient.
    safe_width = torch.where(narrow, 1.0, width)
    near = mirrored + 0.5 * width
    log_near = log_ndtr(near)
    log_ratio = log_ndtr(near - safe_width) - log_near
    closed = log_near + torch.log(-torch.expm1(torch.where(edge, -1.0, log_ratio)))
    square = distance * distance
    series = torch.log(width) - 0.5 * square - LOG_SQRT_2PI + (square - 1) * width**2 / 24
    return torch.where(edge, log_near, torch.where(narrow, series, closed))


def log_ndtr(x: Tensor) -> Tensor:
    """log Φ(x), float64, exact to 1e-12: some 40 times faster on the CPU than torch's own.

    Above `DEEP` by erfc, which float64 holds down to x = −37; below it by the asymptotic series of
    Mills' ratio (Abramowitz & Stegun 26.2.12).
    """
    near = torch.log(0.5 * torch.erfc(x.clamp(min=DEEP) * -math.sqrt(0.5)))
    deep = x.clamp(max=DEEP)
    r = 1 / (deep * deep)
    series = torch.log1p(r * (-1 + r * (3 + r * (-15 + r * 105))))
    return torch.where(x < DEEP, series - 0.5 / r - torch.log(-deep) - LOG_SQRT_2PI, near)
