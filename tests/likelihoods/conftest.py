"""One fixture runs every family through the same suite, each beside a reference of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import special, stats
from scipy.special import logsumexp
from torch import Tensor

from vae_sci.likelihoods import LevelDistribution
from vae_sci.likelihoods.camera import camera_gaussian
from vae_sci.likelihoods.discretised_gaussian import DiscretisedGaussian
from vae_sci.likelihoods.laplace import DiscretisedLaplace
from vae_sci.likelihoods.logistic_mixture import CoupledLogisticMixture, LogisticMixture
from vae_sci.likelihoods.negative_binomial import NegativeBinomial
from vae_sci.likelihoods.poisson import DiscretisedPoisson

# One row per component: weight, offset of the mean in scales, factor on the scale.
ONE = np.array([[1.0, 0.0, 1.0]])
THREE = np.array([[0.5, 0.0, 1.0], [0.3, -1.0, 0.6], [0.2, 2.5, 1.8]])
GAIN = 2.0  # of the camera family

Reference = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Family:
    """A family at a location `loc`, in levels, and a second number of its own, `scale`.

    The location is the mean, or near it; of counts it is the mean above dark, and `place` keeps it
    above 0. The second number is a scale in levels, the camera's read noise, the gain of a
    Poisson, or the dispersion of a negative binomial.
    """

    make: Callable[[Tensor, Tensor, Tensor], LevelDistribution]
    log_mass: Reference
    counts: bool = False
    dark: int = 0  # the lowest level of counts
    learns_scale: bool = True
    # Where the mean of the mass and `mean` are compared: location, scale, tolerance in levels.
    means: tuple[tuple[float, float, float], ...] = tuple(
        (loc, scale, tolerance)
        for loc in (-3.0, 0.0, 10.2, 200.0, 255.0, 290.0)
        for scale, tolerance in ((0.05, 0.5), (1.5, 0.02), (60.0, 0.02))
    )
    float32: float = 3e-5  # nats by which float32 parameters may differ from float64
    # At location 2000 of 4096 levels, scales that keep the mass inside the range.
    inside: tuple[float, float] = (1.0, 25.0)

    def place(self, loc: Tensor) -> Tensor:
        return loc.abs() + 0.05 if self.counts else loc

    def reference(self, levels: Tensor, loc: Tensor, scale: Tensor, top: int) -> np.ndarray:
        """Log mass in float64, from scipy, each tail by itself."""
        x, loc, scale = (
            np.asarray(t.detach().double()) for t in torch.broadcast_tensors(levels, loc, scale)
        )
        return self.log_mass(x, loc, scale, top)


def between(near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """log(exp(near) − exp(far))."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return near + np.log(-np.expm1(far - near))


def of_location(continuous: stats.rv_continuous, components: np.ndarray = ONE) -> Reference:
    def log_mass(x: np.ndarray, loc: np.ndarray, scale: np.ndarray, top: int) -> np.ndarray:
        parts = []
        for weight, offset, factor in components:
            frozen = continuous(loc + offset * scale, scale * factor)
            mirror = continuous(-(loc + offset * scale), scale * factor)
            left = x < loc + offset * scale
            near = np.where(left, frozen.logcdf(x + 0.5), mirror.logcdf(0.5 - x))
            far = np.where(left, frozen.logcdf(x - 0.5), mirror.logcdf(-x - 0.5))
            mass = between(near, far)
            mass = np.where(x == 0, frozen.logcdf(x + 0.5), mass)
            mass = np.where(x == top, mirror.logcdf(0.5 - x), mass)
            parts.append(mass + np.log(weight))
        return logsumexp(parts, axis=0)

    return log_mass


class Laplace:
    """scipy's, with the logarithm of its left tail, which scipy lets underflow."""

    def __init__(self, loc: np.ndarray, scale: np.ndarray) -> None:
        self.loc, self.scale = loc, scale

    def logcdf(self, x: np.ndarray) -> np.ndarray:
        t = (x - self.loc) / self.scale
        return np.where(t < 0, t - np.log(2), stats.laplace.logcdf(np.maximum(t, 0)))


def of_camera(x: np.ndarray, loc: np.ndarray, scale: np.ndarray, top: int) -> np.ndarray:
    variance = np.maximum(GAIN * loc + scale**2, np.maximum(scale**2, 1 / 12))
    return of_location(stats.norm)(x, loc, np.sqrt(variance), top)


def share_below(x: np.ndarray, dark: int) -> np.ndarray:
    """Log share of the lowest count at levels up to `dark`: 0.99, and 0.01 for all below."""
    share = np.where(x == 0, 1.0, 1 - np.exp(-1)) * 0.01 * np.exp(np.minimum(x - dark + 1, 0))
    return np.log(np.where(x < dark, share, 0.99 if dark else 1.0))


def log_gamma_tails(b: np.ndarray, rate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log Q(b, rate) and log P(b, rate): scipy's, and where they underflow the continued fraction
    and the series of Abramowitz & Stegun 6.5.31 and 6.5.29."""
    weight = b * np.log(rate) - rate - special.gammaln(b)
    with np.errstate(all="ignore"):
        fraction = np.zeros_like(rate)
        for i in range(300, 0, -1):
            fraction = i * (b - i) / (rate - b + 2 * i + 1 + fraction)
        upper = weight - np.log(rate - b + 1 + fraction)
        term = total = 1 / b
        for i in range(1, 4000):
            term = term * rate / (b + i)
            total = total + term
        lower = weight + np.log(total)
        q, p = special.gammaincc(b, rate), special.gammainc(b, rate)
        return np.where(q > 1e-250, np.log(q), upper), np.where(p > 1e-250, np.log(p), lower)


def of_poisson(dark: float) -> Reference:
    def log_mass(x: np.ndarray, loc: np.ndarray, gain: np.ndarray, top: int) -> np.ndarray:
        first = np.maximum(np.floor(dark + 0.5 - 0.5 * gain), 0)
        rate, own = loc / gain, np.maximum(x, first)
        q1, p1 = log_gamma_tails((own + 0.5 - dark) / gain + 0.5, rate)
        start = np.maximum((own - 0.5 - dark) / gain + 0.5, 1e-9)
        q0, p0 = log_gamma_tails(start, rate)
        mass = np.where(q1 < p0, between(q1, q0), between(p0, p1))
        mass = np.where(x == top, p0, np.where(own == first, q1, mass))
        below = [share_below(x, int(f)) for f in np.unique(first)]
        shares = np.select([first == f for f in np.unique(first)], below)
        return mass + np.where(x <= first, shares, 0)

    return log_mass


def of_negative_binomial(dark: int) -> Reference:
    def log_mass(x: np.ndarray, loc: np.ndarray, theta: np.ndarray, top: int) -> np.ndarray:
        count, p = np.maximum(x - dark, 0), theta / (theta + loc)
        mass = stats.nbinom.logpmf(count, theta, p)
        mass = mass + np.where(x <= dark, share_below(x, dark), 0)
        full = x == top
        least, theta, p = top - dark, theta[full], p[full]
        sf = stats.nbinom.sf(least - 1, theta, p)
        # Where that underflows: the sum itself.
        term = total = np.ones_like(p)
        for k in range(least, least + 20000):
            term = term * (1 - p) * (k + theta) / (k + 1)
            total = total + term
        tail = stats.nbinom.logpmf(least, theta, p) + np.log(total)
        mass[full] = np.where(sf > 1e-250, np.log(np.maximum(sf, 1e-300)), tail)
        return mass

    return log_mass


def _mixture(
    rows: np.ndarray, coupling: float | None = None
) -> Callable[[Tensor, Tensor, Tensor], LevelDistribution]:
    def make(loc: Tensor, scale: Tensor, top: Tensor) -> LevelDistribution:
        weights, offsets, factors = torch.tensor(rows.T).to(loc)[:, :, None, None]
        loc, scale = (t.unsqueeze(-3) for t in torch.broadcast_tensors(loc, scale))
        mixture = (
            weights.log().expand_as(loc * weights),
            loc + offsets * scale,
            (factors * scale).log(),
        )
        if coupling is None:
            return LogisticMixture(*mixture, top)
        n, c, k, *yx = mixture[0].shape
        after = [loc.new_full((n, c - 1 - j, k, *yx), coupling) for j in range(c - 1)]
        return CoupledLogisticMixture(*mixture, after, top)

    return make


def _camera(loc: Tensor, scale: Tensor, top: Tensor) -> LevelDistribution:
    square = scale.square()
    return camera_gaussian(loc, torch.tensor(GAIN), square, square, top)


def _poisson(dark: float) -> Callable[[Tensor, Tensor, Tensor], LevelDistribution]:
    def make(loc: Tensor, scale: Tensor, top: Tensor) -> LevelDistribution:
        gain = scale.detach()
        return DiscretisedPoisson(loc / gain, gain, torch.full_like(gain, dark), top)

    return make


def _negative_binomial(dark: int) -> Callable[[Tensor, Tensor, Tensor], LevelDistribution]:
    return lambda loc, scale, top: NegativeBinomial(loc, scale, torch.tensor(dark), top)


POISSON = {"counts": True, "learns_scale": False}
# Where there are many photons, a Poisson's mean is that of its mass.
MANY = (
    *((loc, 1.0, 0.02) for loc in (10.2, 200.0, 255.0, 290.0)),
    *((loc, 7.0, 0.1) for loc in (60.0, 130.0, 255.0)),
    (30.0, 0.2, 0.02),
)
FEW = tuple((loc, 1.0, 1e-6) for loc in (0.03, 0.6))  # at gain 1 and whole-numbered dark, always
NEGATIVE_BINOMIAL = {
    "counts": True,
    "means": tuple(
        (loc, theta, 0.02)
        for loc in (0.03, 10.2, 200.0, 255.0, 290.0, 2000.0)
        for theta in (0.3, 20.0, 1e7)
    ),
    "inside": (100.0, 1e6),
}
FAMILIES = {
    "gaussian": Family(DiscretisedGaussian, of_location(stats.norm)),
    "laplace": Family(DiscretisedLaplace, of_location(Laplace)),
    "one_logistic": Family(_mixture(ONE), of_location(stats.logistic)),
    "logistic_mixture": Family(_mixture(THREE), of_location(stats.logistic, THREE)),
    # A mean that is shifted far is rounded to float32 again, there to 3e-4 levels.
    "coupled_mixture": Family(
        _mixture(THREE, 0.3), of_location(stats.logistic, THREE), float32=2e-3
    ),
    "camera": Family(_camera, of_camera),
    "poisson": Family(_poisson(0.0), of_poisson(0.0), means=FEW + MANY, **POISSON),
    "poisson_above_dark": Family(_poisson(7.3), of_poisson(7.3), dark=7, means=MANY, **POISSON),
    "negative_binomial": Family(
        _negative_binomial(0), of_negative_binomial(0), **NEGATIVE_BINOMIAL
    ),
    "negative_binomial_above_dark": Family(
        _negative_binomial(7), of_negative_binomial(7), dark=7, **NEGATIVE_BINOMIAL
    ),
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]
