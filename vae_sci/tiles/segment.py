"""Nuclei and cells in a field, by classical means: local thresholds, distances, watershed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_fill_holes,
    distance_transform_edt,
    gaussian_filter,
    grey_opening,
    zoom,
)
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

Labels = NDArray[np.int32]
Float = NDArray[np.float32]

SMALLEST, LARGEST = 0.3, 5.0  # area of a nucleus, in areas of a disc of the typical diameter
WAIST = 0.9  # touching nuclei are two if their neck is below this share of the smaller's width


@dataclass(frozen=True)
class Segmentation:
    """Cells of one field.

    cells, nuclei : labels (H, W), 0 outside, 1 … n_cells; a nucleus carries its cell's label, and
        several nuclei may share one.
    found : nuclei before anything was dropped.
    dropped : reason → number of nuclei that are no cell of their own.
    """

    cells: Labels
    nuclei: Labels
    found: int
    dropped: dict[str, int]

    @property
    def n_cells(self) -> int:
        return int(self.nuclei.max(initial=0))


def segment(
    nucleus: NDArray[Any],
    cell: Float,
    nucleus_diameter: float,
    cell_diameter: float,
    merge_gap: float,
) -> Segmentation:
    """Nuclei of `nucleus` (H, W) and the cells around them in `cell` (H, W).

    Diameters and `merge_gap` in pixels: nuclei of similar size whose gap is no wider than
    `merge_gap` belong to one cell.
    """
    objects, found = find_nuclei(nucleus, nucleus_diameter)
    typical = np.pi * (nucleus_diameter / 2) ** 2
    area = np.bincount(objects.ravel(), minlength=found + 1)[1:]
    small, large = area < SMALLEST * typical, area > LARGEST * typical
    objects = _keep(objects, ~(small | large))
    kept = found - int(small.sum()) - int(large.sum())
    owner = join_nuclei(objects, kept, merge_gap)
    nuclei = np.append(0, owner + 1)[objects].astype(np.int32)
    n_cells = int(owner.max(initial=-1)) + 1
    dropped = {
        "too small": int(small.sum()),
        "too large": int(large.sum()),
        "in one cell with another nucleus": kept - n_cells,
    }
    cells = spread_cells(nuclei, cell, cell_diameter / 2)
    return Segmentation(cells, nuclei, found, {k: n for k, n in dropped.items() if n})


def background(image: Float, width: float) -> Float:
    """What varies more slowly than `width` pixels: an opening of the coarse image, smoothed."""
    step = max(1, int(width // 8))
    height, across = (n // step * step for n in image.shape)
    coarse = image[:height, :across]
    coarse = coarse.reshape(height // step, step, across // step, step).mean(axis=(1, 3))
    size = min(2 * round(width / step / 2) + 1, *(n | 1 for n in coarse.shape))
    low = gaussian_filter(grey_opening(coarse, (size, size)), size / 2)
    factors = [n / m for n, m in zip(image.shape, low.shape, strict=True)]
    return zoom(low, factors, order=1, mode="nearest", grid_mode=True).astype(np.float32)


def find_nuclei(image: NDArray[Any], diameter: float) -> tuple[Labels, int]:
    """Labels (H, W) of all bright objects of the order of `diameter` pixels, and their number."""
    raw = image.astype(np.float32)
    above = gaussian_filter(raw, diameter / 16, truncate=3)
    above -= background(above, 3 * diameter)
    smooth = gaussian_filter(above, diameter / 6, truncate=3)
    mask = above > _floor(above)
    seeds = _peaks(smooth, mask, diameter / 3)
    regions = watershed(-smooth, seeds, mask=mask)
    # each object ends at half of its own brightness, so that a dim one is found beside a bright
    count = int(seeds.max(initial=0))
    if count == 0:
        return np.zeros(image.shape, np.int32), 0
    # and must rise above the noise of single pixels, so that a well without cells stays empty
    peak = _at_seeds(smooth, seeds)
    peak = np.append(np.inf, np.where(peak > _pixel_noise(raw), peak, np.inf))
    mask = above > 0.5 * peak[regions]
    mask = binary_fill_holes(mask & (gaussian_filter(mask.astype(np.float32), 1) > 0.5))
    depth = gaussian_filter(distance_transform_edt(mask).astype(np.float32), diameter / 16)
    seeds = _peaks(depth, mask, diameter / 4)
    parts = watershed(-depth, seeds, mask=mask)
    return _join_shallow(parts, depth, _at_seeds(depth, seeds))


def _floor(above: Float) -> float:
    """Grey level over background that tells signal from noise.

    Otsu's threshold of the square root, or down to half of it where what lies below is quiet.
    """
    sample = np.maximum(above[::2, ::2], 0)
    otsu = threshold_otsu(np.sqrt(sample)) ** 2
    below = sample[sample <= otsu]
    middle = np.median(below)
    noise = 1.4826 * np.median(np.abs(below - middle))
    return float(np.clip(middle + 4 * noise, 0.5 * otsu, otsu))


def _pixel_noise(raw: Float) -> float:
    """Standard deviation of a pixel, from differences of neighbours; at least one grey level."""
    return max(1.0, float(1.4826 * np.median(np.abs(np.diff(raw, axis=1))) / np.sqrt(2)))


def _peaks(image: Float, mask: NDArray[np.bool_], distance: float) -> Labels:
    places = peak_local_max(
        image,
        min_distance=max(1, round(distance)),
        labels=mask.astype(np.int32),
        exclude_border=False,
    )
    seeds = np.zeros(image.shape, np.int32)
    seeds[tuple(places.T)] = np.arange(1, len(places) + 1)
    return seeds


def _at_seeds(image: Float, seeds: Labels) -> Float:
    """Value of `image` at seeds 1, 2, … (n,): the highest of each region."""
    places = np.flatnonzero(seeds)
    return image.ravel()[places[np.argsort(seeds.ravel()[places])]]


def _touching(labels: Labels) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Flat indices of neighbouring pixels that carry two different labels."""
    index = np.arange(labels.size).reshape(labels.shape)
    pairs = []
    for one, two in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        a, b = labels[one], labels[two]
        differ = (a != b) & (a > 0) & (b > 0)
        pairs.append((index[one][differ], index[two][differ]))
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def _join_shallow(parts: Labels, depth: Float, deepest: Float) -> tuple[Labels, int]:
    """Join parts whose common border is nearly as deep as the shallower of the two.

    deepest (n,): the depth at each part's seed. Returns labels 1 … n and n.
    """
    count = len(deepest)
    one, two = _touching(parts)
    a, b = parts.ravel()[one], parts.ravel()[two]
    a, b = np.minimum(a, b), np.maximum(a, b)
    pairs, which = np.unique(a * (count + 1) + b, return_inverse=True)
    saddle = np.zeros(len(pairs), np.float32)
    np.maximum.at(saddle, which, np.minimum(depth.ravel()[one], depth.ravel()[two]))
    a, b = pairs // (count + 1) - 1, pairs % (count + 1) - 1
    shallow = saddle > WAIST * np.minimum(deepest[a], deepest[b])
    owner = _components(a[shallow], b[shallow], count)
    return np.append(0, owner + 1)[parts].astype(np.int32), int(owner.max(initial=-1)) + 1


def _components(a: NDArray[Any], b: NDArray[Any], count: int) -> NDArray[np.int32]:
    """Component (count,), from 0, of each of `count` nodes, joined by the edges a–b."""
    if count == 0:
        return np.zeros(0, np.int32)
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _keep(labels: Labels, keep: NDArray[np.bool_]) -> Labels:
    """Labels whose `keep` is true, numbered anew from 1."""
    return np.append(0, np.where(keep, np.cumsum(keep), 0))[labels].astype(np.int32)


def join_nuclei(labels: Labels, count: int, gap: float) -> NDArray[np.int32]:
    """Cell (count,), from 0, of each nucleus: nearest pairs of like size join across `gap` pixels.

    Like size: areas within a factor of 2, as daughters of one nucleus have.
    """
    if count == 0 or gap <= 0:
        return np.arange(count, dtype=np.int32)
    outside, nearest = distance_transform_edt(labels == 0, return_indices=True)
    grown = np.where(outside <= gap / 2 + 0.5, labels[tuple(nearest)], 0).astype(np.int32)
    one, two = _touching(grown)
    a, b = grown.ravel()[one], grown.ravel()[two]
    area = np.append(0, np.bincount(labels.ravel(), minlength=count + 1)[1:])
    like = np.maximum(area[a], area[b]) <= 2 * np.minimum(area[a], area[b])
    return _components(a[like] - 1, b[like] - 1, count)


def spread_cells(nuclei: Labels, cell: Float, reach: float) -> Labels:
    """Cells (H, W) grown from `nuclei` over bright `cell`, at most `reach` pixels far.

    Computed at half resolution: borders between cells are as coarse as two pixels.
    """
    smooth = gaussian_filter(cell, max(1.0, reach / 16), truncate=3)
    smooth -= background(smooth, 6 * reach)
    small, seeds = smooth[::2, ::2], nuclei[::2, ::2]
    away = 2 * distance_transform_edt(seeds == 0)
    bright = small > _floor(small)
    inside = (bright & (away <= reach)) | (seeds > 0)
    scale = np.percentile(small[inside], 90) if inside.any() else 1.0
    height = away / reach - np.clip(small / max(scale, 1e-6), 0, 1)
    cells = watershed(height, seeds, mask=inside)
    cells = cells.repeat(2, axis=0).repeat(2, axis=1)[: nuclei.shape[0], : nuclei.shape[1]]
    return np.where(nuclei > 0, nuclei, cells).astype(np.int32)
