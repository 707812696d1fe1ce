"""Where one family becomes another: counts without dispersion, many photons, unit gain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from vae_sci.likelihoods.camera import camera_gaussian
from vae_sci.likelihoods.negative_binomial import NegativeBinomial
from vae_sci.likelihoods.poisson import DiscretisedPoisson

TOP = torch.tensor([[[4095]]])
LEVELS = torch.arange(4096).view(1, 1, 1, -1)


def full(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.full(LEVELS.shape, value, dtype=dtype)


def exact_mass(photons: float, gain: float, offset: float, read_sd: float) -> np.ndarray:
    """Mass of each of 4096 levels: Poisson photons times gain, with Gaussian read noise, rounded.

    The sum over photons of the Gaussian's mass in each level, open at the edges.
    """
    spread = 12 * np.sqrt(photons) + 12
    n = np.arange(max(0, int(photons - spread)), int(photons + spread) + 1)
    edges = np.concatenate([[-np.inf], np.arange(4095) + 0.5, [np.inf]])
    below = stats.norm.cdf(edges, (offset + gain * n)[:, None], read_sd)
    return stats.poisson.pmf(n, photons) @ np.diff(below, axis=1)


def distance(mass: Tensor, exact: np.ndarray) -> float:
    """Total variation: half the sum of absolute differences, 0 to 1."""
    return 0.5 * float(np.abs(mass.flatten().double().numpy() - exact).sum())


@pytest.mark.parametrize("mean", [0.2, 6.0, 90.0])
def test_negative_binomial_is_poisson_without_dispersion(mean: float) -> None:
    poisson = stats.poisson.logpmf(np.arange(4095), mean)
    # The difference is ((k − mean)² − k) / 2θ in the first order.
    near = slice(0, int(mean + 10 * np.sqrt(mean) + 10))
    for dtype, theta, tolerance in ((torch.float32, 1e7, 1e-3), (torch.float64, 1e12, 1e-7)):
        at = NegativeBinomial(full(mean, dtype), full(theta, dtype), torch.tensor(0), TOP)
        ours = at.log_prob(LEVELS).flatten().double().numpy()
        np.testing.assert_allclose(ours[near], poisson[near], rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize("theta", [1e5, 1e7, 1e12, 1e30])
@pytest.mark.parametrize("mean", [700.0, 4090.0, 5e4])
def test_negative_binomial_in_float32_keeps_its_mass(theta: float, mean: float) -> None:
    at = NegativeBinomial(
        full(mean, torch.float32), full(theta, torch.float32), torch.tensor(0), TOP
    )
    assert at.log_prob(LEVELS).double().exp().sum().item() == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("rate", [0.01, 3.0, 900.0])
def test_poisson_at_unit_gain_is_scipys(rate: float) -> None:
    at = DiscretisedPoisson(full(rate), torch.tensor(1.0), torch.tensor(0.0), TOP)
    expected = stats.poisson.logpmf(np.arange(4095), rate)
    ours = at.log_prob(LEVELS).flatten()[:-1].numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("gain", "read_sd"), [(0.7, 1.5), (2.0, 3.0)])
def test_camera_and_poisson_are_the_exact_sum_where_photons_are_many(
    gain: float, read_sd: float
) -> None:
    """The Gaussian lacks the skew; the Poisson has it, with read noise as more photons."""
    offset, square = 100.0, read_sd**2
    of_camera, of_poisson = [], []
    for photons in (10.0, 100.0, 1000.0):
        exact = exact_mass(photons, gain, offset, read_sd)
        assert exact.sum() == pytest.approx(1)
        law = (torch.tensor(t) for t in (gain, square - gain * offset, square))
        camera = camera_gaussian(full(offset + gain * photons), *law, TOP)
        rate, dark = full(photons + square / gain**2), torch.tensor(offset - square / gain)
        poisson = DiscretisedPoisson(rate, torch.tensor(gain), dark, TOP)
        for at, distances in ((camera, of_camera), (poisson, of_poisson)):
            distances.append(distance(at.log_prob(LEVELS).exp(), exact))
    for distances in (of_camera, of_poisson):
        assert (np.diff(distances) < 0).all()
    assert of_camera[-1] < 0.005
    assert of_poisson[-1] < 0.0005
    assert (np.array(of_poisson) < of_camera).all()
