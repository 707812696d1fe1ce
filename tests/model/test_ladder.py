"""The skip-connected decoder: one path for inference, sampling and forced latents; a true bound."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vae_sci.config import ModelSettings
from vae_sci.likelihoods import GreyLevels
from vae_sci.model.decoder import LOG_RATIO_MAX, SHIFT_MAX, Decoder, SkipLatent
from vae_sci.model.objective import bound, score
from vae_sci.model.vae import VAE, Scaling

WIDTHS, SIZE = (8, 16, 16), 32


def make(
    skip: str = "ladder", channels: tuple[int, ...] = (4, 3, 2), settled: bool = True, **decoder
) -> VAE:
    """A small model; `settled`: as after some training, nothing silent any more."""
    torch.manual_seed(0)
    settings = ModelSettings.model_validate(
        {
            "latent_dim": 6,
            "widths": WIDTHS,
            "decoder": {"skip": skip, "skip_channels": channels, **decoder},
        }
    )
    scaling = Scaling((500.0, 80.0), (150.0, 20.0), (22.0, 9.0), (3.0, 1.0))
    model = VAE(settings, SIZE, GreyLevels((0, 0), (1, 1), (4095, 4095)), scaling, ("a", "b"))
    if settled:
        for parameter in model.decoder.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return model


def tiles(n: int = 4, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(n, 2, height, width, generator=draw)
    mean, sd = torch.tensor([500.0, 80.0]), torch.tensor([150.0, 20.0])
    return (mean[:, None, None] + sd[:, None, None] * noise).round().clamp(0, 4095).to(torch.int32)


@torch.no_grad()
def test_forcing_the_inferred_latents_gives_the_inferred_image_exactly():
    model = make()
    seen = model.inference(tiles())
    inferred = model.generative(seen.z.mean, seen.skips)
    forced = model.generative(seen.z.mean, u=inferred.u)
    assert torch.equal(forced.p.mean, inferred.p.mean)
    assert all(torch.equal(a, b) for a, b in zip(forced.u, inferred.u, strict=True))
    other = model.generative(seen.z.mean, u=tuple(part + 1 for part in inferred.u))
    assert not torch.equal(other.p.mean, inferred.p.mean)


@torch.no_grad()
def test_without_skips_the_rate_is_zero_and_with_them_it_is_not():
    model = make()
    seen = model.inference(tiles())
    assert all((rate == 0).all() for rate in model.generative(seen.z.mean).rates)
    assert all((rate > 0).all() for rate in model.generative(seen.z.mean, seen.skips).rates)


@torch.no_grad()
def test_the_prior_is_standard_normal_at_the_start_whatever_z():
    model = make(settled=False)
    z = 3 * torch.randn(500, 6)
    drawn = model.generative(z).u
    for level, u in enumerate(drawn):
        assert u.shape[1:] == model.decoder.latent_shapes(SIZE, SIZE)[level]
        assert abs(float(u.mean())) < 0.02
        assert abs(float(u.std()) - 1) < 0.02
    # The posterior starts near it: little is paid before anything was learned.
    rates = model.generative(z[:4], model.inference(tiles()).skips).rates
    assert sum(float(rate.mean()) for rate in rates) < 0.05 * 2 * SIZE * SIZE


@torch.no_grad()
def test_the_rate_is_the_divergence_between_posterior_and_prior():
    """From two passes: the means and widths of both, found by drawing with temperatures 0 and 1."""
    skip = make().decoder.skips["1"]
    assert isinstance(skip, SkipLatent)
    h, seen = torch.randn(2, 5, 16, 8, 8).unbind(0)
    one = torch.ones(5, 3, 8, 8)

    def normal(seen: torch.Tensor | None) -> Normal:
        mean = skip(h, seen, None, 0.0, one)[1]
        return Normal(mean, skip(h, seen, None, 1.0, one)[1] - mean)

    expected = kl_divergence(normal(seen), normal(None)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(skip(h, seen, None, 1.0, one)[2], expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, 1e30])
def test_the_rate_is_bounded_and_its_gradient_finite(scale: float):
    skip = make().decoder.skips["1"]
    h = torch.randn(2, 16, 8, 8, requires_grad=True)
    seen = scale * torch.randn(2, 16, 8, 8)
    out, u, rate = skip(h, seen, None, 1.0, None)
    most = 0.5 * (SHIFT_MAX**2 + torch.tensor(2 * LOG_RATIO_MAX).exp() - 1) + LOG_RATIO_MAX
    assert (rate >= 0).all()
    assert (rate <= most * 3 * 8 * 8).all()
    (rate.sum() + out.sum() + u.sum()).backward()
    assert h.grad is not None
    assert h.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in skip.parameters())


@torch.no_grad()
def test_a_dropped_skip_is_a_draw_from_the_prior_that_costs_nothing():
    model = make()
    seen = model.inference(tiles())
    noise = model.draw_noise(4, torch.Generator().manual_seed(0)).u
    mixed = model.generative(seen.z.mean, tuple(part[:2] for part in seen.skips), noise=noise)
    with_skips = model.generative(seen.z.mean, seen.skips, noise=noise)
    without = model.generative(seen.z.mean, noise=noise)
    for row in range(4):
        expected = with_skips if row < 2 else without
        torch.testing.assert_close(mixed.p.mean[row], expected.p.mean[row])
        for rate, wanted in zip(mixed.rates, expected.rates, strict=True):
            torch.testing.assert_close(rate[row], wanted[row])


@torch.no_grad()
def test_temperature_scales_the_spread_of_what_is_drawn():
    model = make()
    z = torch.randn(1, 6).expand(200, 6)
    first = [model.generative(z, temperature=t).u[0] for t in (0.0, 0.5, 1.0)]
    assert float(first[0].std(dim=0).max()) < 1e-6
    ratio = first[1].std(dim=0).mean() / first[2].std(dim=0).mean()
    assert abs(float(ratio) - 0.5) < 0.03


@torch.no_grad()
def test_the_bound_is_below_the_likelihood_of_importance_sampling():
    """log mean of k weights is at least the mean of their logs (Burda 2016): a true bound."""
    model = make()
    levels = tiles(2)
    draw = torch.Generator().manual_seed(3)
    costs = torch.stack(
        [bound(model, levels, None, model.draw_noise(2, draw))[1].bound for _ in range(30)]
    )
    tighter = -(torch.logsumexp(-costs, dim=0) - torch.log(torch.tensor(30.0)))
    assert (tighter <= costs.mean(dim=0)).all()


@pytest.mark.parametrize("channels", [(), (5,), (0, 3), (1, 2, 3), (2, 0, 7)])
@torch.no_grad()
def test_any_number_of_resolutions_and_channels(channels: tuple[int, ...]):
    model = make(channels=channels)
    seen = model.inference(tiles())
    made = model.generative(seen.z.mean, seen.skips)
    sizes = [SIZE // 2 ** (3 - level) for level in range(3)]
    expected = [(c, s, s) for c, s in zip(channels, sizes, strict=False) if c]
    assert [tuple(u.shape[1:]) for u in made.u] == expected
    assert score(seen.z, made, tiles()).levels.shape == (4, len(expected))


@pytest.mark.parametrize("skip", ["none", "latent", "ladder"])
@pytest.mark.parametrize("shape", [(16, 48), (64, 64), (40, 72)])
@torch.no_grad()
def test_tiles_that_are_not_square_or_larger_than_in_training(skip: str, shape: tuple[int, int]):
    model = make(skip)
    levels = tiles(2, *shape)
    noise = model.draw_noise(2, torch.Generator().manual_seed(0), shape)
    _, terms = bound(model, levels, None, noise)
    assert terms.bound.isfinite().all()
    assert model.generative(noise.z, shape=shape).p.batch_shape == (2, 2, *shape)


@pytest.mark.parametrize("dials", [{}, {"depth": 2}, {"widths": (32, 64, 96)}])
def test_the_three_kinds_have_about_as_many_parameters(dials):
    def parameters(skip: str) -> int:
        settings = ModelSettings.model_validate({"decoder": {"skip": skip}} | dials)
        scaling = Scaling((1.0,) * 3, (1.0,) * 3, (1.0,) * 3, (1.0,) * 3)
        model = VAE(settings, 64, GreyLevels((0,) * 3, (1,) * 3, (255,) * 3), scaling)
        return sum(p.numel() for p in model.parameters())

    counts = {skip: parameters(skip) for skip in ("none", "latent", "ladder")}
    assert max(counts.values()) < 1.1 * min(counts.values()), counts


@torch.no_grad()
def test_nothing_but_u_reaches_the_decoder_from_the_encoder():
    """With u and z held, other skips change nothing but the rates."""
    model = make()
    seen = model.inference(tiles())
    made = model.generative(seen.z.mean, seen.skips)
    other = model.generative(seen.z.mean, tuple(2 * part for part in seen.skips), u=made.u)
    assert torch.equal(other.p.mean, made.p.mean)
    assert all((a != b).all() for a, b in zip(other.rates, made.rates, strict=True))


@torch.no_grad()
def test_a_model_is_told_the_plate_only_where_it_is_conditioned_on_it():
    z = torch.zeros(3, 6)
    plates = torch.tensor([0, 1, -1])
    told, untold = make("latent", condition=["plate"]), make("latent")
    first, second, none = told.generative(z, plate=plates).p.mean
    assert not torch.equal(first, second)
    torch.testing.assert_close(none, told.generative(z[:1]).p.mean[0])
    same = untold.generative(z, plate=plates).p.mean
    torch.testing.assert_close(same[0], same[1])


def test_activations_keep_their_scale_down_the_ladder():
    torch.manual_seed(0)
    deep = Decoder(2, 256, (16,) * 7, 2, 32, "ladder", (4,) * 7)
    scales = []
    for up in deep.ups:
        up.register_forward_hook(lambda _, __, out: scales.append(float(out.std())))
    deep(torch.randn(2, 32))
    assert all(0.3 < scale < 3 for scale in scales), scales


@torch.no_grad()
def test_upsampling_leaves_no_checkerboard():
    """Power of a random decoder's output at the corner of the spectrum, beside its neighbours'."""
    image = make().generative(torch.randn(64, 6)).p.mean[:, 0]
    image = image - image.mean(dim=(1, 2), keepdim=True)
    window = torch.hann_window(SIZE, periodic=False)
    power = torch.fft.fft2(image * window[:, None] * window).abs().square().mean(dim=0)
    half = SIZE // 2
    corner = power[half, half]
    around = power[half - 4 : half - 1, half - 4 : half - 1].mean()
    assert float(corner) < 2 * float(around)
