"""One cell on a page: its tile, what the model makes of it, its field, its neighbours, its row."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from vae_sci.files import publish
from vae_sci.report import images
from vae_sci.report.sheet import told
from vae_sci.report.style import (
    DPI,
    SYNTHETIC,
    VERMILLION,
    canvas,
    drawing,
    finish,
    scale_bar,
    shorten,
)

WIDTH = 8.6  # inches
BOX = "#FFFFFF"


@dataclass(frozen=True)
class Cell:
    """What there is to show of a cell; a sentence stands for what is not there.

    Parameters
    ----------
    row : of table `cells`. tile, made : (C, H, W), raw grey levels, and what the model makes of it.
    field : (C, height, width), raw grey levels. corner : the tile's first row and column in it.
    near, near_tiles : the nearest cells with their `distance`, and their tiles (N, C, H, W).
    """

    row: pd.Series
    channels: Sequence[str]
    pixel_size_um: float | None
    tile: np.ndarray
    made: np.ndarray | str
    field: np.ndarray | str
    corner: tuple[int, int]
    near: pd.DataFrame
    near_tiles: np.ndarray


def draw_cell(cell: Cell, path: Path) -> None:
    """Write the page as a PNG."""
    contrast = images.limits(np.concatenate([cell.tile[None], cell.near_tiles]))
    made = cell.made if isinstance(cell.made, np.ndarray) else None
    stacks = [cell.tile] if made is None else [cell.tile, made]
    single = images.mosaic([_parts(stack, contrast) for stack in stacks], column_breaks=[1])
    near = images.mosaic([list(images.composite(cell.near_tiles, contrast))])
    with drawing():
        top = WIDTH * single.image.shape[0] / single.image.shape[1]
        low = WIDTH * near.image.shape[0] / near.image.shape[1]
        figure = canvas(WIDTH, top + low + 4.6)
        grid = figure.add_gridspec(3, 2, height_ratios=[top + 0.3, 4.0, low + 0.3])
        tiles, field, about, others = (
            figure.add_subplot(place) for place in (grid[0, :], grid[1, 0], grid[1, 1], grid[2, :])
        )
        images.show(tiles, single)
        names = [shorten(name, 22) for name in cell.channels]
        tiles.set_xticks(single.centres[0], ["all channels", *names])
        tiles.set_yticks(
            single.centres[1],
            ["tile", f"reconstruction\n{textwrap.fill(SYNTHETIC, 16)}"][: len(stacks)],
        )
        scale_bar(tiles, cell.tile.shape[1:], cell.pixel_size_um)
        if made is not None:
            tiles.get_yticklabels()[1].set_color(VERMILLION)
            images.mark_synthetic(tiles, single, [1], range(len(cell.channels) + 1))
        _field(field, cell, contrast)
        _about(about, cell.row)
        images.show(others, near)
        others.set_title("Nearest cells in z, all channels")
        captions = [
            "\n".join([shorten(row["cell_id"], 20), shorten(told(row["treatment"]), 20)])
            + f"\n{row['distance']:.2f}"
            for row in cell.near.to_dict("records")
        ]
        others.set_xticks(near.centres[0], captions, fontsize=5)
        others.set_yticks([])
        note = (
            f"Distances in z: standard deviations of the controls, over all dimensions. "
            f"{images.contrast_note(cell.channels, contrast)}"
        )
        if made is None:
            note = f"{cell.made} {note}"
        else:
            note = f"Framed: {SYNTHETIC}, E[x|z,u] at the posterior means, without noise. {note}"
        legend = images.channel_legend(cell.channels)
        whole = finish(figure, f"Cell {cell.row['cell_id']}", note, legend=legend).figure
        with publish(path) as temporary:
            whole.savefig(temporary, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.08)


def _parts(tile: np.ndarray, contrast: np.ndarray) -> list[np.ndarray]:
    """Composite and single channels of a tile (C, H, W), as colours (H, W, 3)."""
    grey = images.scaled(tile[None], contrast)[0]
    return [
        images.composite(tile[None], contrast)[0],
        *(np.repeat(plane[..., None], 3, axis=2) for plane in grey),
    ]


def _field(axis: Axes, cell: Cell, contrast: np.ndarray) -> None:
    """The field with the tile boxed, or why it is not there."""
    axis.set_axis_off()
    axis.set_title("Its field, the tile boxed")
    if isinstance(cell.field, str):
        axis.text(0, 0.98, textwrap.fill(cell.field, 60), va="top", transform=axis.transAxes)
        return
    axis.imshow(images.composite(cell.field[None], contrast)[0])
    height, width = cell.tile.shape[1:]
    y, x = cell.corner
    axis.add_patch(
        Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=BOX, linewidth=1.2)
    )
    scale_bar(axis, cell.field.shape[1:], cell.pixel_size_um)


def _about(axis: Axes, row: pd.Series) -> None:
    """The cell's row of the table, without its z, in as many lines as fit."""
    axis.set_axis_off()
    axis.set_title("Its row in the table of cells (z left out)")
    plain = [name for name in row.index if not name.startswith("z_")]
    lines = [f"{shorten(name, 30)}: {shorten(told(row[name]), 34)}" for name in plain]
    half = max(22, -(-len(lines) // 2))
    for column, part in enumerate((lines[:half], lines[half:])):
        axis.text(
            0.52 * column,
            0.99,
            "\n".join(part),
            va="top",
            fontsize=min(6.5, 6.5 * 28 / half),
            transform=axis.transAxes,
            linespacing=1.35,
        )
