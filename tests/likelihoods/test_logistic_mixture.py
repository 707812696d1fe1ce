"""What belongs to the mixture alone: its limits, its weights, and coupling between channels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from vae_sci.config import LikelihoodSettings
from vae_sci.likelihoods import GreyLevels, make_likelihood
from vae_sci.likelihoods.logistic_mixture import CoupledLogisticMixture, LogisticMixture

TOP = torch.tensor([[[255]]])


def random_params(k: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits, means, log_scales = torch.randn(3, 4, 2, k, 5, 6, generator=generator).double()
    return [logits, 120 + 60 * means, 2 + log_scales]


def random_levels() -> torch.Tensor:
    return torch.randint(0, 256, (4, 2, 5, 6), generator=torch.Generator().manual_seed(4))


def test_equal_components_are_one_logistic() -> None:
    logits, means, log_scales = random_params(1)
    one = LogisticMixture(logits, means, log_scales, TOP).log_prob(random_levels())
    logits_of_4 = torch.tensor([1.0, -2.0, 0.5, 3.0]).double().view(4, 1, 1) + logits
    same = (p.expand_as(logits_of_4) for p in (means, log_scales))
    four = LogisticMixture(logits_of_4, *same, TOP).log_prob(random_levels())
    torch.testing.assert_close(four, one, rtol=1e-12, atol=1e-12)


def test_component_without_weight_changes_nothing() -> None:
    """Value and gradient are those of the mixture without it, at −inf as at −1e30."""
    for lost in (-torch.inf, -1e30):
        full = random_params(3)
        full[0][:, :, 1] = lost
        kept = [p[:, :, [0, 2]].clone() for p in full]
        results = []
        for params in (full, kept):
            for p in params:
                p.requires_grad_()
            value = LogisticMixture(*params, TOP).log_prob(random_levels())
            value.sum().backward()
            results.append((value, [p.grad for p in params]))
        (value, gradients), (expected, expected_gradients) = results
        torch.testing.assert_close(value, expected)
        for gradient, wanted in zip(gradients, expected_gradients, strict=True):
            assert gradient is not None
            assert (gradient[:, :, 1] == 0).all()
            torch.testing.assert_close(gradient[:, :, [0, 2]], wanted)


def test_log_scales_from_tiny_to_huge_have_finite_gradients() -> None:
    for dtype in (torch.float32, torch.float64):
        log_scales = torch.linspace(-14, 80, 48, dtype=dtype).view(-1, 1, 1, 1, 1)
        shape = (48, 1, 1, 1, 4)
        params = [torch.zeros(shape, dtype=dtype), torch.full(shape, 100.2, dtype=dtype)]
        params = [p.requires_grad_() for p in (*params, log_scales.expand(shape).clone())]
        levels = torch.tensor([0, 7, 100, 255]).expand(48, 1, 1, 4)
        value = LogisticMixture(*params, TOP).log_prob(levels)
        value.sum().backward()
        assert value.isfinite().all()
        for p in params:
            assert p.grad is not None
            assert p.grad.isfinite().all()


def coupled(n_levels: int, channels: int, spread: float) -> tuple[CoupledLogisticMixture, Tensor]:
    """A random coupled mixture of two components, each pixel alike, for all joint levels: one
    tile per joint level, (n_levels ** channels, channels, 1, 1)."""
    generator = torch.Generator().manual_seed(7)
    joint = torch.cartesian_prod(*[torch.arange(n_levels)] * channels).view(-1, channels, 1, 1)
    n = len(joint)
    logits, means = torch.randn(2, 1, channels, 2, 1, 1, generator=generator).double()
    coupling = [
        0.6 * torch.randn(1, channels - 1 - j, 2, 1, 1, generator=generator).double()
        for j in range(channels - 1)
    ]
    at = CoupledLogisticMixture(
        logits.expand(n, -1, -1, -1, -1),
        ((n_levels - 1) / 2 + spread * means).expand(n, -1, -1, -1, -1),
        torch.full((n, channels, 2, 1, 1), math.log(spread), dtype=torch.float64),
        [one.expand(n, -1, -1, -1, -1) for one in coupling],
        torch.tensor(n_levels - 1).view(1, 1, 1),
    )
    return at, joint


@pytest.mark.parametrize("spread", [0.2, 1.0, 8.0])
def test_coupled_mass_sums_to_one_over_all_joint_levels(spread: float) -> None:
    at, joint = coupled(7, 3, spread)
    assert at.log_prob(joint).sum(1).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_coupled_mass_is_not_that_of_independent_channels() -> None:
    at, joint = coupled(7, 3, 1.0)
    mass = at.log_prob(joint).sum(1).exp().view(7, 7, 7)
    apart = torch.einsum("i,j,k->ijk", mass.sum((1, 2)), mass.sum((0, 2)), mass.sum((0, 1)))
    assert 0.5 * (mass - apart).abs().sum() > 0.1


def test_coupled_moments_are_those_of_the_joint_mass() -> None:
    at, joint = coupled(61, 3, 1.2)
    mass = at.log_prob(joint).sum(1).exp()
    levels = joint.double()[:, :, 0, 0]
    mean = (mass.view(-1, 1) * levels).sum(0)
    variance = (mass.view(-1, 1) * (levels - mean).square()).sum(0)
    torch.testing.assert_close(at.mean[0, :, 0, 0], mean, rtol=1e-3, atol=0)
    torch.testing.assert_close(at.variance[0, :, 0, 0], variance, rtol=5e-3, atol=0)


def test_coupled_samples_follow_the_joint_mass() -> None:
    torch.manual_seed(3)
    at, joint = coupled(5, 3, 0.8)
    drawn = at.sample((400,)).squeeze((-1, -2)).flatten(0, 1)
    index = (drawn * torch.tensor([25, 5, 1])).sum(1)
    counts = np.bincount(index.numpy(), minlength=125)
    expected = at.log_prob(joint).sum(1).exp().flatten().numpy() * counts.sum()
    kept = expected >= 5
    pooled = [np.append(c[kept], c[~kept].sum()) for c in (counts, expected)]
    assert stats.chisquare(pooled[0], pooled[1] * counts.sum() / pooled[1].sum()).pvalue > 1e-3


def test_without_coupling_nothing_changes() -> None:
    logits, means, log_scales = random_params(3)
    zero = [torch.zeros(4, 1, 3, 5, 6).double()]
    apart = LogisticMixture(logits, means, log_scales, TOP)
    together = CoupledLogisticMixture(logits, means, log_scales, zero, TOP)
    levels = random_levels()
    torch.testing.assert_close(together.log_prob(levels), apart.log_prob(levels))
    torch.testing.assert_close(together.mean, apart.mean)
    torch.testing.assert_close(together.variance, apart.variance)


def test_coupling_has_the_gradient_of_the_value() -> None:
    generator = torch.Generator().manual_seed(9)
    first, second = (0.3 * torch.randn(4, n, 2, 1, 2, generator=generator).double() for n in (2, 1))
    logits, means, log_scales = torch.randn(3, 4, 3, 2, 1, 2, generator=generator).double()
    levels = torch.randint(0, 256, (4, 3, 1, 2), generator=generator)
    inputs = [logits, 120 + 60 * means, 3 + 0.3 * log_scales, first, second]
    assert torch.autograd.gradcheck(
        lambda *p: CoupledLogisticMixture(*p[:3], p[3:], TOP).log_prob(levels),
        [p.requires_grad_() for p in inputs],
        rtol=1e-4,
    )


def test_coupling_learns_what_channels_share() -> None:
    """Two channels of correlation ρ: it saves the mutual information, −½ log(1 − ρ²), of two."""
    rho, n = 0.9, 96
    draws = np.random.default_rng(0).multivariate_normal([0, 0], [[1, rho], [rho, 1]], n * n)
    levels = torch.tensor(500 + 40 * draws).round().int().T.reshape(1, 2, n, n)
    grey = GreyLevels((0, 0), (1, 1), (1023, 1023))
    nats = []
    for coupling in (False, True):
        settings = LikelihoodSettings(components=2, coupling=coupling)
        likelihood = make_likelihood(settings, grey, (500.0, 500.0), (40.0, 40.0))
        params = torch.zeros(1, 2 * likelihood.n_params, 1, 1, requires_grad=True)
        optimiser = torch.optim.Adam([params], lr=0.05)
        for _ in range(150):
            loss = -likelihood(params.expand(-1, -1, n, n)).log_prob(levels).sum() / n**2
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        nats.append(loss.item())
    assert nats[0] - nats[1] == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.03)
