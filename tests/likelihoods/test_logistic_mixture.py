"""What belongs to the mixture alone: its limits and its weights."""

from __future__ import annotations

import torch

from vae_sci.likelihoods.logistic_mixture import LogisticMixture

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
