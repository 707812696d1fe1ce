"""Patches of images: their mean and the variance of their noise, free of the structure in them.

In a single image the noise is what a finite difference of order 8 leaves. Taken along both axes
(order 2: Immerkær, Comput. Vis. Image Underst. 64, 300, 1996) it passes only the highest
frequencies, where optics leave hardly any structure. Along one axis it passes more structure, but
holds where read-out or interpolation correlates the noise along the other axis. The mean is taken
with the squared weights of the difference along both: where the variance of pixels is g·m + c, the
expected square is g·m + c of that mean exactly, whatever the gradient. Where a scene was imaged
repeatedly, the difference of consecutive frames takes their place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from vae_sci.images.quality import camera_ceiling

Array = NDArray[np.float64]
Along = Literal["both axes", "columns", "rows", "frames"]
IMAGE: tuple[Along, ...] = ("both axes", "columns", "rows")  # differences within one image

PATCH = 8  # pixels, edge of a patch
BLOCK = 4  # patches, edge of a block
ORDER, COARSER = 8, 6  # of the difference that measures noise, and of the one that checks it
SMALLEST = ORDER + PATCH  # pixels, edge of an image with one patch
_AT_ONCE = 2**18  # pixels; much more leaves the processor's cache


@dataclass(frozen=True, eq=False)
class Patches:
    """One entry per patch; grey levels as stored.

    mean : grey levels; noise : its own variance is that of a pixel times this.
    variance : of a pixel's noise, grey levels², by the differences along each of `IMAGE`, (3, n);
        by those of frames (1, n).
    check : the same from differences of order 6, or of frames two apart (NaN where there are only
        two); it agrees where noise is white and structure smooth.
    lowest, highest : grey levels among the pixels used.
    image, block : where the patch lies; blocks of different images have different numbers.
    """

    mean: Array
    noise: Array
    variance: Array
    check: Array
    lowest: Array
    highest: Array
    image: NDArray[np.int64]
    block: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Patches:
        return Patches(*(getattr(self, field.name)[..., chosen] for field in fields(self)))


class Evidence:
    """Gathers the patches and grey levels of one channel, image by image.

    repeated : images are frames, compared with each other; else each is a scene of its own.
    correlations : of neighbouring frames, scene and noise together.
    """

    def __init__(self, repeated: bool = False) -> None:
        self.repeated = repeated
        self.correlations: list[float] = []
        self._parts: list[Patches] = []
        self._levels: dict[int, int] = {}  # grey level → pixels
        self._images = self._blocks = 0

    def add(self, images: NDArray[np.integer]) -> None:
        """Images (N, H, W); as frames they are at least 2, all of one scene.

        Images too small for a patch add none.
        """
        for level, count in zip(*np.unique(images, return_counts=True), strict=True):
            self._levels[int(level)] = self._levels.get(int(level), 0) + int(count)
        if min(images.shape[1:]) < (PATCH if self.repeated else SMALLEST):
            return
        if self.repeated:
            self._add_frames(images)
            return
        at_once = max(1, _AT_ONCE // math.prod(images.shape[1:]))
        for start in range(0, len(images), at_once):
            self._add_images(images[start : start + at_once])

    def _add_images(self, images: NDArray[np.integer]) -> None:
        x = images.astype(np.float64)
        stencil = _difference(ORDER)
        crop = (ORDER - COARSER) // 2
        window = (1, ORDER + 1, ORDER + 1)
        inside = (slice(None), *(slice(ORDER // 2, -(ORDER // 2)),) * 2)
        self._keep(
            patch_means(_correlate(_correlate(x, stencil**2, 1), stencil**2, 2)),
            1 / PATCH**2,
            _squares(x, ORDER),
            _squares(x[:, crop:-crop, crop:-crop], COARSER),
            _split(minimum_filter(images, window)[inside]).min(axis=(-3, -1)),
            _split(maximum_filter(images, window)[inside]).max(axis=(-3, -1)),
        )

    def _add_frames(self, frames: NDArray[np.integer]) -> None:
        for earlier, later in pairwise(frames):
            if np.ptp(earlier) and np.ptp(later):
                pair = np.corrcoef(earlier.ravel(), later.ravel())
                self.correlations.append(float(pair[0, 1]))
        total = np.sum([patch_means(frame.astype(np.float64)) for frame in frames], axis=0)
        self._keep(
            total[None] / len(frames),
            1 / (PATCH**2 * len(frames)),
            _apart(frames, 1),
            _apart(frames, 2),
            _split(frames.min(axis=0, keepdims=True)).min(axis=(-3, -1)),
            _split(frames.max(axis=0, keepdims=True)).max(axis=(-3, -1)),
        )

    def _keep(
        self,
        mean: Array,
        noise: float,
        variance: Array,
        check: Array,
        lowest: NDArray,
        highest: NDArray,
    ) -> None:
        """Patches (N, rows, columns) of N further images; variance and check (K, N, …)."""
        images, rows, columns = mean.shape
        down, across = -(-rows // BLOCK), -(-columns // BLOCK)
        image = np.arange(images)[:, None, None]
        row, column = np.arange(rows)[:, None] // BLOCK, np.arange(columns) // BLOCK
        block = self._blocks + (image * down + row) * across + column
        self._parts.append(
            Patches(
                mean.ravel(),
                np.full(mean.size, noise),
                variance.reshape(len(variance), -1),
                check.reshape(len(check), -1),
                lowest.ravel().astype(np.float64),
                highest.ravel().astype(np.float64),
                np.broadcast_to(self._images + image, mean.shape).ravel(),
                block.ravel(),
            )
        )
        self._images += images
        self._blocks += images * down * across

    def patches(self) -> Patches | None:
        """All patches so far, None if there are none."""
        if not self._parts:
            return None
        names = [field.name for field in fields(Patches)]
        return Patches(
            *(np.concatenate([getattr(p, name) for p in self._parts], axis=-1) for name in names)
        )

    @property
    def step(self) -> int:
        """Greatest common divisor of the differences between grey levels; 1 for a single one."""
        return int(max(1, np.gcd.reduce(np.diff(sorted(self._levels)), initial=0)))

    @property
    def ceiling(self) -> int | None:
        """The level at which pixels saturate: a camera's highest, or one at which pixels pile up
        above ten levels that hold far fewer."""
        *below, top = sorted(self._levels)
        fewer = [self._levels[level] for level in below[-10:]]
        piled = len(fewer) == 10 and self._levels[top] > max(20, 5 * max(fewer))
        return top if piled else camera_ceiling(top)

    def share(self, level: int | None) -> float:
        """Share of pixels at a grey level."""
        return self._levels.get(level, 0) / sum(self._levels.values()) if level is not None else 0.0


def patch_means(images: Array) -> Array:
    """Means (…, rows, columns) of the whole patches of images (…, H, W)."""
    return _split(images).mean(axis=(-3, -1))


def _split(images: NDArray) -> NDArray:
    """(…, H, W) to (…, rows, PATCH, columns, PATCH), without the rest at the lower right."""
    rows, columns = images.shape[-2] // PATCH, images.shape[-1] // PATCH
    whole = images[..., : rows * PATCH, : columns * PATCH]
    return whole.reshape(*images.shape[:-2], rows, PATCH, columns, PATCH)


def _squares(x: Array, order: int) -> Array:
    """Patch means (3, N, rows, columns) of squared differences of x (N, H, W), as in `IMAGE`."""
    stencil, half = _difference(order), order // 2
    columns, rows = _correlate(x, stencil, 1), _correlate(x, stencil, 2)
    along = (_correlate(columns, stencil, 2), columns[:, :, half:-half], rows[:, half:-half])
    return np.stack([patch_means(difference**2) for difference in along])


def _difference(order: int) -> Array:
    """Weights (order + 1,) of a finite difference; their squares sum to 1."""
    weights = np.array([(-1.0) ** k * math.comb(order, k) for k in range(order + 1)])
    return weights / np.linalg.norm(weights)


def _correlate(x: Array, weights: Array, axis: int) -> Array:
    """Correlation of x with `weights` along an axis, where they fit."""
    length = x.shape[axis] - len(weights) + 1
    moved = x.swapaxes(axis, 0)
    return sum(w * moved[k : k + length] for k, w in enumerate(weights)).swapaxes(axis, 0)


def _apart(frames: NDArray[np.integer], lag: int) -> Array:
    """Half the variance (1, 1, rows, columns) of differences of frames `lag` apart.

    It is the variance within the patch, so that a lamp that flickers or a stain that bleaches
    adds next to nothing.
    """
    pairs = len(frames) - lag
    total = np.zeros((frames.shape[1] // PATCH, frames.shape[2] // PATCH))
    for k in range(pairs):
        difference = frames[k + lag].astype(np.float64) - frames[k]
        total += _split(difference).var(axis=(-3, -1), ddof=1)
    return total[None, None] / (2 * pairs) if pairs > 0 else np.full((1, 1, *total.shape), np.nan)
