"""What every family must satisfy, from mathematics: MODEL.md, section 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

if TYPE_CHECKING:
    from conftest import Family

F64 = torch.float64


def top_of(bits: int) -> Tensor:
    return torch.tensor(2**bits - 1).view(1, 1, 1)


def grid(locs: list[float], scales: list[float], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Every location with every scale, along N: two tensors (N, 1, 1, 1)."""
    loc, scale = torch.meshgrid(
        torch.tensor(locs, dtype=dtype), torch.tensor(scales, dtype=dtype), indexing="ij"
    )
    return loc.reshape(-1, 1, 1, 1), scale.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-9), (torch.float32, 2e-5)])
def test_mass_sums_to_one(family: Family, bits: int, dtype: torch.dtype, tolerance: float) -> None:
    top = 2**bits - 1
    loc, scale = grid([-500.0, 0.0, 0.3 * top, top + 1e4], [0.01, 0.7, 40.0, 3e4, 1e9], dtype)
    levels = torch.arange(top + 1).expand(len(loc), 1, 1, -1)
    loc, scale = family.place(loc).expand(levels.shape), scale.expand(levels.shape)
    family_at = family.make(loc, scale, top_of(bits))
    total = family_at.log_prob(levels).double().exp().sum(-1)
    assert (total - 1).abs().max() < tolerance


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("scale", [0.3, 5.0, 300.0])
def test_agrees_with_scipy(family: Family, bits: int, scale: float) -> None:
    """At the edges (the exact open tails) and between them, near the mean and far from it."""
    top = 2**bits - 1
    levels = torch.unique(torch.linspace(0, top, 200).round().int()).view(1, 1, 1, -1)
    levels = levels.expand(3, -1, -1, -1)
    loc = torch.tensor([-30.2, 0.4 * top, top + 2.5], dtype=F64).view(-1, 1, 1, 1)
    loc = family.place(loc).expand(levels.shape)
    spread = torch.full(levels.shape, scale, dtype=F64)
    ours = family.make(loc, spread, top_of(bits)).log_prob(levels).numpy()
    reference = family.reference(levels, loc, spread, top)
    assert levels.min() == 0
    assert levels.max() == top
    np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-9)


def test_float32_agrees_with_float64(family: Family) -> None:
    levels = torch.randint(0, 4096, (8, 2, 16, 16), generator=torch.Generator().manual_seed(0))
    loc = family.place(torch.linspace(-100, 4200, levels.numel()).view(levels.shape))
    scale = torch.logspace(-1, 3, 8).view(-1, 1, 1, 1).expand(levels.shape)
    single = family.make(loc, scale, top_of(12)).log_prob(levels)
    double = family.make(loc.double(), scale.double(), top_of(12)).log_prob(levels)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=3e-6, atol=family.float32)


@pytest.mark.parametrize(("loc", "scale"), [(14.3, 4.0), (1.0, 3.0), (29.0, 6.0), (7.4, 0.4)])
def test_samples_follow_the_mass(family: Family, loc: float, scale: float) -> None:
    """Chi-square goodness of fit; the edges, which hold whole tails, are among the bins."""
    torch.manual_seed(20)
    shape = (1, 1, 1, 32)
    at = family.make(torch.full(shape, loc), torch.full(shape, scale), torch.tensor([[[31]]]))
    drawn = at.sample((2000,))
    assert drawn.dtype == torch.int32
    assert drawn.shape == (2000, *shape)
    mass = at.log_prob(torch.arange(32).view(shape)).exp().flatten().double().numpy()
    counts = np.bincount(drawn.flatten().numpy(), minlength=32)
    expected = mass / mass.sum() * counts.sum()
    kept = expected >= 5
    pooled = [np.append(c[kept], c[~kept].sum()) for c in (counts, expected)]
    some = pooled[1] > 0
    p = stats.chisquare(pooled[0][some], pooled[1][some]).pvalue
    assert p > 1e-3


def test_mean_is_that_of_the_mass(family: Family) -> None:
    levels = torch.arange(256).view(1, 1, 1, -1)
    for loc, scale, tolerance in family.means:
        at = family.make(
            torch.full(levels.shape, loc, dtype=F64),
            torch.full(levels.shape, scale, dtype=F64),
            top_of(8),
        )
        exact = (at.log_prob(levels).exp() * levels).sum()
        assert at.mean.shape == levels.shape
        assert abs(at.mean.flatten()[0] - exact) <= tolerance, (loc, scale)


@pytest.mark.parametrize("which", [0, 1])
def test_variance_is_that_of_the_mass_inside_the_range(family: Family, which: int) -> None:
    levels = torch.arange(4096).view(1, 1, 1, -1)
    at = family.make(
        torch.full(levels.shape, 2000.3, dtype=F64),
        torch.full(levels.shape, family.inside[which], dtype=F64),
        top_of(12),
    )
    mass = at.log_prob(levels).exp()
    exact = (mass * (levels - (mass * levels).sum()) ** 2).sum()
    assert at.variance.shape == levels.shape
    assert at.variance.flatten()[0].item() == pytest.approx(exact.item(), rel=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("scale", [1e-6, 0.05, 3.0, 1e4, 1e8])
def test_value_and_gradient_live_far_from_the_data(
    family: Family, scale: float, dtype: torch.dtype
) -> None:
    """Finite everywhere; where the mean is far away, the gradient pulls it to the data."""
    levels = torch.tensor([0, family.dark + 1, 40000, 65534, 65535]).view(1, 1, 1, -1)
    for loc, pull in [(1e-3 if family.counts else -2e5, 1), (3e5, -1), (40000.2, None)]:
        mean = torch.full(levels.shape, loc, dtype=dtype, requires_grad=True)
        spread = torch.full(levels.shape, scale, dtype=dtype, requires_grad=True)
        value = family.make(mean, spread, top_of(16)).log_prob(levels)
        value.sum().backward()
        assert value.isfinite().all()
        assert mean.grad is not None
        assert mean.grad.isfinite().all()
        if family.learns_scale:
            assert spread.grad is not None
            assert spread.grad.isfinite().all()
        if pull is not None and scale <= 1e4:
            # The edge towards the mean is at its best already; all others must be pulled.
            pulled = mean.grad.flatten()[1:] if pull == 1 else mean.grad.flatten()[:-1]
            assert (pulled * pull > 0).all()


def test_gradient_is_that_of_the_value(family: Family) -> None:
    """Edges, interior, narrow and wide levels, near and far from the mean."""
    levels = torch.tensor([0, 1, 9, 120, 254, 255]).view(1, 1, 2, 3).expand(5, -1, -1, -1)
    loc = family.place(torch.tensor([-4.0, 9.3, 121.0, 260.0, 90.0], dtype=F64)).view(-1, 1, 1, 1)
    scale = torch.tensor([2.0, 0.6, 30.0, 8.0, 900.0], dtype=F64).view(-1, 1, 1, 1)
    loc, scale = (t.expand(levels.shape).clone() for t in (loc, scale))
    inputs = (loc.requires_grad_(), scale.requires_grad_(family.learns_scale))
    assert torch.autograd.gradcheck(
        lambda m, s: family.make(m, s, top_of(8)).log_prob(levels), inputs, rtol=1e-4
    )


def test_blocks_leave_no_seam(family: Family) -> None:
    """A batch of several blocks gives what its tiles give one by one, gradients too."""
    generator = torch.Generator().manual_seed(5)
    levels = torch.randint(0, 256, (9, 2, 128, 128), generator=generator)
    loc = family.place(levels + 9 * torch.randn(levels.shape, generator=generator))
    loc.requires_grad_()
    scale = torch.full(levels.shape, 7.0)
    value = family.make(loc, scale, top_of(8)).log_prob(levels)
    (gradient,) = torch.autograd.grad(value.sum(), loc)
    for i in (0, 4, 8):
        one = slice(i, i + 1)
        alone = loc.detach()[one].requires_grad_()
        expected = family.make(alone, scale[one], top_of(8)).log_prob(levels[one])
        torch.testing.assert_close(value[one], expected)
        torch.testing.assert_close(gradient[one], *torch.autograd.grad(expected.sum(), alone))


def test_without_gradient_the_value_is_the_same(family: Family) -> None:
    levels = torch.tensor([0, 9, 255]).view(1, 1, 1, 3)
    loc = torch.full(levels.shape, 20.0, requires_grad=True)
    at = family.make(loc, torch.full(levels.shape, 4.0), top_of(8))
    with_gradient = at.log_prob(levels)
    with torch.no_grad():
        without = at.log_prob(levels)
    assert with_gradient.requires_grad
    assert not without.requires_grad
    assert (without == with_gradient).all()


def test_levels_reach_the_mass_exactly(family: Family) -> None:
    """257 and 4095 are not representable in bf16; each must keep its own mass."""
    levels = torch.tensor([256, 257, 4095, 4096]).view(1, 1, 1, -1)
    for level in (257.0, 4095.0):
        loc, scale = (torch.full(levels.shape, t, dtype=F64) for t in (level, 0.05))
        at = family.make(loc, scale, top_of(16))
        expected = family.reference(levels, loc, scale, 2**16 - 1)
        np.testing.assert_allclose(at.log_prob(levels), expected, rtol=1e-9, atol=1e-9)
        with pytest.raises(TypeError, match="integers"):
            at.log_prob(levels.to(torch.bfloat16))


def test_levels_out_of_range_are_refused(family: Family) -> None:
    at = family.make(family.place(torch.zeros(1, 1, 1, 2)), torch.ones(1, 1, 1, 2), top_of(8))
    with pytest.raises(ValueError, match="support"):
        at.log_prob(torch.tensor([3, 256]).view(1, 1, 1, 2))
