"""One field → its tiles, masks and measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.config import ImagesSettings, PlateRow, SegmentationSettings
from vae_sci.images.flat_field import read_flat_field
from vae_sci.images.quality import camera_ceiling, measure_field, moments
from vae_sci.images.read import read_field
from vae_sci.tiles.cells import cell_finder
from vae_sci.tiles.crop import CELL, corners, crop, crop_masks, intensities, tile_quality
from vae_sci.tiles.segment import Runs, Segmentation, label_runs
from vae_sci.tiles.staging import CutField


class FieldCutter:
    """Cuts fields of one plate, by number.

    Parameters
    ----------
    fields : the plate's usable rows of contract FIELDS; a field's are those of its well and site.
    size : of a tile, pixels. pixel : µm per pixel, if it is known.
    flat : of the plate's flat field, for the intensities of tiles; None: light counts as even.
    `places` are the wells and sites of the fields. Several threads may call it at once. Raises as
    `cell_finder` and `read_flat_field`.
    """

    def __init__(
        self,
        row: PlateRow,
        fields: pd.DataFrame,
        size: int,
        segmentation: SegmentationSettings,
        images: ImagesSettings,
        pixel: float | None,
        flat: Path | None = None,
    ) -> None:
        self.size = size
        by_field = list(fields.groupby(["well", "site"], sort=False))
        self.places = [(str(well), str(site)) for (well, site), _ in by_field]
        self.fields = [rows for _, rows in by_field]
        self.channels = list(self.fields[0].sort_values("channel_index")["channel"])
        height, width = (int(fields[name].iloc[0]) for name in ("height", "width"))
        shape = (len(self.channels), height, width)
        self.flat = None if flat is None else read_flat_field(flat, shape)
        self.find = cell_finder(row, fields, segmentation, images, pixel)

    def __call__(self, number: int) -> CutField:
        """Raises `InputError` where the field cannot be read."""
        field = read_field(self.fields[number])
        found = self.find(*self.places[number], field)
        labels, cells, dropped = measure(found, self.size)
        first = np.stack([cells["y0"], cells["x0"]], axis=1).astype(np.int64)
        tiles = crop(field, first, self.size)
        masks = crop_masks(found.cells, labels, first, self.size)
        ceilings = [camera_ceiling(plane.max()) for plane in field]
        cells |= tile_quality(tiles, self.channels, ceilings, masks == CELL)
        if self.flat is not None:
            even = crop(self.flat.correct(field), first, self.size)
            cells |= intensities(moments(even), self.channels)
        return CutField(
            tiles,
            masks,
            labels,
            cells,
            measure_field(field, found.cells, ceilings),
            found.found,
            found.n_cells,
            dict(found.dropped),
            dropped,
        )


def measure(
    found: Segmentation, size: int
) -> tuple[NDArray[np.integer], dict[str, NDArray[np.float64]], dict[str, int]]:
    """Labels (n,) of cells whose tile of `size` pixels can be cut, what is measured of each of
    them (n,), and the number of other cells by reason.

    Measures: y, x (mean of the nucleus, else of the cell; pixels), y0, x0, area, nucleus_area
    (pixels², NaN where nuclei are not known).
    """
    area, y, x = _areas_and_centres(found.runs, found.labels)
    nucleus_area = np.full(len(area), np.nan)
    if found.nuclei is not None:
        nucleus_area, y, x = _areas_and_centres(label_runs(found.nuclei), found.labels)
    first = corners(np.stack([y, x], axis=1), size)
    edge = np.concatenate([found.cells[[0, -1]].ravel(), found.cells[:, [0, -1]].ravel()])
    cut = np.isin(found.labels, edge)
    leaves = (first < 0).any(axis=1) | (first + size > found.cells.shape).any(axis=1)
    kept = ~cut & ~leaves
    measures = {
        "y": y, "x": x, "y0": first[:, 0], "x0": first[:, 1], "area": area,
        "nucleus_area": nucleus_area,
    }  # fmt: skip
    dropped = {"cut at border": int(cut.sum()), "tile leaves the field": int((leaves & ~cut).sum())}
    return (
        found.labels[kept],
        {name: values[kept].astype(np.float64) for name, values in measures.items()},
        {why: n for why, n in dropped.items() if n},
    )


def _areas_and_centres(runs: Runs, labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Area, mean row and mean column (3, n) of each of `labels` (n,), rising."""
    number, length = np.searchsorted(labels, runs.label), runs.length.astype(np.float64)
    middle = runs.column + (length - 1) / 2
    area, rows, columns = (
        np.bincount(number, weights, len(labels))
        for weights in (length, length * runs.row, length * middle)
    )
    return np.stack([area, rows / area, columns / area])
