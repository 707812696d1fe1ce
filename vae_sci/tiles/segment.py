"""Cells of a field: nuclei, which of them share a cell, and the cells grown around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.segmentation import watershed

from vae_sci.tiles.nuclei import (
    Float,
    Labels,
    background,
    find_nuclei,
    floor,
    touching,
    typical_diameter,
)
from vae_sci.tiles.plugin import Find

# Area of a nucleus, in areas of a disc of the typical diameter: below debris, above clumps
SMALLEST, LARGEST = 0.21, 5.0
BRIGHTEST = 1.5  # times the median cell's brightness: what is brighter counts as this


class Runs(NamedTuple):
    """Pixels of one label that follow each other in a row: label, row, first column and length of
    each run (N,). There are far fewer of them than pixels."""

    label: NDArray[np.integer]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    length: NDArray[np.int64]


def label_runs(labels: NDArray[np.integer]) -> Runs:
    """All runs of `labels` (H, W) but those of 0, row by row."""
    begins = np.empty(labels.shape, bool)
    begins[:, 0] = True
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    start = np.flatnonzero(begins)
    length = np.diff(start, append=labels.size)
    inside = labels.ravel()[start] != 0
    start, length = start[inside], length[inside]
    row, column = np.divmod(start, labels.shape[1])
    return Runs(labels.ravel()[start], row, column, length)


@dataclass(frozen=True)
class Segmentation:
    """Cells of one field.

    cells, nuclei : labels (H, W), 0 outside; a nucleus carries its cell's label, and several
        nuclei may share one. None: nuclei are not known.
    found : nuclei before anything was dropped.
    dropped : reason → number of nuclei that are no cell of their own.
    labels : (n_cells,), those of the cells, rising.
    runs : `label_runs` of `cells`.
    """

    cells: NDArray[np.integer]
    nuclei: Labels | None
    found: int
    dropped: dict[str, int]
    labels: NDArray[np.integer]
    runs: Runs

    @property
    def n_cells(self) -> int:
        return len(self.labels)


def from_labels(labels: NDArray[np.integer]) -> Segmentation:
    """The cells that `labels` (H, W) outline, 0 outside."""
    runs = label_runs(labels)
    there = np.unique(runs.label)
    return Segmentation(labels, None, len(there), {}, there, runs)


def segment(
    nucleus: NDArray[Any],
    cell: Float,
    nucleus_diameter: float | None,
    cell_diameter: float,
    merge_gap: float,
    find: Find | None = None,
) -> Segmentation:
    """Nuclei of `nucleus` (H, W) and the cells around them in `cell` (H, W).

    Diameters and `merge_gap` in pixels; `nucleus_diameter` None: `typical_diameter`. Nuclei of
    similar size whose gap is no wider than `merge_gap` belong to one cell. `find` (`plugin.load`)
    finds nuclei in place of `find_nuclei`; none of its nuclei is dropped for its size.
    """
    if find is None:
        objects, found, dropped = nuclei_of_size(nucleus, nucleus_diameter)
    else:
        objects = find(nucleus, nucleus_diameter)
        found, dropped = int(objects.max(initial=0)), {}
    kept = int(objects.max(initial=0))
    owner = join_nuclei(objects, kept, merge_gap)
    nuclei = np.append(0, owner + 1)[objects].astype(np.int32)
    n_cells = int(owner.max(initial=-1)) + 1
    dropped["in one cell with another nucleus"] = kept - n_cells
    cells = spread_cells(nuclei, cell, cell_diameter / 2)
    dropped = {why: n for why, n in dropped.items() if n}
    there = np.arange(1, n_cells + 1)
    return Segmentation(cells, nuclei, found, dropped, there, label_runs(cells))


def nuclei_of_size(
    image: NDArray[Any], diameter: float | None = None
) -> tuple[Labels, int, dict[str, int]]:
    """Labels 1 … n of what `find_nuclei` finds in `image` (H, W), far smaller or larger left out.

    Moreover the number found, and the number left out by reason.
    """
    diameter = diameter or typical_diameter(image)
    objects, hazy = find_nuclei(image, diameter)
    area = np.bincount(objects.ravel())[1:] / (np.pi * diameter**2 / 4 or 1)
    small, large = area < SMALLEST, area > LARGEST
    dropped = {
        "no brighter than the haze around it": hazy,
        "too small": int(small.sum()),
        "too large": int(large.sum()),
    }
    return _keep(objects, ~(small | large)), len(area) + hazy, dropped


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
    one, two = touching(grown)
    a, b = grown.ravel()[one], grown.ravel()[two]
    area = np.append(0, np.bincount(labels.ravel(), minlength=count + 1)[1:])
    like = np.maximum(area[a], area[b]) <= 2 * np.minimum(area[a], area[b])
    return _components(a[like] - 1, b[like] - 1, count)


def _without_glare(cell: Float, labels: Labels) -> Float:
    """`cell` (H, W), cut off at `BRIGHTEST`: bright debris would raise the floor above dim cells.

    labels : (H, W), nuclei and what lies around them; nuclei alone may be dark in `cell`.
    """
    area = np.bincount(labels.ravel())[1:]
    light = np.bincount(labels.ravel(), cell.ravel())[1:][area > 0] / area[area > 0]
    middle = float(np.median(light)) if len(light) else 0.0
    return np.minimum(cell, BRIGHTEST * middle) if middle > 0 else cell


def spread_cells(nuclei: Labels, cell: Float, reach: float) -> Labels:
    """Cells (H, W) grown from `nuclei` over bright `cell`, at most `reach` pixels far.

    Computed at half resolution: borders between cells are as coarse as two pixels.
    """
    smooth = gaussian_filter(cell, max(1.0, reach / 16), truncate=3)
    smooth -= background(smooth, 6 * reach)
    small, seeds = smooth[::2, ::2], nuclei[::2, ::2]
    away, nearest = distance_transform_edt(seeds == 0, return_indices=True)
    away *= 2
    small = _without_glare(small, np.where(away <= reach / 2, seeds[tuple(nearest)], 0))
    bright = small > floor(small)
    inside = (bright & (away <= reach)) | (seeds > 0)
    scale = np.percentile(small[inside], 90) if inside.any() else 1.0
    height = away / reach - np.clip(small / max(scale, 1e-6), 0, 1)
    cells = watershed(height, seeds, mask=inside)
    cells = cells.repeat(2, axis=0).repeat(2, axis=1)[: nuclei.shape[0], : nuclei.shape[1]]
    return np.where(nuclei > 0, nuclei, cells).astype(np.int32)
