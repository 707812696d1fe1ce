"""Photon transfer: the line of noise variance against mean that a camera's channel follows.

A camera of gain g (grey levels per electron), offset o and read noise r (grey levels) gives
``Var = g·(m − o) + r² + step²/12 = g·m + c`` at a mean grey level m (Janesick, Photon Transfer,
SPIE 2007, ch. 5). Images alone give g and c; only frames without light tell o and r apart.
With electron multiplication g holds its gain and its excess noise, as the variance does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from vae_sci.errors import InputError
from vae_sci.images.patches import IMAGE, Along, Array, Evidence, Patches

FEWEST = 40  # patches below which no line is fitted
MANY_IMAGES = 20  # from here on the bootstrap draws whole images, else blocks of patches
RESAMPLES = 1000
BINS = 24  # of brightness; points of the curve
CLIPPED, MOSTLY = 0.001, 0.9  # shares of zeros: dark frames are cut there; they are useless
UNEVEN, SMALLER = 1.25, 0.93  # ratios of noise along different axes from which it is not white


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


class Point(NamedTuple):
    """Mean and variance of the patches of like brightness, with the variance's 95 % interval."""

    mean: float
    variance: float
    low: float
    high: float
    patches: int


@dataclass(frozen=True, eq=False)
class Line:
    """What the patches of one channel tell; grey levels as stored, not in steps.

    gain : g, grey levels per electron.
    constant : c = r² + step²/12 − g·o, grey levels².
    draws : (RESAMPLES, 2), gain and constant of the bootstrap.
    along : the differences that the variance is of.
    gains : gain by each kind of difference, through no point.
    patches, found : patches used, and before clipped and outlying ones were left out.
    mean_range : lowest and highest mean of the patches used.
    step : between grey levels. Rounding to it adds step²/12 to the variance.
    ceiling : grey level of saturation, None where nothing saturates.
    saturated, at_zero : share of pixels there. zeros_kept : nearly all patches had zeros.
    check : gain by a second difference over gain, 1 for white, independent noise. Single images:
        of order 6; repeated frames: two apart, None where there are only two. None, too, where
        the gain is not positive.
    spread : share of the variance of the patches' means that is not noise.
    between_images : relative standard deviation, beyond chance, of the variance of images around
        the common line; None for one image.
    misfit : relative deviation of the points from the line, beyond chance, root mean square.
    """

    gain: Interval
    constant: Interval
    draws: Array
    along: Along
    gains: dict[Along, float]
    patches: int
    found: int
    mean_range: tuple[float, float]
    step: int
    ceiling: int | None
    saturated: float
    at_zero: float
    zeros_kept: bool
    check: Interval | None
    spread: float
    between_images: float | None
    misfit: float
    points: tuple[Point, ...]


@dataclass(frozen=True, eq=False)
class Dark:
    """What frames without light tell.

    offset : grey levels. variance : grey levels², that of rounding included.
    draws : (RESAMPLES, 2), offset and variance of the bootstrap. at_zero : share of pixels.
    """

    offset: Interval
    variance: Interval
    draws: Array
    at_zero: float


def photon_transfer(
    tiles: NDArray[np.integer], repeated: bool = False, seed: int = 0
) -> list[Line]:
    """The line of each channel of tiles (N, C, H, W), raw grey levels of an integer type.

    repeated : the tiles are N frames of one scene. A few thousand tiles are plenty.
    Raises `InputError` where a channel has too few patches that are not clipped.
    """
    if tiles.ndim != 4 or tiles.dtype.kind not in "iu" or tiles.size == 0:
        raise InputError(
            required="tiles of raw counts, integers, shape (N, C, H, W), not empty",
            found=f"{tiles.dtype}, shape {tiles.shape}",
            action="give the counts as the camera wrote them",
        )
    lines = []
    for channel in range(tiles.shape[1]):
        evidence = Evidence(repeated)
        evidence.add(tiles[:, channel])
        lines.append(fit_line(evidence, f"channel {channel}", seed=seed))
    return lines


def fit_line(evidence: Evidence, name: str, dark: Dark | None = None, seed: int = 0) -> Line:
    """The line through the patches of a channel; through the point of the dark frames if given.

    name : of the channel, for errors. Weighted least squares, weights 1/Var² of the line itself.
    Intervals are those of a bootstrap over images where there are many, else over blocks.
    Raises `InputError` where too few patches are left, or all have one mean.
    """
    kinds: tuple[Along, ...] = ("frames",) if evidence.repeated else IMAGE
    unclipped, found, zeros_kept = _unclipped(evidence, name)
    gains = {kind: _fit(_body(unclipped, k), k)[0] for k, kind in enumerate(kinds)}
    along = "frames" if evidence.repeated else _white(unclipped)
    kind = kinds.index(along)
    used = _body(unclipped, kind)
    expected = _expected(used, kind)

    images = np.unique(used.image, return_inverse=True)
    unit = images if len(images[0]) >= MANY_IMAGES else np.unique(used.block, return_inverse=True)
    per_unit = np.stack([np.bincount(unit[1], row) for row in _sums(used, kind, expected)], axis=1)
    whole, drawn = per_unit.sum(axis=0), _resample(len(unit[0]), seed) @ per_unit
    if dark is None:
        line, draws = _solve(whole), _solve(drawn)
    else:
        line = _solve_through(whole, dark.offset.value, dark.variance.value)
        draws = _solve_through(drawn, *dark.draws.T)
    free, other = _solve(drawn)[:, 0], _solve(drawn, check=True)[:, 0]
    ratio = _solve(whole, check=True)[0] / _solve(whole)[0]
    points = _points(used, kind)
    return Line(
        gain=interval(line[0], draws[:, 0]),
        constant=interval(line[1], draws[:, 1]),
        draws=draws,
        along=along,
        gains=gains,
        patches=len(used),
        found=found,
        mean_range=(float(used.mean.min()), float(used.mean.max())),
        step=evidence.step,
        ceiling=evidence.ceiling,
        saturated=evidence.share(evidence.ceiling),
        at_zero=evidence.share(0),
        zeros_kept=zeros_kept,
        check=interval(ratio, other / free) if (free > 0).all() and ratio == ratio else None,
        spread=max(0.0, 1 - float((used.noise * expected).mean() / used.mean.var())),
        between_images=_between(used, kind, expected),
        misfit=_misfit(points, *line),
        points=points,
    )


def interval(value: float, draws: Array) -> Interval:
    """`value` with the central 95 % of its draws."""
    return Interval(float(value), *map(float, np.nanpercentile(draws, (2.5, 97.5))))


def _unclipped(evidence: Evidence, name: str) -> tuple[Patches, int, bool]:
    """The patches without cut noise, how many there were, and whether zeros had to stay.

    Left out are patches with saturated pixels, and whole levels of brightness: those so near to
    saturation that noise reaches it, and those at which most patches hold a zero. (To choose
    patches there by their pixels would be to choose those of little noise.)
    """
    every = evidence.patches()
    top = math.inf if evidence.ceiling is None else evidence.ceiling
    if every is not None:
        place = _bins(every.mean)
        noise = np.zeros(BINS)
        for k in np.unique(place):
            noise[k] = math.sqrt(np.median(every.variance[0][place == k]))
        bright = (every.highest >= top) | (every.mean + 3 * noise[place] >= top)
        zeros = np.bincount(place, every.lowest <= 0) / np.maximum(np.bincount(place), 1)
        for zeros_kept in (False, True):
            patches = every[~bright & (zeros_kept | (zeros[place] <= 0.5))]
            if len(patches) >= FEWEST and np.ptp(patches.mean) > 0:
                return patches, len(every), zeros_kept
    raise InputError(
        required=f"{name}: {FEWEST} patches of 8 × 8 pixels or more, of different brightness and "
        "not saturated",
        found=f"{0 if every is None else len(every)} patches; of the pixels "
        f"{evidence.share(evidence.ceiling):.1%} are saturated, {evidence.share(0):.1%} are 0",
        action="give more or larger images, exposed between black and saturation",
    )


def _white(patches: Patches) -> Along:
    """The axes along which noise is uncorrelated, so that differences along them measure it.

    Both, unless differences along columns and along rows disagree in the darkest third, where
    structure counts least. If noise is correlated along rows, differences along rows and along
    both are equally wrong, those along columns are right. Or unless in the brighter half those
    along one axis are smaller than those along both, which structure cannot make them.
    """
    order = np.argsort(patches.mean)
    dark = patches.variance[:, order[: len(order) // 3]]
    both, columns, rows = np.log(dark[:, _inliers(dark.sum(axis=0))].mean(axis=1))
    if abs(columns - rows) > math.log(UNEVEN):
        return "columns" if abs(columns - both) > abs(rows - both) else "rows"
    bright = (patches.variance / _expected(patches, 0))[:, order[len(order) // 2 :]]
    both, columns, rows = bright[:, _inliers(bright[0])].mean(axis=1)
    if min(columns, rows) < SMALLER * both:
        return "columns" if columns < rows else "rows"
    return "both axes"


def _body(patches: Patches, kind: int) -> Patches:
    """The patches without those far above the line: edges, hot pixels, debris."""
    keep = np.ones(len(patches), bool)
    for _ in range(20):
        ratio = patches.variance[kind] / _expected(patches[keep], kind, patches.mean)
        now = _inliers(ratio)
        if (now == keep).all():
            break
        keep = now
    return patches[keep]


def _inliers(values: Array) -> NDArray[np.bool_]:
    """Which values are not above the others by more than four standard deviations of their
    logarithm, measured below the median, where structure adds nothing."""
    low, middle = np.quantile(values, (0.16, 0.5))
    return values <= (middle * (middle / low) ** 4 if low > 0 else math.inf)


def _bins(mean: Array) -> NDArray[np.int64]:
    """Bin of each mean, 0 … BINS − 1; even in its square root, where noise is about even."""
    root = np.sqrt(np.maximum(mean - min(0.0, mean.min()), 0))
    width = max(np.ptp(root), 1e-12)
    return np.minimum((root - root.min()) * BINS // width, BINS - 1).astype(np.int64)


def _expected(patches: Patches, kind: int, at: Array | None = None) -> Array:
    """Variance by the line through `patches` at the means `at` (their own if None), not below a
    fiftieth of its median; iteratively reweighted."""
    m, v = patches.mean, patches.variance[kind]
    lowest = max(float(np.median(v)) / 50, 1e-6)
    rank = np.argsort(np.argsort(m)) * BINS // len(m)
    typical = np.array([np.median(v[rank == k]) for k in range(BINS)])
    expected = np.maximum(typical[rank], lowest)
    for _ in range(5):
        g, c = _solve(_sums(patches, kind, expected).sum(axis=1))
        expected = np.maximum(g * m + c, lowest)
    return expected if at is None else np.maximum(g * at + c, lowest)


def _fit(patches: Patches, kind: int) -> tuple[float, float]:
    """Gain and constant of the line through `patches`."""
    sums = _sums(patches, kind, _expected(patches, kind))
    g, c = _solve(sums.sum(axis=1))
    return float(g), float(c)


def _sums(patches: Patches, kind: int, expected: Array) -> Array:
    """Terms (7, patches) of the normal equations of variance, and of check, on the mean."""
    w, m = 1 / expected**2, patches.mean
    v, other = patches.variance[kind], patches.check[kind]
    return np.stack([w, w * m, w * m * m, w * v, w * m * v, w * other, w * m * other])


def _solve(sums: Array, check: bool = False) -> Array:
    """Gain and constant (…, 2) from sums (…, 7); of `Patches.check` if so said."""
    s, sm, smm = (sums[..., k] for k in range(3))
    sv, smv = (sums[..., k] for k in ((5, 6) if check else (3, 4)))
    gain = (s * smv - sm * sv) / (s * smm - sm**2)
    return np.stack([gain, (sv - gain * sm) / s], axis=-1)


def _solve_through(sums: Array, mean: Array | float, variance: Array | float) -> Array:
    """As `_solve`, of the line through one point."""
    s, sm, smm, sv, smv = (sums[..., k] for k in range(5))
    rise = smv - mean * sv - variance * sm + mean * variance * s
    gain = rise / (smm - 2 * mean * sm + mean**2 * s)
    return np.stack([gain, variance - gain * mean], axis=-1)


def _resample(units: int, seed: int) -> Array:
    """How often each unit is drawn, (RESAMPLES, units)."""
    even = np.full(units, 1 / units)
    return np.random.default_rng(seed).multinomial(units, even, RESAMPLES).astype(np.float64)


def _points(patches: Patches, kind: int) -> tuple[Point, ...]:
    """Mean and variance of bins of brightness that hold enough patches."""
    place = _bins(patches.mean)
    points = []
    for k in range(BINS):
        v = patches.variance[kind][place == k]
        if len(v) >= 10:
            half = 1.96 * float(v.std(ddof=1)) / math.sqrt(len(v))
            mean, variance = float(patches.mean[place == k].mean()), float(v.mean())
            points.append(Point(mean, variance, variance - half, variance + half, len(v)))
    return tuple(points)


def _misfit(points: tuple[Point, ...], gain: float, constant: float) -> float:
    """Relative root mean square deviation of the points from the line, beyond their own errors."""
    mean, variance, low, high, _ = np.array(points, float).reshape(-1, 5).T
    expected = np.abs(gain * mean + constant)
    excess = ((variance - expected) / expected) ** 2 - ((high - low) / 3.92 / expected) ** 2
    return math.sqrt(max(0.0, float(excess.mean()))) if len(points) else 0.0


def _between(patches: Patches, kind: int, expected: Array) -> float | None:
    """Relative standard deviation, beyond that of patches, of each image's noise from the line."""
    ratio = patches.variance[kind] / expected
    count = np.bincount(patches.image)
    enough = count >= 20
    if enough.sum() < 2:
        return None
    mean = np.bincount(patches.image, ratio)[enough] / count[enough]
    chance = ratio.var() * (1 / count[enough]).mean()
    return math.sqrt(max(0.0, float(mean.var(ddof=1) - chance))) / float(mean.mean())


def dark_level(frames: NDArray[np.integer], seed: int = 0) -> Dark:
    """Offset and variance without light from frames (T, H, W).

    The variance is that of differences of consecutive frames, so that a fixed pattern does not
    count; of a single frame, that of differences within it. Where noise is cut at zero, offset and
    noise follow from the share of zeros and the mean, as for a normal distribution censored there
    (Tobin, Econometrica 26, 24, 1958); a fixed pattern then counts as noise.
    Raises `InputError` where nearly all is zero.
    """
    evidence, zeros = Evidence(len(frames) > 1), Evidence(len(frames) > 1)
    evidence.add(frames)
    zeros.add((frames == 0).astype(np.uint8))
    patches, dim, at_zero = evidence.patches(), zeros.patches(), evidence.share(0)
    if patches is None or dim is None or len(patches) < FEWEST or at_zero > MOSTLY:
        raise InputError(
            required=f"frames without light of {FEWEST} patches of 8 × 8 pixels, not cut at zero",
            found=f"{len(frames)} of {frames.shape[1]} × {frames.shape[2]} pixels, {at_zero:.0%} "
            "of them 0",
            action="give full frames, taken with a higher offset, or no dark frames",
        )
    cut = at_zero > CLIPPED
    keep = _inliers(patches.variance[0]) | cut
    blocks, unit = np.unique(patches.block[keep], return_inverse=True)
    columns = (np.ones(len(unit)), patches.mean[keep], patches.variance[0][keep], dim.mean[keep])
    sums = np.stack([np.bincount(unit, values) for values in columns], axis=1)
    drawn = np.vstack([np.ones(len(blocks)), _resample(len(blocks), seed)]) @ sums
    _, mean, variance, at_zeros = drawn.T / drawn[:, 0]
    if cut:
        mean, variance = _censored(mean, at_zeros, evidence.step)
    return Dark(
        interval(mean[0], mean[1:]),
        interval(variance[0], variance[1:]),
        np.stack([mean[1:], variance[1:]], axis=1),
        at_zero,
    )


def _censored(mean: Array, at_zero: Array, step: int) -> tuple[Array, Array]:
    """Mean and variance of rounded normal values before all below step/2 became 0.

    From E[x] = μ(1 − p) + σφ(a) + step²φ(a)/(12σ) and a = (step/2 − μ)/σ, p = Φ(a) the share of
    zeros. The last term is what rounding adds above the cut (Euler and Maclaurin, first order).
    """
    a = norm.ppf(at_zero)
    density = norm.pdf(a)
    rise = density - a * (1 - at_zero)
    above = mean - step / 2 * (1 - at_zero)
    sigma = (above + np.sqrt(above**2 - step**2 / 3 * rise * density)) / (2 * rise)
    return step / 2 - a * sigma, sigma**2 + step**2 / 12
