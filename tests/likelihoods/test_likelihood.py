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
    Light,
    Likelihood,
    bits_per_pixel,
    make_likelihood,
)
from vae_sci.likelihoods.camera import Camera
from vae_sci.likelihoods.logistic_mixture import CoupledLogisticMixture
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


def uneven(n: int = 3, dark: float = 20.0, seed: int = 2) -> Light:
    """Light on tiles of 2 × 8 × 6, of which some pixels get a quarter and some twice the mean."""
    generator = torch.Generator().manual_seed(seed)
    gain = 0.25 * 8 ** torch.rand(n, 2, 8, 6, generator=generator)
    return Light(gain, torch.full((n, 2, 1, 1), dark))


def test_even_light_is_no_light_to_the_last_digit(likelihood: Likelihood) -> None:
    params, even = raw(likelihood), Light(torch.ones(3, 2, 8, 6), uneven().dark)
    levels = torch.randint(0, 256, (3, 2, 8, 6), generator=torch.Generator().manual_seed(1))
    for part in ("mean", "variance"):
        assert torch.equal(
            getattr(likelihood(params, even), part), getattr(likelihood(params), part)
        )
    assert torch.equal(
        likelihood(params, even).log_prob(levels), likelihood(params).log_prob(levels)
    )


def test_under_uneven_light_the_mass_sums_to_one(likelihood: Likelihood) -> None:
    """Every level of a channel, what the other one shows being given, at 48 gains."""
    params, light = raw(likelihood, 1), uneven(1)
    for channel, n_levels in enumerate(GREY.n_levels):
        levels = torch.full((n_levels, 1, 2, 8, 6), 200)
        levels[:, :, channel] = torch.arange(n_levels).view(-1, 1, 1, 1)
        mass = likelihood(params, light).log_prob(levels).double().exp().sum(0)[0, channel]
        torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=3e-5)


def test_what_rises_above_the_dark_level_goes_with_the_light(likelihood: Likelihood) -> None:
    """Of counts, whose mean is that above the camera's own dark level, where that is the dark."""
    dark = getattr(likelihood, "dark", torch.full((2, 1, 1), 20.0))
    params, light = 0.2 * raw(likelihood), uneven()._replace(dark=dark.expand(3, 2, 1, 1))
    # A brighter and wider scale than that of the 8-bit channel: no mass at the edges.
    even = likelihood(params).mean[:, :1]
    seen = likelihood(params, light).mean[:, :1]
    torch.testing.assert_close(
        seen - dark[0], (even - dark[0]) * light.gain[:, :1], rtol=5e-3, atol=0.5
    )


def test_gradients_live_at_every_gain(likelihood: Likelihood) -> None:
    levels, light = torch.full((3, 2, 8, 6), 200), uneven()
    for size in (-60.0, 0.0, 60.0):
        params = torch.full((3, 2 * likelihood.n_params, 8, 6), size, requires_grad=True)
        value = likelihood(params, light).log_prob(levels)
        value.sum().backward()
        assert value.isfinite().all()
        assert params.grad is not None
        assert params.grad.isfinite().all()
        assert params.grad.abs().sum() > 0


def test_photons_are_thinned_by_the_light() -> None:
    """Where the camera's noise is known, that of dimmed light: variance against the mean seen."""
    light = uneven()
    for name in ("poisson", "camera"):
        likelihood = make({"name": name})
        at = likelihood(0.2 * raw(likelihood), light)
        law = NOISE.gain[0] * (at.mean[:, 0] - NOISE.dark[0])
        torch.testing.assert_close(at.variance[:, 0], law, rtol=0.02, atol=1.0)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "logistic_mixture"])
def test_a_learned_scale_goes_with_the_root_of_the_light(name: str) -> None:
    likelihood = make({"name": name, "components": 1, "coupling": False})
    light = Light(torch.full((1, 2, 1, 1), 0.25), torch.zeros(1, 2, 1, 1))
    params = torch.zeros(1, 2 * likelihood.n_params, 1, 1)
    dim, even = likelihood(params, light).variance, likelihood(params).variance
    # Of the scale above its floor, at most 0.13 levels, which is small beside the scales here.
    torch.testing.assert_close(dim / even, torch.full_like(even, 0.25), rtol=0.05, atol=0)
    fixed = make({"name": "gaussian_fixed"})
    params = torch.zeros(1, 2 * fixed.n_params, 1, 1)
    assert torch.equal(fixed(params, light).variance, fixed(params).variance)


def test_channels_are_coupled_as_under_even_light() -> None:
    """What channel 0 shows too much moves channel 1 by as much as it would under even light."""
    likelihood, light = make({"name": "logistic_mixture"}), uneven()
    even, seen = likelihood(raw(likelihood)), likelihood(raw(likelihood), light)
    assert isinstance(even, CoupledLogisticMixture)
    assert isinstance(seen, CoupledLogisticMixture)
    levels = 600 + 200 * torch.rand(3, 2, 8, 6, generator=torch.Generator().manual_seed(1))
    gain, dark = light
    under_light = levels * gain + dark * (1 - gain)
    expected = even._shifted(levels) * gain[:, :, None] + (dark * (1 - gain))[:, :, None]
    torch.testing.assert_close(seen._shifted(under_light), expected, rtol=1e-4, atol=1e-2)


def test_evened_levels_are_those_under_even_light_and_never_negative() -> None:
    light = uneven()
    even = 20 + 500 * torch.rand(3, 2, 8, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(light.evened(light.seen(even)), even, rtol=1e-5, atol=1e-3)
    assert (light.evened(torch.zeros(3, 2, 8, 6, dtype=torch.int32)) >= 0).all()


def test_light_in_raw_grey_levels_is_told_in_steps_above_the_lowest_level() -> None:
    """A channel of counts 80, 96, … whose offset is 400: 20 levels above the lowest."""
    grey = GreyLevels((80, 0), (16, 1), (65520, 255))
    gain = np.full((2, 2, 3, 3), 0.5, np.float32)
    for offset in (np.array([400.0, 7.0]), np.array([[400.0, 7.0]] * 2)):
        light = Light.on(grey, gain, offset)
        assert light.dark.flatten().tolist() == [20, 7, 20, 7]
        assert torch.equal(light.gain, torch.from_numpy(gain))


def test_light_on_some_tiles_joins_even_light_on_others() -> None:
    levels, light = torch.zeros(3, 2, 8, 6, dtype=torch.int32), uneven()
    assert Light.joined([(levels, None), (levels, None)]) is None
    both = Light.joined([(levels, None), (levels, light)])
    assert both is not None
    assert (both.gain[:3] == 1).all()
    assert torch.equal(both.of(slice(3, 6)).gain, light.gain)
    assert torch.equal(
        both.of(torch.tensor([5, 0])).dark, torch.cat([light.dark[2:], 0 * light.dark[:1]])
    )


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
