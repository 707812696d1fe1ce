"""Figures of image quality against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, laplace
from scipy.signal import convolve2d

from vae_sci.images.quality import camera_ceiling, difference, focus, measure_field, moments


@pytest.mark.parametrize("highest", [255, 1023, 4095, 65535, 65520, 16383 * 4])
def test_ceilings(highest: int) -> None:
    assert camera_ceiling(highest) == highest


@pytest.mark.parametrize("highest", [0, 127, 254, 256, 4094, 40000, 65534])
def test_no_ceilings(highest: int) -> None:
    assert camera_ceiling(highest) is None


@pytest.mark.parametrize("offset", [0, 65_000])
def test_moments_are_those_of_each_channel(offset: int) -> None:
    rng = np.random.default_rng(0)
    tiles = offset + rng.poisson(50, (19, 2, 20, 30)).astype(np.uint16)
    tiles[:, 0] += (
        (100 * gaussian_filter(rng.normal(size=(19, 20, 30)), (0, 2, 2))).clip(0).astype(np.uint16)
    )
    found = moments(tiles)
    plain = tiles.astype(np.float64)
    np.testing.assert_allclose(found.mean, plain.mean(axis=(2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.spread, plain.std(axis=(2, 3)), rtol=1e-9)
    for n, c in np.ndindex(19, 2):
        left, right = plain[n, c, :, :-1].ravel(), plain[n, c, :, 1:].ravel()
        assert found.autocorrelation[n, c] == pytest.approx(np.corrcoef(left, right)[0, 1])
    assert (found.autocorrelation[:, 1] < 0.2).all()


def test_what_is_constant_agrees_with_itself() -> None:
    found = moments(np.full((1, 1, 9, 7), 65_535, np.uint16))
    assert (found.mean, found.spread, found.autocorrelation) == (65_535, 0, 1)


def test_focus_falls_with_blur_and_ignores_brightness() -> None:
    rng = np.random.default_rng(1)
    sharp = 1000 + 200 * gaussian_filter(rng.normal(size=(64, 64)), 1) / 0.28
    stack = np.stack([sharp, gaussian_filter(sharp, 2), 3 * sharp, np.full_like(sharp, 9)])
    found = focus(np.rint(stack).astype(np.uint16))
    assert found[0] > 3 * found[1]
    assert found[2] == pytest.approx(found[0], rel=0.01)
    assert found[3] == 0


def test_focus_is_that_of_the_laplacian_of_the_smoothed_image() -> None:
    image = np.random.default_rng(2).poisson(300, (3, 40, 50))
    kernel = np.outer(binomial := np.array([1, 4, 6, 4, 1]) / 16, binomial)
    for one, found in zip(image, focus(image), strict=True):
        smooth = convolve2d(one, kernel, mode="valid")
        edges = convolve2d(smooth, [[0, 1, 0], [1, -4, 1], [0, 1, 0]], mode="valid")[::2]
        assert found == pytest.approx(edges.var() / smooth.var(), rel=1e-4)


def test_a_field_is_measured_at_half_its_resolution() -> None:
    """Blobs as wide as optics leave them: as sharp as the definition at full resolution says."""
    rng = np.random.default_rng(3)
    cells = gaussian_filter((rng.random((401, 403)) < 0.002) * 2e5, 3)
    plane = (100 + cells).round().clip(0, 4095).astype(np.uint16)
    assert (plane == 4095).any()
    found = measure_field(plane[None], np.zeros(plane.shape, int), [4095])
    assert found["background"] == np.percentile(plane, 10)
    assert found["saturated"] == pytest.approx((plane == 4095).mean())
    above = np.sqrt(np.maximum(plane - found["background"], 0))
    smooth = gaussian_filter(above, 2)
    assert found["focus"] == pytest.approx(laplace(smooth).var() / smooth.var(), rel=0.2)


def test_debris_has_no_say_in_the_focus_of_a_field() -> None:
    """Bright in every channel it is left out; what is bright in one, as a nucleus, is cut off."""
    rng = np.random.default_rng(4)
    cells = gaussian_filter(rng.random((3, 400, 400)) * (rng.random((400, 400)) < 0.01), (0, 3, 3))
    field = 100 + 300 * cells / np.median(cells[:, cells.mean(axis=0) > cells.mean()])
    labels = (cells.mean(axis=0) > cells.mean()).astype(int)
    debris = np.zeros((400, 400))
    debris[rng.integers(40, 360, 8), rng.integers(40, 360, 8)] = 1
    debris = gaussian_filter(debris, 7)
    debris *= 3000 / debris.max()

    def measured(light: np.ndarray) -> np.ndarray:
        return measure_field(rng.poisson(light).astype(np.uint16), labels, [None] * 3)["focus"]

    alone = measured(field)
    np.testing.assert_allclose(measured(field + debris), alone, rtol=0.3)
    one = measured(np.stack([field[0] + debris, *field[1:]]))
    assert 0.3 * alone[0] < one[0] < 0.9 * alone[0]
    np.testing.assert_allclose(one[1:], alone[1:], rtol=0.05)


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
