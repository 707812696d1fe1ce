"""A sheet of tiles: what the cells of a question look like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from vae_sci.files import publish
from vae_sci.progress import say
from vae_sci.report import images
from vae_sci.report.style import DPI, canvas, drawing, finish, number, scale_bar, shorten

COLUMNS, MOST = 10, 200
EDGE = 0.8  # inches of a tile
CAPTIONS = ("treatment", "distance")  # columns that are told where they are there


def draw_sheet(
    cells: pd.DataFrame,
    tiles: np.ndarray,
    channels: Sequence[str],
    pixel_size_um: float | None,
    path: Path,
    title: str,
) -> None:
    """Write the tiles of the first rows of `cells` (column `cell_id`), in order, as a PNG.

    Under each stands its cell_id, and treatment and distance where its row has them. One contrast
    for the whole sheet. Where there are more rows than tiles, note and terminal say so.

    Parameters
    ----------
    tiles : (N, C, H, W), raw grey levels, of the first N rows, at most `MOST`.
    """
    shown = cells.head(len(tiles))
    contrast = images.limits(tiles)
    pictures = list(images.composite(tiles, contrast))
    rows = [pictures[start : start + COLUMNS] for start in range(0, len(pictures), COLUMNS)]
    with drawing():
        columns = min(COLUMNS, len(pictures))
        figure = canvas(max(EDGE * columns, 3.2), (EDGE + 0.3) * len(rows))
        axes = figure.subplots(len(rows), columns, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, picture, row in zip(axes, pictures, shown.to_dict("records"), strict=False):
            axis.imshow(picture)
            lines = [told(row[name]) for name in CAPTIONS if name in row and pd.notna(row[name])]
            axis.set_title(
                "\n".join([shorten(str(row["cell_id"]), 20), shorten(", ".join(lines), 20)]),
                fontsize=4,
                pad=2,
            )
        note = f"{len(shown):,} of {len(cells):,} rows" if len(cells) > len(tiles) else "Real tiles"
        scale_bar(axes[0], tiles.shape[2:], pixel_size_um)
        whole = finish(
            figure,
            title,
            f"{note}. {images.contrast_note(channels, contrast)}",
            legend=images.channel_legend(channels),
        ).figure
        with publish(path) as temporary:
            whole.savefig(temporary, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.08)
    if len(cells) > len(tiles):
        say(f"{path}: the first {len(tiles)} of {len(cells):,} rows")


def told(value: object) -> str:
    """A value of a table in a few characters; nothing where there is none."""
    if value is None or value is pd.NA or value != value:
        return ""
    return number(value) if isinstance(value, float) else str(value)
