"""What z is read from: each statistic by hand, and what it must not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_sci.model.encoder import Encoder
from vae_sci.model.statistics import (
    CENTRE,
    bands,
    coherence,
    correlations,
    middle,
    moments,
    tile_statistics,
)


def textured(n: int, channels: int, height: int, width: int) -> Tensor:
    """Smooth noise, other channels partly alike."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, channels, height, width, generator=draw).cumsum(2) / 4
    return x + 0.5 * x.roll(1, 1)


def stripes(angle: float, size: int = 64) -> Tensor:
    """One map (1, 1, size, size) of waves 8 pixels long that run at `angle`."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    phase = 2 * math.pi / 8 * (x * math.cos(angle) + y * math.sin(angle))
    return torch.sin(phase)[None, None]


@pytest.mark.parametrize(("channels", "size", "octaves"), [(1, 64, 4), (3, 64, 4), (5, 32, 2)])
def test_as_many_numbers_as_the_docstring_says(channels: int, size: int, octaves: int):
    found = tile_statistics(textured(2, channels, size, size), octaves)
    pairs = channels * (channels - 1) // 2
    assert found.shape == (2, channels * (8 + 3 * octaves) + (1 + octaves) * pairs)
    assert found.isfinite().all()


# Of edges that are no multiples of 4, windows leave gradients over.
@pytest.mark.parametrize(
    ("shape", "octaves"), [((64, 64), 4), ((32, 48), 2), ((4, 8), 2), ((18, 18), 1), ((16, 22), 1)]
)
def test_turned_and_mirrored_tiles_have_the_same_statistics(shape: tuple[int, int], octaves: int):
    x = textured(2, 3, *shape)
    expected = tile_statistics(x, octaves)
    for other in (x.rot90(1, (2, 3)), x.rot90(2, (2, 3)), x.flip(3), x.flip(2), x.mT):
        found = tile_statistics(other, octaves)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_tiles_without_texture_or_of_few_pixels_have_finite_statistics():
    for x in (torch.zeros(2, 3, 16, 16), torch.full((2, 1, 32, 16), 1e4), torch.randn(2, 2, 4, 4)):
        assert tile_statistics(x, 2).isfinite().all()
    constant = tile_statistics(torch.full((1, 2, 16, 16), 3.0), 2)
    torch.testing.assert_close(constant[0, :2], torch.full((2,), 3.0))
    assert constant[0, 2:10].abs().max() < 1e-3  # spread, peaks, coherence


def test_autocast_does_not_round_statistics():
    x = textured(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = tile_statistics(x, 3)
    assert torch.equal(found, tile_statistics(x, 3))


def test_bands_sum_up_to_the_tile_and_part_detail_by_scale():
    x = textured(1, 2, 48, 32)
    *detail, rest = bands(x, 3)
    for band in reversed(detail):
        rest = band + torch.nn.functional.interpolate(
            rest, scale_factor=2, mode="bilinear", align_corners=False
        )
    torch.testing.assert_close(rest, x)
    fine, *coarser = (float(band.square().mean()) for band in bands(stripes(0.4), 4))
    coarse, *_ = (float(band.square().mean()) for band in bands(torch.ones(1, 1, 64, 64), 4))
    assert coarse == 0
    checkers = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2.0 - 1
    found = [float(band.square().mean()) for band in bands(checkers[None, None], 4)]
    assert found == pytest.approx([1, 0, 0, 0, 0], abs=1e-6)
    assert max(coarser) > fine  # waves of 8 pixels are none of the finest detail


def test_moments_are_those_of_numpy_with_and_without_weights():
    x = textured(2, 3, 12, 16)
    mean, spread, peaks = moments(x).chunk(3, dim=1)
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(mean, x.mean(dim=(2, 3)))
    torch.testing.assert_close(spread, centred.pow(2).mean(dim=(2, 3)).sqrt())
    torch.testing.assert_close(peaks, centred.pow(4).mean(dim=(2, 3)).pow(0.25))
    weight = torch.rand(12, 16)
    weight /= weight.sum()
    mean, spread, _ = moments(x, weight).chunk(3, dim=1)
    flat, w = x[1, 2].ravel().numpy().astype(float), weight.ravel().numpy().astype(float)
    assert float(mean[1, 2]) == pytest.approx(np.average(flat, weights=w), rel=1e-4)
    assert float(spread[1, 2]) == pytest.approx(
        math.sqrt(np.average((flat - np.average(flat, weights=w)) ** 2, weights=w)), rel=1e-4
    )


def test_the_middle_weighs_what_lies_there():
    weight = middle(torch.zeros(1, 1, 64, 64))
    assert float(weight.sum()) == pytest.approx(1)
    torch.testing.assert_close(weight, weight.flip(0))
    edges = (torch.arange(64) + 0.5) / 64 - 0.5
    spread = (weight.sum(0) * edges.square()).sum().sqrt()
    assert float(spread) == pytest.approx(CENTRE, rel=0.02)
    spot = torch.zeros(1, 1, 64, 64)
    spot[..., 30:34, 30:34] = 1
    assert float(moments(spot, weight)[0, 0]) > 5 * float(moments(spot)[0, 0])


def test_correlations_are_those_of_numpy_and_of_nothing_where_nothing_varies():
    x = textured(2, 4, 16, 16)
    expected = np.corrcoef(x[1].flatten(1).numpy())[np.triu_indices(4, 1)]
    np.testing.assert_allclose(correlations(x)[1], expected, atol=1e-3)
    x[:, 0] = 7.0
    assert correlations(x)[:, :3].abs().max() < 1e-3
    assert correlations(x[:, :1]).shape == (2, 0)


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 4, 1.2, math.pi / 2, 2.5])
def test_stripes_are_coherent_whatever_their_direction(angle: float):
    assert coherence(stripes(angle)).min() > 0.97


def test_what_runs_both_ways_or_no_way_is_not_coherent():
    crossed = stripes(0.3) + stripes(0.3 + math.pi / 2)
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert float(coherence(crossed)[0, 0]) < 0.05
    assert float(coherence(noise)[0, 0]) < 0.1
    assert coherence(torch.ones(1, 1, 8, 8)).max() < 0.05


def test_bent_stripes_are_coherent_in_windows_only_and_dots_in_neither():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    rings = torch.sin(torch.hypot(y - 31.5, x - 31.5))[None, None]
    whole, windows = coherence(rings)[0]
    assert float(whole) < 0.05
    assert float(windows) > 0.8
    dots = torch.sin(x) * torch.sin(y)
    assert coherence(dots[None, None]).max() < 0.2


def test_coherence_is_that_of_the_structure_tensors_eigenvalues():
    x = torch.randn(2, 3, 17, 17).cumsum(2)
    whole, windows = coherence(x).chunk(2, dim=1)
    down, up = x[..., 1:, 1:] - x[..., :-1, :-1], x[..., :-1, 1:] - x[..., 1:, :-1]

    def spread(window: slice, other: slice) -> Tensor:
        """λ₂ − λ₁ and λ₂ + λ₁ of a part, from its gradients (N, C, 2, pixels)."""
        gradient = torch.stack([g[..., window, other] for g in (down, up)], dim=2).flatten(3)
        low, high = torch.linalg.eigvalsh(gradient @ gradient.mT).unbind(-1)
        return torch.stack([high - low, high + low])

    apart, total = spread(slice(None), slice(None))
    torch.testing.assert_close(whole, apart / total, rtol=5e-3, atol=1e-3)
    starts = (0, 4, 8)  # windows of 7 of the 16 × 16 gradients: 8 pixels, half of each shared
    parts = [spread(slice(i, i + 7), slice(j, j + 7)) for i in starts for j in starts]
    apart, total = torch.stack(parts).sum(dim=0)
    torch.testing.assert_close(windows, apart / total, rtol=5e-3, atol=1e-3)


def test_statistics_start_standardised_over_the_tiles_given_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
):
    encoder = Encoder(3, 32, 3, 4)
    x = textured(64, 3, 32, 32) + torch.arange(64)[:, None, None, None] / 10
    encoder.standardize(x)
    found = (tile_statistics(x, 3) - encoder.centre) / encoder.spread
    torch.testing.assert_close(found.mean(0), torch.zeros(found.shape[1]), atol=1e-3, rtol=0)
    moving = encoder.spread > 1e-3
    assert moving.sum() > 50
    torch.testing.assert_close(
        found.std(0, unbiased=False)[moving], torch.ones(int(moving.sum())), atol=1e-3, rtol=0
    )
    seen: list[Tensor] = []
    monkeypatch.setattr(encoder.head, "forward", lambda h: (seen.append(h), h[:, :8])[1])
    encoder(torch.cat([x, torch.full((1, 3, 32, 32), 1e6)]))
    near = found.abs() < 0.5  # the bound leaves alone what is not far out
    torch.testing.assert_close(seen[0][:64][near], found[near], atol=1e-3, rtol=0)
    assert seen[0].abs().max() <= 8
