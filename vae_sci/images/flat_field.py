"""The flat field of a plate: the share of the light that reaches each pixel, told by its images.

A grey level is offset + flat · (background + cell). Outside cells it is offset + flat ·
background: over many fields a smooth surface, precise, but on an offset that is not known, so that
it tells the shape of the flat field and not how strong it is. Inside cells, what rises above that
surface is flat · cell, free of the offset but rough. So the strength is the one number that makes
the light of cells the same all over the field: at places inside a cell, that is, since cells may
avoid the border. Fields without cells serve as well, for the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from vae_sci.config import ImagesSettings
from vae_sci.contracts import FIELDS
from vae_sci.errors import ContractError, InputError
from vae_sci.files import publish
from vae_sci.images.read import read_field

Array = NDArray[np.float64]
Blocks = NDArray[np.float32]

BLOCK = 8  # pixels, edge of the blocks that are averaged: less than a nucleus
MOST = 2**20  # blocks of a channel that are looked at
FEWEST = 20  # fields, to tell illumination from cells
DEGREE = 4  # of the polynomial in y and x: vignetting falls with the 4th power of a cosine
DARKEST = 0.05  # share of the mean light, below which no place of a field can be
BORDER = 1 / 12  # of a field's edge; nearer the border cells are seen in part
ORDERS = [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i) if i + j]
CLIP = 2.5  # standard deviations of noise, within which a block is background
ROUNDS = 8  # of an iteration; each gains about half a digit
GROUPS = 10  # of fields, each left out in turn
OFFSETS = 2000  # that are weighed, in steps of half a percent of the background's light
SURE = 3.0  # standard errors of the strength, from which a flat field is used
# Standard deviation of the background's surface over the mean light of fields, from which it is
# used. Haze around cells, which are rarer at the border, feigns 0.0005 (docs/decisions.md).
HAZE = 0.002


@dataclass(frozen=True, eq=False)
class FlatField:
    """What reaches each pixel, and how sure that is; one entry per channel.

    gain (C, H, W) : share of the light, mean 1; 1 everywhere in a channel that is not `used`.
    offset (C,) : grey level without light; NaN where it is not known.
    strength, uncertainty (C,) : range of the flat field (highest less lowest) over its mean, as
        found, and its standard error; NaN where the images do not tell.
    used (C,) : whether it is sure enough to correct by.
    """

    gain: NDArray[np.float32]
    offset: Array
    strength: Array
    uncertainty: Array
    used: NDArray[np.bool_]

    def correct(self, images: NDArray[np.number]) -> NDArray[np.float32]:
        """Grey levels (…, C, H, W) as under even light: offset + (level − offset) / gain."""
        offset = np.where(self.used, self.offset, 0)[:, None, None]
        return ((images - offset) / self.gain + offset).astype(np.float32)

    def write(self, path: Path) -> None:
        """Write as one .npz; `read_flat_field` reads it."""
        with publish(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **asdict(self))


def read_flat_field(path: Path, shape: tuple[int, int, int]) -> FlatField:
    """The flat field at `path`. Raises `ContractError` unless it is one of fields (C, H, W)."""
    try:
        with np.load(path) as arrays:
            flat = FlatField(**arrays)
        found = f"one of shape {flat.gain.shape}"
    except (OSError, ValueError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
    else:
        if flat.gain.shape == shape:
            return flat
    raise ContractError(
        required=f"a flat field of shape {shape}, as the plate's fields have",
        found=f"{path}: {found}",
        action="delete it and run again: the workflow makes it anew",
    )


def plate_flat_field(
    plate: str,
    fields: Path,
    settings: ImagesSettings,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[FlatField, list[str]]:
    """The flat field of a plate, and the names of its channels.

    fields : the plate's table of fields (`images.index_plate`). progress : called with (fields
    read, fields to read). Raises `InputError` where its usable fields differ in size.
    """
    index = FIELDS.read(fields)
    whole = [rows for _, rows in index.groupby(["well", "site"], sort=False)]
    good = [rows for rows in whole if (rows["verdict"] == "ok").all()]
    sizes = sorted({(int(r["height"].iloc[0]), int(r["width"].iloc[0])) for r in good})
    if len(sizes) != 1:
        raise InputError(
            required=f"fields of one size on plate {plate}, which have one flat field",
            found=" and ".join(f"{h} × {w}" for h, w in sizes) or "no usable field",
            action="treat them as several plates, or set images: flat_field to off",
        )
    wanted = min(len(good), fields_wanted(*sizes[0]))
    chosen = [good[k * len(good) // wanted] for k in range(wanted)]

    def read() -> Iterator[NDArray[np.number]]:
        for done, rows in enumerate(chosen, start=1):
            yield read_field(rows)
            if progress is not None:
                progress(done, wanted)

    channels = list(chosen[0].sort_values("channel_index")["channel"])
    offset = None if settings.offset is None else [settings.offset] * len(channels)
    return estimate_flat_field(read(), offset), channels


def fields_wanted(height: int, width: int) -> int:
    """How many fields of this size, in pixels, to look at: no fewer than `FEWEST`."""
    return max(FEWEST, MOST * BLOCK**2 // (height * width))


def estimate_flat_field(
    fields: Iterable[NDArray[np.number]], offset: Sequence[float] | None = None
) -> FlatField:
    """The flat field of a plate from its fields (C, H, W), all of one size, a well's in a row.

    offset : grey level without light of each channel, where dark frames tell it. With None it
        follows from the light of cells; channels that may share one help each other. A channel is
        left as it is where there are fewer than `FEWEST` fields, where the strength is not sure,
        and where haze could feign it. The peer, BaSiC (Peng et al., Nat. Commun. 8, 14836, 2017),
        needs the offset: docs/decisions.md.
    """
    means, shape = [], (1, 1)
    for field in fields:
        means.append(block_means(field))
        shape = field.shape[1:]
    blocks = np.stack(means, axis=1)
    channels, count, *grid = blocks.shape
    unknown = np.full(channels, np.nan)
    dark = unknown if offset is None else np.asarray(offset, np.float64)
    flat = FlatField(
        np.ones((channels, *shape), np.float32), dark, unknown, unknown, np.zeros(channels, bool)
    )
    if count < FEWEST:
        return flat
    terms = _terms(*grid)
    blocks = blocks.reshape(channels, count, -1)
    found = [_background(levels, terms) for levels in blocks]
    surfaces = np.stack([terms @ coefficients for coefficients, _ in found])
    own = np.stack([level for _, level in found])
    level = np.median(own, axis=1)
    light = blocks - surfaces[:, None].astype(np.float32) - own[..., None].astype(np.float32)
    if offset is None:
        slope, error = _one_camera(*_strength(light, surfaces, _inside(*grid)), level)
    else:
        background = np.maximum(level - dark, 1e-6)
        slope = 1 / background
        error = slope * own.std(axis=1) / np.sqrt(count) / background
    relative = slope[:, None] * surfaces
    haze = HAZE * (1 + slope * light.mean(axis=(1, 2)))
    possible = relative.min(axis=1) > DARKEST - 1
    used = possible & (slope > SURE * error) & (relative.std(axis=1) > haze)
    gain = flat.gain
    for c in np.flatnonzero(used):
        gain[c] = 1 + slope[c] * _surface(found[c][0], *shape)
    if offset is None:
        dark = np.divide(-1, slope, out=unknown.copy(), where=used) + level
    return FlatField(gain, dark, np.ptp(relative, axis=1), np.ptp(surfaces, axis=1) * error, used)


def block_means(field: NDArray[np.number]) -> Blocks:
    """Means (C, h, w) over blocks of `BLOCK` pixels, or a little more, of a field (C, H, W)."""
    result = field.astype(np.float32)
    for axis, size in ((1, field.shape[1]), (2, field.shape[2])):
        edges = np.linspace(0, size, max(1, size // BLOCK) + 1).astype(int)
        result = np.add.reduceat(result, edges[:-1], axis=axis)
        result /= np.expand_dims(np.diff(edges), (0, 3 - axis)).astype(np.float32)
    return result


def _background(levels: Blocks, terms: Array) -> tuple[Array, Array]:
    """The surface's coefficients (K,) and each field's level (N,) outside cells, grey levels.

    levels (N, P) : means of blocks. Background lies around the surface as its noise does, which
    is told by the blocks below it; what lies farther is left out, round by round.
    """
    noise = float(np.median(np.abs(np.diff(levels, axis=1)))) + 1e-6
    middle = np.percentile(levels, 10, axis=1).astype(np.float64) + noise
    coefficients = np.zeros(terms.shape[1])
    for _ in range(ROUNDS):
        rest = levels - middle[:, None] - terms @ coefficients
        coefficients += _slope(np.abs(rest) < CLIP * noise, rest, terms)
        rest = levels - middle[:, None] - terms @ coefficients
        near = np.abs(rest) < CLIP * noise
        middle = middle + np.array(
            [np.median(r[n]) if n.any() else 0.0 for r, n in zip(rest, near, strict=True)]
        )
        below = rest[near & (rest < 0)]
        noise = float(np.sqrt(np.mean(below**2))) + 1e-6 if below.size else noise
    return coefficients, middle


def _strength(light: Blocks, surfaces: Array, inside: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Relative change of light per grey level of the background's surface, and its error, (C,).

    light (C, N, P) : grey levels above background; surfaces (C, P) : grey levels, mean 0; inside
    (P,) : away from the border. Cells are told by the light of the channel alone, or of all
    channels together: nuclei are clearer in the first way, cells full of texture in the second.
    Of the two answers the surer is taken, by the jackknife over groups of fields (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, ch. 11).
    """
    group = np.arange(light.shape[1]) * GROUPS // light.shape[1]
    answers: list[Array] = []
    errors: list[Array] = []
    for together in (False, True):
        answer = _even_out(light, surfaces, inside, together, np.zeros(len(light)), ROUNDS)
        parts = [
            _even_out(light[:, group != g], surfaces, inside, together, answer, ROUNDS // 2)
            for g in range(GROUPS)
        ]
        answers.append(answer)
        errors.append(np.array(parts).std(axis=0) * np.sqrt(GROUPS - 1))
    second = (errors[1] < errors[0]).astype(np.int64)
    return np.choose(second, answers), np.choose(second, errors)


def _one_camera(slope: Array, error: Array, level: Array) -> tuple[Array, Array]:
    """Slopes and their errors (C,), given that all channels have one offset, if they may have.

    slope, error : as of `_strength`; level (C,) : of the background. A slope is 1 / (level −
    offset), so that a channel that is sure of the offset makes the others sure. Mean and sd over
    offsets from 0, by their likelihood; the offset's distance below the lowest level has no scale.
    """
    below = level.min() * np.geomspace(1e-4, 1, OFFSETS)
    slopes = 1 / (level[:, None] - level.min() + below)
    # a channel in which nothing changes has no error and tells nothing
    spread = np.where(error > 0, error, np.inf)[:, None]
    misfit = (slopes - slope[:, None]) / spread
    cost = (misfit**2).sum(axis=0)
    best = cost.argmin()
    if np.abs(misfit[:, best]).max() > SURE:
        return slope, error
    weight = np.exp((cost[best] - cost) / 2)
    mean = np.average(slopes, axis=1, weights=weight)
    return mean, np.sqrt(np.average((slopes - mean[:, None]) ** 2, axis=1, weights=weight))


def _even_out(
    light: Blocks,
    surfaces: Array,
    inside: NDArray[np.bool_],
    together: bool,
    slope: Array,
    rounds: int,
) -> Array:
    """`_strength` without its error, from a first guess, by one way to tell cells.

    What is a cell is asked after correction, so that dim places are judged as bright ones are.
    Roots of the light, as bright spots rule its mean; of each field by its own mean, as stains
    and treatments differ.
    """
    slope = slope.copy()
    for _ in range(rounds):
        flat = np.maximum(1 + slope[:, None] * surfaces, DARKEST).astype(np.float32)
        root = np.sqrt(np.maximum(light, 0) / flat[:, None])
        if together:
            total = (root / (root.std(axis=(1, 2), keepdims=True) + 1e-6)).sum(axis=0)
            cells = [(total > threshold_otsu(total)) & inside] * len(light)
        else:
            cells = [(r**2 > threshold_otsu(r**2)) & inside for r in root]
        for c, (cell, r) in enumerate(zip(cells, root, strict=True)):
            mean = (r * cell).sum(axis=1) / np.maximum(cell.sum(axis=1), 1) + 1e-6
            # twice the relative change of the root is that of the light
            slope[c] += _slope(cell, 2 * r / mean[:, None], surfaces[c][:, None])[0]
    return slope


def _slope(chosen: NDArray[np.bool_], values: NDArray[np.floating], terms: Array) -> Array:
    """Coefficients (K,) of terms (P, K) in values (N, P), where chosen; each row has a level of
    its own. Least squares."""
    weight = chosen.astype(np.float32)
    total = np.maximum(weight.sum(axis=1), 1)
    centre = (weight @ terms) / total[:, None]
    square = (terms.T * weight.sum(axis=0)) @ terms - (centre.T * total) @ centre
    kept = weight * values
    right = kept.sum(axis=0) @ terms - kept.sum(axis=1) @ centre
    return np.linalg.lstsq(square, right, rcond=None)[0]


def _inside(height: int, width: int) -> NDArray[np.bool_]:
    """Places (height · width,) that lie away from the border."""
    y, x = ((np.arange(n) + 0.5) / n for n in (height, width))
    away = [np.minimum(one, 1 - one) > BORDER for one in (y, x)]
    return np.outer(*away).ravel()


def _terms(height: int, width: int) -> Array:
    """Polynomials in y and x of degree 1 to `DEGREE`, (height · width, K), each of mean 0."""
    y, x = _powers(height), _powers(width)
    terms = np.stack([np.outer(y[:, i], x[:, j]).ravel() for i, j in ORDERS], axis=1)
    return terms - terms.mean(axis=0)


def _surface(coefficients: Array, height: int, width: int) -> Array:
    """`_terms` times coefficients (K,), as an image (height, width), without all terms at once."""
    square = np.zeros((DEGREE + 1, DEGREE + 1))
    square[tuple(zip(*ORDERS, strict=True))] = coefficients
    surface = _powers(height) @ square @ _powers(width).T
    return surface - surface.mean()


def _powers(size: int) -> Array:
    """Powers 0 to `DEGREE` of places from −1 to 1, (size, DEGREE + 1)."""
    return np.vander((np.arange(size) + 0.5) / size * 2 - 1, DEGREE + 1, increasing=True)
