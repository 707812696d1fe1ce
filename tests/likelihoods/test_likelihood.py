"""The seam between the decoder's head and the distribution, for every name in the settings."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch

from vae_sci.config import LikelihoodSettings
from vae_sci.errors import ContractError, SettingsError
from vae_sci.likelihoods import (
    CameraNoise,
    GreyLevels,
    Likelihood,
    bits_per_pixel,
    make_likelihood,
)
from vae_sci.likelihoods.camera import Camera
from vae_sci.likelihoods.poisson import Poisson

GREY = GreyLevels(lowest=(0, 0), step=(16, 1), highest=(65520, 255))
CENTRE, SCALE = (700.0, 40.0), (90.0, 9.0)
NOISE = CameraNoise(gain=(2.0, 0.5), offset=(100.0, 7.3), read_variance=(9.0, 1.0))
NAMES = get_args(LikelihoodSettings.model_fields["name"].annotation)
FAMILIES = [{"name": name, "sigma": 1.0} for name in NAMES]
FAMILIES += [{"name": "logistic_mixture", "coupling": False}]


def make(
    settings: dict[str, Any],
    centre: tuple[float, ...] = CENTRE,
    scale: tuple[float, ...] = SCALE,
    noise: CameraNoise | None = NOISE,
) -> Likelihood:
    return make_likelihood(LikelihoodSettings(**settings), GREY, centre, scale, noise)


@pytest.fixture(params=FAMILIES, ids=[*NAMES, "uncoupled_mixture"])
def likelihood(request: pytest.FixtureRequest) -> Likelihood:
    return make(request.param)


def raw(likelihood: Likelihood, n: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2 * likelihood.n_params, 8, 6, generator=generator)


def test_raw_zero_means_the_channels_mean_and_sd(likelihood: Likelihood) -> None:
    at = likelihood(torch.zeros(1, 2 * likelihood.n_params, 1, 1))
    assert at.batch_shape == (1, 2, 1, 1)
    torch.testing.assert_close(at.mean.flatten(), torch.tensor(CENTRE), rtol=1e-3, atol=0)
    sd = torch.tensor(SCALE)
    if isinstance(likelihood, Camera | Poisson):  # whose spread is the camera's
        law = zip(NOISE.gain, CENTRE, NOISE.dark, strict=True)
        sd = torch.tensor([g * (mean - dark) for g, mean, dark in law]).sqrt()
    torch.testing.assert_close(at.variance.sqrt().flatten(), sd, rtol=1e-2, atol=0)


def test_each_channel_reads_its_own_params(likelihood: Likelihood) -> None:
    params = raw(likelihood)
    levels = torch.full((3, 2, 8, 6), 50)
    before = likelihood(params).log_prob(levels)
    params[:, likelihood.n_params :] += 0.5
    after = likelihood(params).log_prob(levels)
    assert (after[:, 0] == before[:, 0]).all()
    assert (after[:, 1] != before[:, 1]).any()


def test_each_channel_ends_at_its_own_ceiling(likelihood: Likelihood) -> None:
    """Raw output 4 puts both means near or above the ceiling; the mass still sums to 1."""
    params = torch.full((1, 2 * likelihood.n_params, 1, 1), 4.0).expand(-1, -1, 1, 4096)
    for channel, n_levels in enumerate(GREY.n_levels):
        levels = torch.full((1, 2, 1, 4096), 200)
        levels[:, channel] = torch.arange(4096)
        mass = likelihood(params).log_prob(levels).exp()[0, channel, 0, :n_levels]
        assert mass.sum().item() == pytest.approx(1, abs=2e-5)


def test_under_autocast_the_result_is_float32_and_the_same(likelihood: Likelihood) -> None:
    params = raw(likelihood).to(torch.bfloat16)
    levels = torch.randint(0, 256, (3, 2, 8, 6), generator=torch.Generator().manual_seed(1))
    outside = likelihood(params.float()).log_prob(levels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = likelihood(params).log_prob(levels)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=0, atol=0)


def test_every_raw_number_gets_gradient_even_when_extreme(likelihood: Likelihood) -> None:
    levels = torch.full((1, 2, 1, 4), 200)
    for size in (-60.0, -5.0, 0.0, 5.0, 60.0, 500.0):
        params = torch.full((1, 2 * likelihood.n_params, 1, 4), size, requires_grad=True)
        value = likelihood(params).log_prob(levels)
        value.sum().backward()
        assert value.isfinite().all()
        assert params.grad is not None
        assert params.grad.isfinite().all()
        assert params.grad.abs().sum() > 0


def test_a_saturated_pixel_can_drive_every_raw_number_up(likelihood: Likelihood) -> None:
    """As in training, where the ceiling's open tail pulls mean and spread up without end."""
    levels = (torch.tensor(GREY.n_levels) - 1).view(1, 2, 1, 1)
    for size in (60.0, 500.0):
        params = torch.full((1, 2 * likelihood.n_params, 1, 1), size, requires_grad=True)
        value = likelihood(params).log_prob(levels)
        value.sum().backward()
        assert value.isfinite().all()
        assert params.grad is not None
        assert params.grad.isfinite().all()


def test_learns_a_heavy_tail_to_its_entropy() -> None:
    """The default family, one set of raw numbers for all pixels, by gradient steps alone."""
    rng = np.random.default_rng(0)
    counts = np.minimum(30 + rng.lognormal(3.0, 0.8, 4096), 1000).astype(int)
    levels = torch.tensor(counts).view(1, 1, 64, 64)
    grey = GreyLevels((0,), (1,), (4095,))
    likelihood = make_likelihood(LikelihoodSettings(), grey, [counts.mean()], [counts.std()])
    params = torch.zeros(1, likelihood.n_params, 1, 1, requires_grad=True)
    optimiser = torch.optim.Adam([params], lr=0.05)
    bits = []
    for _ in range(250):
        nats = -likelihood(params.expand(-1, -1, 64, 64)).log_prob(levels).sum()
        optimiser.zero_grad()
        nats.backward()
        optimiser.step()
        bits.append(bits_per_pixel(nats.item(), levels.numel()))
    # Differential entropy of a log-normal, in bits: log2(σ e^(μ + ½) √(2π)).
    entropy = math.log2(0.8 * math.exp(3.5) * math.sqrt(2 * math.pi))
    assert bits[0] > entropy + 0.3
    assert bits[-1] < entropy + 0.06


def test_a_channel_that_never_changes_is_harmless() -> None:
    """Also where its mean is no higher than the dark level, as that of an empty channel."""
    noise = CameraNoise(gain=(2.0, 0.5), offset=(0.0, 5.5), read_variance=(0.0, 0.0))
    for settings in FAMILIES:
        likelihood = make(settings, (0.0, 5.0), (0.0, 0.0), noise)
        params = torch.zeros(1, 2 * likelihood.n_params, 1, 1, requires_grad=True)
        value = likelihood(params).log_prob(torch.zeros(1, 2, 1, 1, dtype=torch.int32))
        value.sum().backward()
        assert value.isfinite().all()
        assert params.grad is not None
        assert params.grad.isfinite().all()


def test_what_cannot_be_made_says_why() -> None:
    with pytest.raises(ContractError, match="2 channels"):
        make({"name": "gaussian"}, (1.0,), (1.0,))
    with pytest.raises(ContractError, match="nan"):
        make({"name": "gaussian"}, (1.0, math.nan))


@pytest.mark.parametrize("name", ["poisson", "negative_binomial", "camera"])
def test_families_of_the_camera_ask_for_its_noise(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}[\\s\\S]*no calibration[\\s\\S]*calibrate"):
        make({"name": name}, noise=None)
    with pytest.raises(ContractError, match="each of 2 channels"):
        make({"name": name}, noise=CameraNoise((2.0,), (100.0,), (9.0,)))


@pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
def test_a_dark_level_above_the_ceiling_is_refused(name: str) -> None:
    """As when a calibration in raw counts is taken for one in levels."""
    counts = CameraNoise((2.0, 0.5), (1600.0, 300.0), (9.0, 1.0))
    with pytest.raises(ContractError, match="in levels, not counts"):
        make({"name": name}, noise=counts)


def test_one_sigma_in_units_of_the_channel() -> None:
    at = make({"name": "gaussian_fixed", "sigma": 0.5})(torch.zeros(1, 2, 1, 1))
    sd = (at.variance - 1 / 12).sqrt().flatten()
    torch.testing.assert_close(sd, torch.tensor([45.0, 4.5]), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["camera", "poisson"])
def test_only_the_line_of_variance_against_mean_matters(name: str) -> None:
    """Offset and read variance are known through one number; other two of the same are as good."""
    likelihood = make({"name": name})
    same = make({"name": name}, noise=CameraNoise(NOISE.gain, NOISE.dark, (0.0, 0.0)))
    params, levels = raw(likelihood), torch.full((3, 2, 8, 6), 90)
    torch.testing.assert_close(same(params).log_prob(levels), likelihood(params).log_prob(levels))


def test_a_uniform_8_bit_guess_costs_8_bits() -> None:
    assert bits_per_pixel(100 * math.log(256), 100) == pytest.approx(8.0)
