"""Figures of image quality, for fields and for tiles alike."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

# 2ⁿ−1, and for cameras of 10, 12 or 14 bits also in the upper bits of 16, as in BBBC021 (65520)
_CEILINGS = {2**n - 1 for n in range(8, 17)} | {(2**n - 1) << (16 - n) for n in (10, 12, 14)}
_BLOCK = 2**18  # numbers that are measured together: a few such arrays fit a core's cache
_STRIP = 128  # rows of a field that are looked at together
_SAMPLE = (slice(None, None, 7),) * 2  # of pixels; an odd step: columns of cameras differ by turns
# What is this many times as far above the background as the median of the cells, in every channel,
# is no cell; nor is what lies so near to it, in pixels.
_GLARE, _AROUND = 5, 16
ENOUGH = 10  # fields or cells of a plate, to tell what is unusual on it


def camera_ceiling(highest: int) -> int | None:
    """The camera's ceiling if `highest`, the highest grey level seen, is one, else None."""
    return int(highest) if int(highest) in _CEILINGS else None


def focus(
    images: NDArray[np.integer | np.floating], where: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Sharpness (N,) of images (N, H, W): var(Laplacian) / var, smoothed by 1 pixel; flat: 0.

    Smoothed by the binomial 1, 4, 6, 4, 1 along both axes, whose variance is one square pixel, and
    left unscaled, since that cancels. What lies within 3 pixels of the border has no say.
    where : pixels (N, H, W) that count; all if left out.
    """
    edges, power = _edges_and_power(images, where)
    return np.divide(edges, power, out=np.zeros_like(power), where=power > 0)


def _edges_and_power(
    images: NDArray[np.integer | np.floating], where: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Variances (2, N) of the smoothed images (N, H, W): of their Laplacian, and their own."""
    found = np.empty((2, len(images)))
    for block in _blocks(images):
        smooth = images[block].astype(np.float32)
        smooth -= smooth[:, :1, :1].copy()  # what is flat stays exactly so
        for _ in range(4):
            smooth = smooth[:, 1:] + smooth[:, :-1]
        for _ in range(4):
            smooth = smooth[..., 1:] + smooth[..., :-1]
        # Every second row: so smooth, those between tell nothing else.
        edges = smooth[:, 1:-1:2, 1:-1] * -4
        for beside in (smooth[:, :-2:2, 1:-1], smooth[:, 2::2, 1:-1],
                       smooth[:, 1:-1:2, :-2], smooth[:, 1:-1:2, 2:]):  # fmt: skip
            edges += beside
        part = None if where is None else where[block]
        found[:, block] = (
            _variances(edges, None if part is None else part[:, 3:-3:2, 3:-3]),
            _variances(smooth, None if part is None else part[:, 2:-2, 2:-2]),
        )
    return found


def _blocks(images: NDArray[np.integer | np.floating]) -> list[slice]:
    """Consecutive images (N, …), as many as are measured together."""
    size = max(1, _BLOCK * len(images) // max(images.size, 1))
    return [slice(start, start + size) for start in range(0, len(images), size)]


def _variances(images: NDArray[np.float32], where: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Variance (N,) of each of images (N, H, W), whose means are not far from 0."""
    flat = images.reshape(len(images), -1)
    if where is not None:
        counts = where.reshape(flat.shape).astype(np.float32)
        n_pixels = np.maximum(counts.sum(axis=1), 1)
        away = flat - (np.einsum("ni,ni->n", flat, counts) / n_pixels)[:, None]
        away *= counts
        return np.einsum("ni,ni->n", away, away).astype(np.float64) / n_pixels
    power = np.einsum("ni,ni->n", flat, flat).astype(np.float64) / max(flat.shape[1], 1)
    return np.maximum(power - flat.mean(axis=1, dtype=np.float64) ** 2, 0)


def measure_field(
    field: NDArray[np.integer], cells: NDArray[np.integer], ceilings: Sequence[int | None]
) -> dict[str, NDArray[np.float64]]:
    """background (10th percentile), saturated and focus (C,) of the channels of a field (C, H, W).

    Sharpness is that of the square root of what rises above the background. Debris, which is smooth
    and bright in all channels, would else speak for the whole field: it is left out, and what is as
    bright in one channel is cut off. Smoothed by 2 pixels: by 1, the noise of dim fields passes for
    sharpness. Hence pixels are added up two by two first. Strips of rows stand for all of it, every
    second one or, of 1,000 rows and more, every third; what differs between them has no say.
    cells : labels (H, W), 0 outside. ceilings : of the channels' cameras, as by `camera_ceiling`.
    """
    height, width = (length // 2 * 2 for length in field.shape[1:])
    high = min(height, _STRIP)
    starts = range(0, height - high + 1, (2 if height < 1000 else 3) * _STRIP)
    inside = cells[_SAMPLE] > 0
    measures = np.zeros((3, len(field)))
    roots: list[NDArray[np.float32]] = []
    glare = np.array(len(field) > 1)
    for channel, (plane, ceiling) in enumerate(zip(field, ceilings, strict=True)):
        some, own = plane[_SAMPLE].ravel(), plane[_SAMPLE][inside]
        places = [len(some) // 10, len(some) // 2]
        background, level = np.partition(some, places)[places].astype(np.float64)
        if len(own):
            # Where cells are as dark as the field, noise shall not be cut off.
            level = max(level, np.partition(own, len(own) // 2)[len(own) // 2])
        saturated = 0.0 if ceiling is None else np.count_nonzero(plane == ceiling) / plane.size
        measures[:2, channel] = background, saturated
        strips = np.stack([plane[start : start + high, :width] for start in starts])
        rows = strips[:, 0::2].astype(np.float32)
        rows += strips[:, 1::2]
        light = rows[..., 0::2] + rows[..., 1::2]
        light -= 4 * background
        above = level - background
        highest = 4 * _GLARE * above if len(own) and above > 0 else np.inf
        glare = glare & (light > highest)
        roots.append(np.sqrt(np.clip(light, 0, highest, out=light), out=light))
    counts = None
    if glare.any():
        counts = ~maximum_filter(glare, (1, _AROUND + 1, _AROUND + 1))
    for channel, root in enumerate(roots):
        variances = _edges_and_power(root, counts)
        if counts is not None:
            variances = variances * counts.mean(axis=(1, 2))
        edges, power = variances.sum(axis=1)
        # Per pixel⁴: two pixels are one here.
        measures[2, channel] = edges / power / 16 if power else 0.0
    return dict(zip(("background", "saturated", "focus"), measures, strict=True))


def outliers(
    values: NDArray[np.floating], least: float, typical: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Distance of values (N,) from their median, in robust standard deviations (1.4826 · MAD).

    least : a smaller standard deviation counts as this one, so that what is alike to the last
        digit has no outliers.
    typical : which values (N,) give median and deviation; all if left out.
    NaN for NaN, and for all where fewer than `ENOUGH` of the typical are known.
    """
    known = np.isfinite(values) & (True if typical is None else typical)
    if known.sum() < ENOUGH:
        return np.full(len(values), np.nan)
    away = values - np.median(values[known])
    return away / max(1.4826 * float(np.median(np.abs(away[known]))), least)


def relative(
    values: NDArray[np.floating], typical: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Values (N,) over their median; NaN where fewer than `ENOUGH`, or where the median is 0.

    typical : as for `outliers`.
    """
    known = values if typical is None else values[typical]
    middle = np.median(known) if len(known) >= ENOUGH else 0.0
    return values / middle if middle > 0 else np.full(len(values), np.nan)


class Moments(NamedTuple):
    """Of tiles (N, C, H, W), each (N, C): mean and standard deviation, and `autocorrelation`.

    That is the horizontal lag-1 Pearson correlation: optics blur an image over several pixels, so
    that neighbours agree; in noise they do not. A constant channel counts as 1.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    autocorrelation: NDArray[np.float64]


def moments(tiles: NDArray[np.integer | np.floating]) -> Moments:
    """`Moments` of tiles (N, C, H, W)."""
    height, width = tiles.shape[2:]
    # Of what rises above the origin, so that what is constant has sums of exactly 0: all pixels,
    # their squares, and the products of neighbours; of the last and the first column likewise.
    origin = tiles[..., 0, 0].astype(np.float64)
    total, squares, products = sums = np.empty((3, *origin.shape))
    for block in _blocks(tiles):
        levels = tiles[block].astype(np.float64)
        levels -= origin[block, :, None, None]
        sums[:, block] = (
            levels.sum(axis=(2, 3)),
            np.einsum("ncyx,ncyx->nc", levels, levels),
            np.einsum("ncyx,ncyx->nc", levels[..., :-1], levels[..., 1:]),
        )
    edges = tiles[..., [-1, 0]].astype(np.float64) - origin[..., None, None]
    last, first = np.moveaxis(edges.sum(axis=2), -1, 0)
    last_squares, first_squares = np.einsum("ncye,ncye->enc", edges, edges)
    mean = total / (height * width)
    variance = np.maximum(squares / (height * width) - mean**2, 0)
    # Left neighbours are all but the last column, right ones all but the first.
    left, right, pairs = total - last, total - first, height * (width - 1)
    shared = products - left * right / pairs
    powers = (squares - last_squares - left**2 / pairs, squares - first_squares - right**2 / pairs)
    both = np.sqrt(np.maximum(powers[0] * powers[1], 0))
    agree = np.divide(shared, both, out=np.ones_like(both), where=both > 0)
    return Moments(mean + origin, np.sqrt(variance), agree)


def difference(
    tiles: NDArray[np.integer], where: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """1 − the smallest Pearson correlation (N,) between two channels of tiles (N, C, H, W).

    0: every channel shows the same, as of a piece of dust that shines in all colours. A constant
    channel is like no other; NaN where there is one channel.
    where : pixels (N, H, W) that count; all if left out.
    """
    count, channels = tiles.shape[:2]
    if channels < 2:
        return np.full(count, np.nan)
    pairs = list(itertools.combinations(range(channels), 2))
    found = np.empty((len(pairs), count))
    for part in _blocks(tiles):
        levels = tiles[part].astype(np.float64)
        n_pixels = np.full(len(levels), levels[0, 0].size)
        if where is not None:
            levels *= where[part, None]
            n_pixels = np.maximum(where[part].sum(axis=(1, 2)), 1)
        total = levels.sum(axis=(2, 3)).T
        squares = np.einsum("ncyx,ncyx->cn", levels, levels)
        # Sums of whole numbers are exact: what is left of a constant channel is rounding alone.
        power = squares - total**2 / n_pixels
        power[power < 1e-12 * squares] = 0
        for pair, (a, b) in enumerate(pairs):
            shared = np.einsum("nyx,nyx->n", levels[:, a], levels[:, b])
            shared -= total[a] * total[b] / n_pixels
            both = np.sqrt(power[a] * power[b])
            found[pair, part] = np.divide(shared, both, out=np.zeros_like(both), where=both > 0)
    return 1 - found.min(axis=0)
