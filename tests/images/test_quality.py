"""Figures of image quality against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vae_sci.images.quality import autocorrelation, camera_ceiling, difference, focus


@pytest.mark.parametrize("highest", [255, 1023, 4095, 65535, 65520, 16383 * 4])
def test_ceilings(highest: int) -> None:
    assert camera_ceiling(highest) == highest


@pytest.mark.parametrize("highest", [0, 127, 254, 256, 4094, 40000, 65534])
def test_no_ceilings(highest: int) -> None:
    assert camera_ceiling(highest) is None


def test_autocorrelation_is_pearson_of_neighbours() -> None:
    rng = np.random.default_rng(0)
    tiles = rng.poisson(50, (3, 2, 20, 30)).astype(np.uint16)
    tiles[:, 0] = (100 + 500 * gaussian_filter(rng.normal(size=(3, 20, 30)), (0, 2, 2))).clip(0)
    found = autocorrelation(tiles)
    for n in range(3):
        by_channel = [
            np.corrcoef(t[:, :-1].ravel(), t[:, 1:].ravel())[0, 1] for t in tiles[n].astype(float)
        ]
        assert found[n] == pytest.approx(min(by_channel))
        assert by_channel[1] < 0.2 < by_channel[0]


def test_autocorrelation_of_a_constant_is_one() -> None:
    assert autocorrelation(np.full((1, 1, 8, 8), 7, np.uint8)) == pytest.approx(1)


def test_focus_falls_with_blur_and_ignores_brightness() -> None:
    rng = np.random.default_rng(1)
    sharp = 1000 + 200 * gaussian_filter(rng.normal(size=(64, 64)), 1) / 0.28
    stack = np.stack([sharp, gaussian_filter(sharp, 2), 3 * sharp, np.full_like(sharp, 9)])
    found = focus(np.rint(stack).astype(np.uint16))
    assert found[0] > 3 * found[1]
    assert found[2] == pytest.approx(found[0], rel=0.01)
    assert found[3] == 0


def test_only_pixels_that_count_speak_for_focus() -> None:
    rng = np.random.default_rng(1)
    image = 1000 + 200 * gaussian_filter(rng.normal(size=(64, 64)), 1) / 0.28
    where = np.zeros((1, 64, 64), bool)
    where[0, 20:40, 20:40] = True
    found = focus(image[None], where=where)
    beside = image.copy()
    beside[:, 50:] += 5000 * np.hanning(64)[:, None]
    assert focus(beside[None], where=where) == pytest.approx(found)
    assert focus(beside[None]) < 0.2 * found


def test_difference_is_one_less_the_smallest_correlation_of_two_channels() -> None:
    rng = np.random.default_rng(0)
    tiles = rng.poisson(50, (4, 3, 20, 30)).astype(np.uint16)
    tiles[1, 1:] = tiles[1, :1] * np.array([2, 5])[:, None, None] + 7
    tiles[2, 2] = 9
    where = rng.random((4, 20, 30)) < 0.3
    found = difference(tiles, where)
    for n in (0, 3):
        levels = tiles[n][:, where[n]]
        assert found[n] == pytest.approx(1 - np.corrcoef(levels).min())
        assert difference(tiles)[n] == pytest.approx(1 - np.corrcoef(tiles[n].reshape(3, -1)).min())
    assert found[1] == pytest.approx(0, abs=1e-9)
    assert found[2] >= 1
    assert np.isnan(difference(tiles[:, :1])).all()
    assert difference(tiles[:0]).shape == (0,)
