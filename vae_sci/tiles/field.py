"""One field → its tiles, masks and measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from vae_sci.config import ImagesSettings, PlateRow, SegmentationSettings
from vae_sci.images.flat_field import read_flat_field
from vae_sci.images.quality import camera_ceiling, measure_field
from vae_sci.images.read import read_field
from vae_sci.tiles.cells import cell_finder
from vae_sci.tiles.crop import CELL, corners, crop, crop_masks, intensities, tile_quality
from vae_sci.tiles.segment import Segmentation
from vae_sci.tiles.staging import CutField


class FieldCutter:
    """Cuts fields of one plate, by number.

    Parameters
    ----------
    fields : of each field its rows of the plate's table of fields, a row per channel.
    size : of a tile, pixels. pixel : µm per pixel, if it is known.
    flat : of the plate's flat field, for the intensities of tiles; None: light counts as even.
    Raises as `cell_finder` and `read_flat_field`.
    """

    def __init__(
        self,
        row: PlateRow,
        fields: list[pd.DataFrame],
        size: int,
        segmentation: SegmentationSettings,
        images: ImagesSettings,
        pixel: float | None,
        flat: Path | None = None,
    ) -> None:
        self.plate, self.fields, self.size = row.plate, fields, size
        self.channels = list(fields[0].sort_values("channel_index")["channel"])
        height, width = (int(fields[0][name].iloc[0]) for name in ("height", "width"))
        shape = (len(self.channels), height, width)
        self.flat = None if flat is None else read_flat_field(flat, shape)
        self.find = cell_finder(row, pd.concat(fields), segmentation, images, pixel)

    def __call__(self, number: int) -> CutField:
        """Raises `InputError` where the field cannot be read."""
        rows = self.fields[number]
        well, site = str(rows["well"].iloc[0]), str(rows["site"].iloc[0])
        where = {"plate": self.plate, "well": well, "site": site}
        field = read_field(rows)
        found = self.find(well, site, field)
        measured = pd.DataFrame(measure_field(field)).assign(
            **where, channel=self.channels, cells=found.n_cells
        )
        cells, dropped = measure(found, self.size)
        first = cells[["y0", "x0"]].to_numpy(np.int64)
        tiles = crop(field, first, self.size)
        masks = crop_masks(found.cells, cells["label"].to_numpy(np.int64), first, self.size)
        ceilings = [camera_ceiling(plane.max()) for plane in field]
        cells = pd.concat(
            [cells, tile_quality(tiles, self.channels, ceilings, masks == CELL)], axis=1
        )
        if self.flat is not None:
            even = crop(self.flat.correct(field), first, self.size)
            cells = cells.assign(**intensities(even, self.channels))
        cells = cells.assign(**where)
        names = found.names[cells.pop("label") - 1]
        cells["cell_id"] = [f"{self.plate}/{well}/{site}/{name}" for name in names]
        return CutField(
            tiles, masks, cells, measured, found.found, found.n_cells, dict(found.dropped), dropped
        )


def measure(found: Segmentation, size: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Cells whose tile of `size` pixels can be cut, and the number of others by reason.

    Columns: label, y, x (mean of the nucleus, else of the cell; pixels), y0, x0, area,
    nucleus_area (pixels², none where nuclei are not known).
    """
    height, width = found.cells.shape
    count = found.n_cells
    middle = found.cells if found.nuclei is None else found.nuclei
    place = np.flatnonzero(middle)
    label = middle.ravel()[place]
    area = np.bincount(label, minlength=count + 1)[1:]
    y = np.bincount(label, place // width, count + 1)[1:] / area
    x = np.bincount(label, place % width, count + 1)[1:] / area
    first = corners(np.stack([y, x], axis=1), size)
    edge = np.concatenate([found.cells[[0, -1]].ravel(), found.cells[:, [0, -1]].ravel()])
    cut = np.isin(np.arange(1, count + 1), edge)
    leaves = (first < 0).any(axis=1) | (first + size > [height, width]).any(axis=1)
    table = pd.DataFrame(
        {
            "label": np.arange(1, count + 1),
            "y": y,
            "x": x,
            "y0": first[:, 0],
            "x0": first[:, 1],
            "area": np.bincount(found.cells.ravel(), minlength=count + 1)[1:],
            "nucleus_area": np.nan if found.nuclei is None else area,
        }
    )
    dropped = {"cut at border": int(cut.sum()), "tile leaves the field": int((leaves & ~cut).sum())}
    return table[~cut & ~leaves].reset_index(drop=True), {k: n for k, n in dropped.items() if n}
