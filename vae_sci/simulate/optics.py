"""From light in the sample to light on the camera: blur and vignetting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from vae_sci.simulate.recipe import Optics

STRUCTURE_SIGMA = 0.35  # µm; the width of organelles themselves, which are drawn as lines


def blur(
    image: NDArray[np.float64], optics: Optics, channel: int, pixel_size: float, in_focus: bool
) -> NDArray[np.float32]:
    """Blur an image (H, W) with a Gaussian PSF and its wide tail; the sum is kept off borders.

    The core has σ = 0.21 λ / NA (Zhang, Zerubia and Olivo-Marin, Appl. Opt. 46, 1819, 2007:
    widefield, paraxial), widened by the structures' own width. pixel_size in µm.
    """
    sigma = 0.21 * optics.wavelengths[channel] / 1000 / optics.numerical_aperture
    extra = 0.0 if in_focus else optics.defocus_sigma
    core = float(np.sqrt(sigma**2 + STRUCTURE_SIGMA**2 + extra**2)) / pixel_size
    sharp = gaussian_filter(image.astype(np.float32), core, mode="nearest", truncate=3)
    tail = gaussian_filter(sharp, optics.scatter_sigma / pixel_size, mode="nearest", truncate=3)
    return (1 - optics.scatter) * sharp + optics.scatter * tail


def vignette(rng: np.random.Generator, optics: Optics, size: int) -> NDArray[np.float32]:
    """Fraction of light that reaches each pixel, (C, size, size): 1 at most.

    Falls with the square of the distance from a centre near the field's own, by
    `optics.vignetting` at the mean distance of the corners.
    """
    grid = np.linspace(-1, 1, size)
    fields = []
    for loss in optics.vignetting:
        cy, cx = rng.uniform(-0.2, 0.2, 2)
        squared = (grid[:, None] - cy) ** 2 + (grid[None, :] - cx) ** 2
        fields.append(np.clip(1 - loss * squared / 2, 0.05, 1))
    return np.stack(fields).astype(np.float32)
