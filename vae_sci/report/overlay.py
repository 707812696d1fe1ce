"""What was taken for nuclei and cells: outlines on a few fields of a plate, for the eye."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from skimage.segmentation import find_boundaries

from vae_sci.config import ImagesSettings, PlateRow, SegmentationSettings
from vae_sci.contracts import FIELDS
from vae_sci.images.read import read_field
from vae_sci.report import images
from vae_sci.report.style import Picture, canvas, drawing, finish, save
from vae_sci.tiles.cells import CellFinder, cell_finder
from vae_sci.tiles.make import common_pixel_size
from vae_sci.tiles.segment import Segmentation

NUCLEUS, CELL = "#FFFFFF", "#00FF7F"
_FIELDS, _ACROSS = 4, 2
_BARS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def draw_overlay(
    row: PlateRow, results: Path, settings: SegmentationSettings, reading: ImagesSettings
) -> None:
    """Write `ledger/{plate}_segmentation.png` and `.svg`: fields spread evenly over the plate.

    Their cells are found again, as for the tiles. A plate of ready-made tiles has no fields: its
    picture says so.
    """
    index = FIELDS.read(results / "images" / f"{row.plate}.parquet")
    good = [
        rows.sort_values("channel_index")
        for _, rows in index.groupby(["well", "site"], sort=False)
        if (rows["verdict"] == "ok").all()
    ]
    with drawing():
        chosen = [good[k] for k in images.spread(len(good), _FIELDS)] if good else []
        pixel = common_pixel_size(index)
        if chosen:
            find = cell_finder(row, pd.concat(chosen), settings, reading, pixel)
            picture = overlay(row.plate, chosen, find, pixel)
        else:
            note = "No field was segmented here."
            picture = finish(canvas(4, 0.3), f"Segmentation of {row.plate}", note)
        save(picture, results / "ledger" / f"{row.plate}_segmentation")


def overlay(
    plate: str, fields: Sequence[pd.DataFrame], find: CellFinder, pixel: float | None
) -> Picture:
    """One panel per field, its rows of contract FIELDS in the order of channels."""
    channels = [str(name) for name in fields[0]["channel"]]
    stacks = [read_field(rows) for rows in fields]
    found = [
        find(str(rows["well"].iloc[0]), str(rows["site"].iloc[0]), stack)
        for rows, stack in zip(fields, stacks, strict=True)
    ]
    contrast = images.limits(np.concatenate([s.reshape(1, len(s), 1, -1) for s in stacks], axis=3))
    down = math.ceil(len(stacks) / _ACROSS)
    height, width = stacks[0].shape[1:]
    figure = canvas(7.2, 3.5 * down * height / width + 0.2 * down)
    axes = figure.subplots(down, _ACROSS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, stack, cells, rows in zip(axes, stacks, found, fields, strict=False):
        _draw(axis, images.composite(stack[None], contrast)[0], cells, pixel)
        axis.set_title(
            f"{rows['well'].iloc[0]}, site {rows['site'].iloc[0]}: {cells.n_cells} cells"
        )
    legend = [
        *images.channel_legend(channels),
        Patch(facecolor="none", edgecolor=CELL, linewidth=1.5, label="cells"),
    ]
    if found[0].nuclei is not None:
        legend.append(
            Patch(facecolor="black", edgecolor=NUCLEUS, linewidth=1.5, label="nuclei (white)")
        )
    note = (
        "Cells before any was left out at a border. "
        f"{images.contrast_note(channels, contrast)}".replace("original tiles", "fields shown")
    )
    return finish(figure, f"Segmentation of {plate}", note, legend=legend)


def _draw(axis: Axes, colour: np.ndarray, found: Segmentation, pixel: float | None) -> None:
    picture = (colour * 255).round().astype(np.uint8)
    for labels, ink in ((found.cells, CELL), (found.nuclei, NUCLEUS)):
        if labels is None:
            continue
        edge = find_boundaries(labels, mode="inner")
        picture[edge] = [int(ink[k : k + 2], 16) for k in (1, 3, 5)]
    axis.imshow(picture)
    if pixel is not None:
        height, width = picture.shape[:2]
        length = max((b for b in _BARS if b / pixel < width / 4), default=_BARS[0])
        y, x = 0.96 * height, 0.97 * width
        axis.plot([x - length / pixel, x], [y, y], color="white", linewidth=2)
        axis.text(x, y - 0.015 * height, f"{length} µm", color="white", ha="right", va="bottom")
