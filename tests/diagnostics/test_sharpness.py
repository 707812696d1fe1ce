"""Fourier rings from what is known of them: copies, noise, blur; and planted checkerboards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vae_sci.diagnostics.sharpness import (
    band_mean,
    checkerboard,
    fourier_rings,
    period_two_power,
    resolution,
)
from vae_sci.errors import InputError

SIZE = 32


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    """Periodic Gaussian blur: the spectrum times exp(−2π²σ²f²)."""
    fy, fx = (np.fft.fftfreq(n) for n in images.shape[-2:])
    transfer = np.exp(-2 * np.pi**2 * sigma**2 * (fy[:, None] ** 2 + fx**2))
    return np.fft.ifft2(np.fft.fft2(images) * transfer).real


def test_a_copy_correlates_fully_whatever_its_scale_and_offset():
    images = noise(0, 5, 2, SIZE, SIZE)
    rings = fourier_rings(3 * images + 100, images)
    assert rings.frequency[0] == 1 / SIZE
    assert rings.frequency[-1] == 0.5
    np.testing.assert_allclose(rings.correlation, np.ones((2, SIZE // 2)), atol=1e-12)
    np.testing.assert_allclose(rings.power_ratio, 9, rtol=1e-12)
    np.testing.assert_allclose(fourier_rings(-images, images).correlation, -1, atol=1e-12)


def test_independent_noise_does_not_correlate():
    rings = fourier_rings(noise(1, 200, SIZE, SIZE), noise(2, 200, SIZE, SIZE))
    # The innermost ring has 8 frequencies, of which neighbours depend on each other: some 400
    # independent products.
    assert np.abs(rings.correlation).max() < 4 / np.sqrt(400)
    np.testing.assert_allclose(rings.power_ratio, 1, atol=0.2)


@pytest.mark.parametrize("snr", [0.2, 1.0, 5.0])
def test_noise_of_known_strength_gives_the_correlation_of_the_formula(snr: float):
    signal = np.sqrt(snr) * noise(3, 300, SIZE, SIZE)
    first, second = (signal + noise(seed, 300, SIZE, SIZE) for seed in (4, 5))
    # Two halves: SNR / (1 + SNR). Against the clean signal: its root.
    halves = fourier_rings(first, second).correlation
    np.testing.assert_allclose(halves[2:], snr / (1 + snr), atol=0.06)
    clean = fourier_rings(first, signal)
    np.testing.assert_allclose(clean.correlation[2:], np.sqrt(snr / (1 + snr)), atol=0.06)
    np.testing.assert_allclose(clean.power_ratio[2:], 1 + 1 / snr, rtol=0.12)


def test_blur_loses_power_and_not_correlation():
    # Cut from larger images, so that what is periodic in the blur is not so in the tiles.
    sharp = noise(6, 100, 3 * SIZE, 3 * SIZE)
    inner = (slice(None), slice(SIZE, 2 * SIZE), slice(SIZE, 2 * SIZE))
    rings = fourier_rings(blurred(sharp, 1.0)[inner], sharp[inner])
    band = (rings.frequency >= 0.1) & (rings.frequency <= 0.2)
    assert rings.correlation[band].min() > 0.95
    expected = np.exp(-4 * np.pi**2 * rings.frequency[band] ** 2)
    np.testing.assert_allclose(rings.power_ratio[band], expected, rtol=0.15)
    assert expected.min() < 0.25


def test_noise_that_replaces_detail_has_power_and_no_correlation():
    sharp = noise(7, 100, SIZE, SIZE)
    coarse = blurred(sharp, 3.0)
    invented = noise(8, 100, SIZE, SIZE)
    rings = fourier_rings(coarse + invented - blurred(invented, 3.0), sharp)
    assert abs(band_mean(rings.correlation, rings.frequency, (0.3, 0.5))) < 0.03
    assert band_mean(rings.power_ratio, rings.frequency, (0.3, 0.5)) == pytest.approx(1, abs=0.1)
    assert rings.correlation[0] > 0.8


def test_the_window_keeps_edges_from_correlating():
    """A slope that both stacks share jumps at the edges, at all frequencies along one axis."""
    slope = np.linspace(-40, 40, SIZE)
    first, second = (slope + noise(seed, 100, SIZE, SIZE) for seed in (9, 10))
    bare = np.fft.fft2(first), np.fft.fft2(second)
    cross = (bare[0] * bare[1].conj()).real.sum(axis=0)[0]
    assert cross[SIZE // 2 - 1] / (np.abs(bare[0]) ** 2).sum(axis=0)[0, SIZE // 2 - 1] > 0.5
    rings = fourier_rings(first, second)
    assert np.abs(rings.correlation[-4:]).max() < 0.05


def test_tiles_need_not_be_square_and_channels_stay_apart():
    a, b = noise(11, 60, 2, 24, 40), noise(12, 60, 2, 24, 40)
    rings = fourier_rings(a, np.stack([a[:, 0], b[:, 1]], axis=1))
    assert rings.correlation.shape == (2, 12)
    np.testing.assert_allclose(rings.correlation[0], 1, atol=1e-12)
    assert np.abs(rings.correlation[1]).max() < 0.25


def test_stacks_of_different_shape_are_refused():
    with pytest.raises(InputError, match=r"\(3, 8, 8\) and \(1, 8, 8\)"):
        fourier_rings(np.zeros((3, 8, 8)), np.zeros((1, 8, 8)))


def test_band_takes_both_of_its_ends():
    frequency = np.arange(1, 11) / 20
    assert band_mean(np.arange(1.0, 11.0), frequency) == 3.0  # rings 2, 3, 4 of 0.05 each
    assert band_mean(np.stack([frequency, frequency]), frequency, (0.45, 0.5)).shape == (2,)


def test_resolution_by_hand():
    frequency = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    # From 0.8 to 0.4 between 0.2 and 0.3: 0.5 is crossed at 0.275; the later rise does not count.
    curve = np.array([1.0, 0.8, 0.4, 0.9, 0.1])
    assert resolution(curve, frequency, 0.5) == pytest.approx(1 / 0.275)
    assert resolution(np.ones(5), frequency, 0.5) == 2
    assert resolution(np.zeros(5), frequency, 0.5) == np.inf


@pytest.mark.parametrize("pattern", ["rows", "columns", "checks"])
def test_a_planted_checkerboard_is_found(pattern: str):
    images = blurred(noise(13, 40, 2, SIZE, SIZE), 1.0)
    assert checkerboard(images).max() < 1.5
    y, x = np.mgrid[:SIZE, :SIZE]
    where = {"rows": y, "columns": x, "checks": x + y}[pattern]
    # A twentieth of the image's standard deviation, in the second channel alone.
    images[:, 1] += 0.05 * images.std() * (-1.0) ** where
    found = checkerboard(images)
    assert found[0] < 1.5
    assert found[1] > 5


@pytest.mark.parametrize("contrast", [0.1, 1.0])
def test_period_two_power_is_that_of_a_planted_checkerboard(contrast: float):
    """Under white noise of sd s, the bin of a pattern ±c s has c² · (Σ w)² / Σ w² its power."""
    reference = noise(19, 400, 1, SIZE, SIZE)
    window = np.sin(np.pi * (np.arange(SIZE) + 0.5) / SIZE) ** 2
    window = window[:, None] * window
    gain = window.sum() ** 2 / (window**2).sum()
    pattern = contrast * (-1.0) ** np.add(*np.mgrid[:SIZE, :SIZE])
    images = np.broadcast_to(pattern, reference.shape)
    assert period_two_power(images, reference) == pytest.approx(contrast**2 * gain, rel=0.2)
    assert period_two_power(0.1 * reference, reference) == pytest.approx(0.01)


def test_what_upsampling_leaves():
    """Transposed convolution with uneven overlap leaves a checkerboard, interpolation does not."""
    coarse = torch.from_numpy(blurred(noise(14, 40, 1, SIZE, SIZE), 1.0) + 1)
    kernel = torch.ones(1, 1, 3, 3, dtype=torch.float64) / 4
    uneven = F.conv_transpose2d(coarse, kernel, stride=2)
    even = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    assert checkerboard(uneven[..., :64, :64].numpy()) > 10
    assert checkerboard(even.numpy()) < 1.5


def test_the_cross_that_edges_leave_is_no_checkerboard():
    slopes = np.linspace(-1, 1, SIZE) ** 3
    tilted = noise(16, 200, 1, 1) * slopes + noise(17, 200, 1, 1) * slopes[:, None]
    grain = 1e-3 * noise(18, 200, SIZE, SIZE)
    spectrum = (np.abs(np.fft.fft2(tilted + grain)) ** 2).sum(axis=0)
    assert spectrum[0, SIZE // 2] > 1000 * spectrum[3, SIZE // 2]
    assert checkerboard(tilted + grain) < 1.5


def test_white_noise_has_no_checkerboard():
    assert checkerboard(noise(15, 200, SIZE, SIZE)) == pytest.approx(1, abs=0.3)
