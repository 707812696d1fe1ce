"""The autoencoder: shapes, limits of the objective, initialisation, gradients, storage."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vae_sci.config import ModelSettings
from vae_sci.errors import ContractError, SettingsError
from vae_sci.likelihoods import GreyLevels
from vae_sci.model.blocks import Planes, ResidualBlock, conv
from vae_sci.model.checkpoint import load_model, save_model
from vae_sci.model.encoder import LOG_SD_MAX, LOG_SD_MIN
from vae_sci.model.objective import (
    TEMPERATURE,
    Terms,
    consistency_loss,
    describe,
    gaussian_rate,
    score,
    view_loss,
)
from vae_sci.model.vae import VAE, Scaling

SIZE = 32


def make(skip: str = "latent", likelihood: str = "logistic_mixture", top: int = 4095) -> VAE:
    torch.manual_seed(0)
    settings = ModelSettings.model_validate(
        {
            "latent_dim": 6,
            "widths": [8, 16, 16],
            "decoder": {"skip": skip},
            "likelihood": {"name": likelihood},
        }
    )
    scaling = Scaling((500.0, 80.0), (150.0, 20.0), (22.0, 9.0), (3.0, 1.0))
    return VAE(settings, SIZE, GreyLevels((0, 0), (1, 1), (top, top)), scaling)


def tiles(n: int = 4, top: int = 4095) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(n, 2, SIZE, SIZE, generator=draw)
    mean, sd = torch.tensor([500.0, 80.0]), torch.tensor([150.0, 20.0])
    levels = mean[:, None, None] + sd[:, None, None] * noise
    return levels.round().clamp(0, top).to(torch.int32)


def acts(model: VAE, levels: torch.Tensor):
    """q(z|x), p(x|z) at a draw, and q of a mirrored view: what a training step sees."""
    noise = model.draw_noise(len(levels), torch.Generator().manual_seed(2))
    x = model.standardized(levels)
    return model(x, x.flip(3), noise, len(x))


@pytest.fixture(params=["none", "latent", "ladder"])
def skip(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["logistic_mixture", "gaussian_fixed"])
def likelihood(request: pytest.FixtureRequest) -> str:
    return request.param


def test_both_acts_have_the_promised_shapes(skip: str, likelihood: str):
    model = make(skip, likelihood)
    q, made, q_view = acts(model, tiles())
    assert q_view.mean.shape == (4, 6)
    assert q.mean.shape == q.stddev.shape == (4, 6)
    assert made.p.batch_shape == (4, 2, SIZE, SIZE)
    terms = score(q, made, tiles())
    assert terms.distortion.shape == terms.rate_z.shape == terms.rate_u.shape == (4,)
    assert torch.equal(terms.values, torch.full((4,), 2.0 * SIZE * SIZE))


def test_the_first_prediction_is_each_channels_mean(skip: str, likelihood: str):
    mean = acts(make(skip, likelihood), tiles())[1].p.mean.mean(dim=(0, 2, 3))
    # Within a quarter of a standard deviation of the channel.
    assert abs(mean[0] - 500) < 0.25 * 150
    assert abs(mean[1] - 80) < 0.25 * 20


def test_the_rate_equals_the_divergence_from_the_prior():
    q = Normal(torch.randn(5, 3), torch.rand(5, 3) + 0.1)
    torch.testing.assert_close(gaussian_rate(q), kl_divergence(q, Normal(0.0, 1.0)))


def test_the_rate_is_zero_where_posterior_and_prior_agree():
    prior = Normal(torch.zeros(2, 3), torch.ones(2, 3))
    assert torch.equal(gaussian_rate(prior), torch.zeros(2, 3))


def some_terms() -> Terms:
    """Two tiles: distortion 15, rate of z 2 and of u 50 nats on average."""
    return Terms(
        torch.tensor([10.0, 20.0]),
        torch.tensor([[0.25, 0.75], [0.75, 2.25]]),
        torch.tensor([[10.0, 30.0], [20.0, 40.0]]),
        torch.ones(2),
    )


def test_each_beta_weighs_its_rate_alone():
    terms = some_terms()
    assert float(terms.loss(0.0, 0.0)) == 15
    assert float(terms.loss(4.0, 0.0)) == 23
    assert float(terms.loss(0.0, 2.0)) == 115
    assert float(terms.loss(1.0, 1.0)) == float(terms.bound.mean())


def test_free_bits_cost_nothing_up_to_their_number_in_each_dimension():
    # The two dimensions carry 0.5 and 1.5 nats on average.
    assert float(some_terms().loss(1.0, 0.0, free_bits=1.0)) == 15 + 1 + 1.5
    assert float(some_terms().loss(1.0, 0.0, free_bits=2.0)) == 15 + 2 + 2


def test_a_capacity_costs_the_distance_of_the_rate_from_it():
    assert float(some_terms().loss(3.0, 0.0, capacity=2.0)) == 15
    assert float(some_terms().loss(3.0, 0.0, capacity=5.0)) == 15 + 3 * 3
    assert float(some_terms().loss(3.0, 0.0, capacity=0.5)) == 15 + 3 * 1.5


def test_the_loss_falls_without_limit_as_the_posterior_narrows_only_when_beta_is_zero():
    """The rate of a dimension grows as −log σ (MODEL.md, section 5: σ is needed)."""
    narrow, wide = (gaussian_rate(Normal(torch.zeros(1), torch.tensor([s]))) for s in (1e-3, 1e-2))
    assert float(narrow - wide) == pytest.approx(torch.log(torch.tensor(10.0)).item(), abs=1e-3)


@pytest.mark.parametrize("input_scale", [0.0, 1.0, 1e4])
def test_posterior_widths_stay_within_their_bounds(input_scale: float):
    mean, sd = make().encoder(input_scale * torch.randn(3, 2, SIZE, SIZE))
    assert torch.isfinite(mean).all()
    assert (sd.log() >= LOG_SD_MIN - 1e-5).all()
    assert (sd.log() <= LOG_SD_MAX + 1e-5).all()


def test_every_parameter_receives_gradient(skip: str, likelihood: str):
    model = make(skip, likelihood)
    # A block's last layer starts at zero, and what lies before it gets gradient once it moved.
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            torch.nn.init.normal_(module.expand.weight, std=0.05)
    for skip_latent in model.decoder.skips.values():
        torch.nn.init.normal_(skip_latent.prior.weight, std=0.05)
    q, made, q_view = acts(model, tiles())
    (score(q, made, tiles()).loss(1.0, 1.0) + view_loss(q.mean, q_view.mean)).backward()
    silent = [name for name, w in model.named_parameters() if w.grad is None or not w.grad.any()]
    assert not silent


def test_only_the_latent_skip_feeds_z_to_every_resolution():
    def changed(model: VAE) -> list[bool]:
        """Whether each decoder block changes with z when its input does not."""
        h = [torch.randn(2, b.reduce.in_channels, 8, 8) for s in model.decoder.stages for b in s]
        blocks = [b for s in model.decoder.stages for b in s]
        for block in blocks:
            torch.nn.init.normal_(block.expand.weight, std=0.1)
        a, b = torch.randn(2, 6), torch.randn(2, 6)
        return [
            not torch.equal(block(x, a), block(x, b)) for block, x in zip(blocks, h, strict=True)
        ]

    assert all(changed(make("latent")))
    assert not any(changed(make("none")))


def test_activations_keep_their_scale_with_depth():
    torch.manual_seed(0)
    x = torch.randn(4, 16, 16, 16)
    deep = torch.nn.Sequential(*(ResidualBlock(16) for _ in range(30)))
    assert torch.equal(deep(x), x)
    y = conv(16, 64, 3)(x)[:, :, 1:-1, 1:-1]
    assert float(y.detach().std()) == pytest.approx(1.0, abs=0.1)


def test_planes_are_a_convolution_in_values_and_gradients():
    layer = Planes(5, 7, gain=0.3).double()
    x = torch.randn(2, 5, 6, 4, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    made = layer(x)
    assert made.is_contiguous()
    wanted = torch.nn.functional.conv2d(x, layer.weight, layer.bias)
    torch.testing.assert_close(made, wanted)
    outer, inputs = torch.randn_like(made), (x, layer.weight, layer.bias)
    gradients = (torch.autograd.grad(out, inputs, outer) for out in (made, wanted))
    for own, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_planes_keep_the_type_of_their_input_under_autocast(kind: torch.dtype):
    layer = Planes(5, 7)
    x = torch.randn(2, 5, 6, 4, dtype=kind, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        made = layer(x)
    made.sum().backward()
    assert made.dtype == x.grad.dtype == kind
    assert layer.weight.grad.dtype == torch.float32


def test_the_view_loss_is_log_n_by_chance_and_vanishes_when_views_find_each_other():
    n = 8
    same = torch.ones(n, 3)
    assert float(view_loss(same, same)) == pytest.approx(math.log(n), rel=1e-5)
    apart = torch.eye(n)
    exact = math.log(1 + (n - 1) * math.exp(-1 / TEMPERATURE))
    assert float(view_loss(apart, apart)) == pytest.approx(exact, rel=1e-4)
    assert float(view_loss(apart, apart.roll(1, 0))) > math.log(n)


def test_the_consistency_loss_is_the_square_of_the_share_that_views_move_z():
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 3, generator=draw) * torch.tensor([2.0, 1.0, 0.1])
    assert float(consistency_loss(z, z)) == 0
    assert float(consistency_loss(z, z.roll(1, 0))) == pytest.approx(1, rel=0.05)
    moved = z + 0.3 * torch.randn(4000, 3, generator=draw)
    expected = 3 * 0.3**2 / (2 * (4 + 1 + 0.01) + 3 * 0.3**2)
    found = float(consistency_loss(z, moved))
    assert found == pytest.approx(expected, rel=0.05)
    # Of no unit, and of no axes: a dimension of small variance that moves as far weighs no more.
    assert float(consistency_loss(7 * z, 7 * moved)) == pytest.approx(found, rel=1e-4)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=draw)).Q
    assert float(consistency_loss(z @ turn, moved @ turn)) == pytest.approx(found, rel=1e-4)


def test_masked_pixels_are_neither_seen_nor_scored():
    model = make()
    levels, visible = tiles(2), torch.ones(2, 1, SIZE, SIZE, dtype=torch.bool)
    visible[:, :, :10] = False
    other = levels.clone()
    other[:, :, :10] = 4000
    one, t1 = describe(model, levels, visible)
    two, t2 = describe(model, other, visible)
    torch.testing.assert_close(one.z.mean, two.z.mean)
    torch.testing.assert_close(t1.distortion, t2.distortion)
    assert float(t1.values[0]) == 2 * (SIZE - 10) * SIZE


def test_a_tile_that_cannot_be_halved_is_refused_with_a_size_that_works():
    with pytest.raises(SettingsError, match=r"tiles\.size to 64"):
        VAE(
            ModelSettings(widths=(8, 8, 8, 8)),
            68,
            GreyLevels((0,), (1,), (255,)),
            Scaling((1.0,), (1.0,), (1.0,), (1.0,)),
        )


def test_a_model_comes_back_from_disk_as_it_was(tmp_path: Path, likelihood: str):
    model = make(likelihood=likelihood).eval()
    save_model(model, model.state_dict(), {"channels": ["a", "b"]}, tmp_path)
    loaded, card = load_model(tmp_path)
    assert card["channels"] == ["a", "b"]
    one, t1 = describe(model, tiles())
    two, t2 = describe(loaded, tiles())
    assert torch.equal(one.z.mean, two.z.mean)
    assert torch.equal(t1.distortion, t2.distortion)


@pytest.mark.parametrize("damage", ["weights", "card", "format", "missing"])
def test_a_damaged_model_is_refused_without_a_guess(tmp_path: Path, damage: str):
    model = make()
    save_model(model, model.state_dict(), {}, tmp_path)
    weights, card = tmp_path / "model.safetensors", tmp_path / "model.json"
    if damage == "weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "card":
        card.write_text(card.read_text()[:50])
    elif damage == "format":
        card.write_text(json.dumps(json.loads(card.read_text()) | {"format": 99}))
    else:
        weights.unlink()
    with pytest.raises(ContractError, match="trained anew"):
        load_model(tmp_path)


@pytest.mark.slow
def test_a_small_model_learns_two_kinds_of_cell_apart():
    """Behaviour: z tells half-bright from striped tiles, of the same brightness, unsupervised."""
    torch.manual_seed(0)
    n = 64
    levels = tiles(n).float()
    kind = torch.arange(n) % 2
    levels[kind == 0, 0, :, : SIZE // 2] += 400
    levels[kind == 1, 0] += 400.0 * (torch.arange(SIZE) // 4 % 2 == 0)
    levels = levels.round().clamp(0, 4095).to(torch.int32)
    model = make()
    before = describe(model, levels)[1].distortion.mean()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(80):
        q, made, _ = acts(model, levels)
        terms = score(q, made, levels)
        optimizer.zero_grad()
        (terms.loss(1.0, 1.0) / terms.values.mean()).backward()
        optimizer.step()
    seen, terms = describe(model, levels)
    assert terms.distortion.mean() < before - 500
    a, b = seen.z.mean[kind == 0], seen.z.mean[kind == 1]
    gap = (a.mean(0) - b.mean(0)).abs() / (a.std(0) + b.std(0))
    assert float(gap.max()) > 3
