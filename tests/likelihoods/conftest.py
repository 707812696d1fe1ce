"""One fixture runs every family through the same suite, each beside a reference from scipy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import Tensor

from vae_sci.likelihoods import LevelDistribution
from vae_sci.likelihoods.gaussian_fixed import DiscretisedGaussian
from vae_sci.likelihoods.logistic_mixture import LogisticMixture

# One row per component: weight, offset of the mean in scales, factor on the scale.
ONE = np.array([[1.0, 0.0, 1.0]])
THREE = np.array([[0.5, 0.0, 1.0], [0.3, -1.0, 0.6], [0.2, 2.5, 1.8]])


@dataclass(frozen=True)
class Family:
    """A family at location `loc` and scale `scale`, both in levels, and what scipy says of it."""

    make: Callable[[Tensor, Tensor, Tensor], LevelDistribution]
    continuous: stats.rv_continuous
    components: np.ndarray

    def reference(self, levels: Tensor, loc: Tensor, scale: Tensor, top: int) -> np.ndarray:
        """Log mass in float64 from scipy's cumulative functions, always from the smaller tail."""
        x, loc, scale = (
            np.asarray(t.detach().double()) for t in torch.broadcast_tensors(levels, loc, scale)
        )
        parts = []
        for weight, offset, factor in self.components:
            frozen = self.continuous(loc + offset * scale, scale * factor)
            mirror = self.continuous(-(loc + offset * scale), scale * factor)
            left = x < loc + offset * scale
            near = np.where(left, frozen.logcdf(x + 0.5), mirror.logcdf(0.5 - x))
            far = np.where(left, frozen.logcdf(x - 0.5), mirror.logcdf(-x - 0.5))
            with np.errstate(divide="ignore", invalid="ignore"):
                mass = near + np.log(-np.expm1(far - near))
            mass = np.where(x == 0, frozen.logcdf(x + 0.5), mass)
            mass = np.where(x == top, mirror.logcdf(0.5 - x), mass)
            parts.append(mass + np.log(weight))
        return logsumexp(parts, axis=0)


def _gaussian(loc: Tensor, scale: Tensor, top: Tensor) -> LevelDistribution:
    return DiscretisedGaussian(loc, scale, top)


def _mixture(rows: np.ndarray) -> Callable[[Tensor, Tensor, Tensor], LevelDistribution]:
    def make(loc: Tensor, scale: Tensor, top: Tensor) -> LevelDistribution:
        weights, offsets, factors = torch.tensor(rows.T).to(loc)[:, :, None, None]
        loc, scale = (t.unsqueeze(-3) for t in torch.broadcast_tensors(loc, scale))
        return LogisticMixture(
            weights.log().expand_as(loc * weights),
            loc + offsets * scale,
            (factors * scale).log(),
            top,
        )

    return make


FAMILIES = {
    "gaussian_fixed": Family(_gaussian, stats.norm, ONE),
    "one_logistic": Family(_mixture(ONE), stats.logistic, ONE),
    "logistic_mixture": Family(_mixture(THREE), stats.logistic, THREE),
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """The tensors are small: on a busy machine threads would wait for each other, tenfold."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
