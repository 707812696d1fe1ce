"""From light on the camera to grey levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vae_sci.simulate.recipe import Camera


def expose(
    rng: np.random.Generator, electrons: NDArray[np.floating], camera: Camera, gain: float = 1.0
) -> NDArray[np.uint16]:
    """One exposure: expected electrons (...) to grey levels (...), uint16.

    grey = round(offset + g · (Poisson(electrons) + Normal(0, read noise))), cut to 0 …
    2**bits - 1, with g = camera.gain · gain. Hence variance = g · (mean - offset) + (g · read
    noise)² + 1/12: the photon transfer curve (Janesick, Photon Transfer, SPIE 2007, ch. 5).
    """
    caught = rng.poisson(electrons) + camera.read_noise * rng.standard_normal(electrons.shape)
    grey = np.rint(camera.offset + camera.gain * gain * caught)
    return np.clip(grey, 0, 2**camera.bits - 1).astype(np.uint16)
