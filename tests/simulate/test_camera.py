"""The camera obeys the photon transfer curve and saturates at its ceiling."""

from __future__ import annotations

import numpy as np
import pytest

from vae_sci.simulate.camera import expose
from vae_sci.simulate.recipe import Camera

CAMERA = Camera(gain=0.8, offset=100, read_noise=3, bits=16, dark_frames=0)


def test_variance_against_mean_has_the_gain_as_slope_and_read_noise_as_intercept() -> None:
    rng = np.random.default_rng(0)
    levels = np.array([0.0, 50, 200, 500, 1000, 2000])
    means, variances = [], []
    for level in levels:
        frames = expose(rng, np.full((40, 80, 80), level), CAMERA, gain=1.5)
        means.append(frames.mean() - CAMERA.offset)
        variances.append(frames.var(axis=0, ddof=1).mean())
    slope = np.polyfit(means, variances, 1)[0]
    assert slope == pytest.approx(0.8 * 1.5, rel=0.02)
    np.testing.assert_allclose(means[1:], 1.2 * levels[1:], rtol=0.005)
    assert variances[0] == pytest.approx((1.2 * 3) ** 2 + 1 / 12, rel=0.02)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_light_beyond_the_ceiling_is_clipped_to_it(bits: int) -> None:
    camera = CAMERA.model_copy(update={"bits": bits})
    grey = expose(np.random.default_rng(1), np.full((50, 50), 1e6), camera)
    assert grey.dtype == np.uint16
    assert (grey == 2**bits - 1).all()


def test_noise_below_zero_is_clipped_to_zero() -> None:
    camera = CAMERA.model_copy(update={"offset": 0.0})
    grey = expose(np.random.default_rng(1), np.zeros((100, 100)), camera)
    assert grey.min() == 0
    assert (grey == 0).mean() > 0.5
