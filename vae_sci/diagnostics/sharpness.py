"""Is a reconstruction sharp, or only busy? Fourier rings of two stacks of images.

Correlation asks whether the detail of one stack is that of the other; the power ratio, whether
there is as much of it. Power without correlation is artefact, not sharpness; correlation without
power is blur.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_sci.errors import InputError

Array = NDArray[np.float64]

BAND = (0.1, 0.2)  # cycles per pixel
CLEAN = 0.5  # threshold on the correlation with a clean reference
HALVES = 1 / 7  # between two equally noisy images of the same object (Rosenthal & Henderson 2003)
BLOCK = 256  # images transformed at once


@dataclass(frozen=True)
class Rings:
    """Two stacks compared ring by ring; ring 1 is one cycle per tile, the last is Nyquist.

    Parameters
    ----------
    frequency : (R,), cycles per pixel.
    correlation : (…, R), Fourier ring correlation, −1 to 1; 0 where a stack has no power.
    power_ratio : (…, R), power of the images over that of the reference (NaN or infinite where
        the reference has none).
    """

    frequency: Array
    correlation: Array
    power_ratio: Array


def fourier_rings(images: NDArray[np.number], reference: NDArray[np.number]) -> Rings:
    """Compare two stacks (N, …, H, W) of the same shape, in any units; see `Rings`.

    FRC(ring) = Re Σ F₁F₂* / √(Σ|F₁|² Σ|F₂|²), the sums over the ring and over all N images
    (Nieuwenhuizen et al. 2013, Nature Methods 10, 557, equation 1). Axes between the first and
    the last two, such as channels, are kept apart. Before the transform each image loses its mean
    and is weighted by a Hann window, since the jump between opposite edges would put the same
    cross into both spectra.

    Raises `InputError` where the stacks differ in shape or hold no image of at least 4 × 4 pixels.
    """
    stacks = images.ndim >= 3 and len(images) > 0 and min(images.shape[-2:]) >= 4
    if images.shape != reference.shape or not stacks:
        raise InputError(
            required="two stacks of the same shape (N, …, H, W), of at least one image of 4 × 4",
            found=f"shapes {images.shape} and {reference.shape}",
            action="give the reconstructions and the reference of the same tiles",
        )
    height, width = images.shape[-2:]
    middle = images.shape[1:-2]
    cross, power, reference_power = np.zeros((3, *middle, height, width))
    for start in range(0, len(images), BLOCK):
        a = _transform(images[start : start + BLOCK])
        b = _transform(reference[start : start + BLOCK])
        cross += (a * b.conj()).real.sum(axis=0)
        power += (np.abs(a) ** 2).sum(axis=0)
        reference_power += (np.abs(b) ** 2).sum(axis=0)
    n_rings = min(height, width) // 2
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    ring = np.round(np.hypot(fy, fx) * 2 * n_rings).astype(int)
    both, own, other = (
        np.stack([values[..., ring == r].sum(axis=-1) for r in range(1, n_rings + 1)], axis=-1)
        for values in (cross, power, reference_power)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.nan_to_num(both / np.sqrt(own * other), posinf=0, neginf=0)
        ratio = own / other
    return Rings(np.arange(1, n_rings + 1) / (2 * n_rings), correlation, ratio)


def band_mean(values: Array, frequency: Array, band: tuple[float, float] = BAND) -> Array:
    """Mean of `values` (…, R) over the rings within `band`, cycles per pixel, ends included."""
    low, high = band
    inside = (frequency >= low - 1e-9) & (frequency <= high + 1e-9)
    return values[..., inside].mean(axis=-1)


def resolution(correlation: Array, frequency: Array, threshold: float) -> float:
    """Pixels per cycle at which a curve (R,) first falls below `threshold`, between rings linearly.

    2, the Nyquist limit, where it never does; infinite where it is below from the first ring on.
    """
    below = np.flatnonzero(correlation < threshold)
    if not len(below):
        return float(1 / frequency[-1])
    last = below[0]
    if last == 0:
        return float("inf")
    high, low = correlation[last - 1], correlation[last]
    step = (high - threshold) / (high - low)
    crossing = frequency[last - 1] + step * (frequency[last] - frequency[last - 1])
    return float(1 / crossing)


def checkerboard(images: NDArray[np.number]) -> Array:
    """Power of patterns that repeat every 2 pixels, relative to neighbouring frequencies: (…).

    images : (N, …, H, W), H and W even and at least 16. Transposed convolutions and pixel shuffles
    leave such patterns (Odena et al. 2016, Distill). The spectrum of a real image is smooth around
    the three frequencies of period 2, (0, ½), (½, 0) and (½, ½) cycles per pixel: there the power
    summed over all images is divided by the median of the bins 2 to 4 away (1 bin away, the window
    still shows the peak). The largest of the three ratios: about 1 or below without a
    checkerboard; above about 3 look at `period_two_power`: a smooth image has next to no power
    there, and many times that may still be nothing.
    """
    power = _summed_power(images)
    height, width = images.shape[-2:]
    away = np.array([-4, -3, -2, 2, 3, 4])
    square_y, square_x = np.meshgrid(away, away)
    # On an axis, beside it along the axis: the edges of images put a cross into spectra.
    beside = ((0, away), (away, 0), (square_y, square_x))
    ratios = []
    for (y, x), (dy, dx) in zip(_period_two(height, width), beside, strict=True):
        around = power[..., (y + dy) % height, (x + dx) % width]
        around = around.reshape(*power.shape[:-2], -1)
        ratios.append(power[..., y, x] / np.median(around, axis=-1))
    return np.max(ratios, axis=0)


def period_two_power(images: NDArray[np.number], reference: NDArray[np.number]) -> Array:
    """Power of patterns that repeat every 2 pixels over that of the reference there: (…).

    Both (N, …, H, W), as in `checkerboard`. The largest of the ratios at the three frequencies of
    period 2; NaN or infinite where the reference has no power. A camera's image has mostly noise
    there, and 1 is little: over 64 × 64 pixels, what ±s all over does under noise of sd 43 s.
    """
    own, other = _summed_power(images), _summed_power(reference)
    places = _period_two(*images.shape[-2:])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.max([own[..., y, x] / other[..., y, x] for y, x in places], axis=0)


def _period_two(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Bins of a spectrum (height, width), both even, that are patterns of period 2."""
    return (0, width // 2), (height // 2, 0), (height // 2, width // 2)


def _summed_power(images: NDArray[np.number]) -> Array:
    """Power spectra of images (N, …, H, W), summed over N: (…, H, W)."""
    power = np.zeros(images.shape[1:])
    for start in range(0, len(images), BLOCK):
        power += (np.abs(_transform(images[start : start + BLOCK])) ** 2).sum(axis=0)
    return power


def _transform(images: NDArray[np.number]) -> NDArray[np.complex128]:
    """Spectra (N, …, H, W) of images without their mean, under a Hann window."""
    height, width = images.shape[-2:]
    # The window's zeros lie half a pixel outside the image, so that every pixel counts.
    wy, wx = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width))
    window = wy[:, None] * wx
    # The mean under the window: then the lowest frequency is empty, and leaks into no other.
    mean = (images * window).sum(axis=(-2, -1), keepdims=True) / window.sum()
    return np.fft.fft2((images - mean) * window)
