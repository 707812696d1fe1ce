"""Straight lines in z: as strips with the size of every step, and as an animation."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vae_sci.files import publish
from vae_sci.report import images
from vae_sci.report.style import (
    CONTROL,
    FAINT,
    INK,
    SYNTHETIC,
    VERMILLION,
    Picture,
    canvas,
    finish,
    number,
    shorten,
)

_SHOWN = 9  # images of a strip
_HELD = 6  # frames for which an animation rests at each end
_DELAY = 80  # ms per frame
_FRAME_DPI = 100
_PATHS = {
    "treatments": "Between two means of z, to the treatment farthest from the controls",
    "cells": "Between two real cells, typical of the two largest clusters",
}


@dataclass(frozen=True)
class Strip:
    """One line in z, ready to be drawn.

    Parameters
    ----------
    kind : "treatments" or "cells".
    start, end : what the ends are called.
    frames : (S, H, W, 3), 0 … 1, colour images made by the model.
    distance : (S − 1,), between neighbours in image space.
    tiles : the real tiles at the ends, (H, W, 3) each; none where the ends are means.
    """

    kind: str
    start: str
    end: str
    frames: np.ndarray
    distance: np.ndarray
    tiles: tuple[np.ndarray, ...]


def strips(
    results: Path,
    table: pd.DataFrame,
    made: np.ndarray,
    cells: pd.DataFrame,
    tiles: pd.DataFrame,
    contrast: np.ndarray,
) -> list[Strip]:
    """The lines of `table` (contract MORPHS), with images from `made` (N, C, H, W).

    Parameters
    ----------
    results : folder with the stores tiles/{plate}.zarr.
    cells, tiles : contracts CELLS and TILES (all plates in one table).
    contrast : grey levels of black and full colour, (C, 2).
    """
    found = []
    for kind, line in table.sort_values("row").groupby("line", sort=False):
        start, end = str(line["start"].iloc[0]), str(line["end"].iloc[0])
        real: tuple[np.ndarray, ...] = ()
        if kind == "cells":
            pixels = images.read_tiles(results, pd.Series([start, end]), tiles)
            real = tuple(images.composite(pixels, contrast))
            start, end = _called(cells, start), _called(cells, end)
        frames = images.composite(made[line["row"].to_numpy(dtype=int)], contrast)
        distance = line["distance"].to_numpy(dtype=float)[1:]
        found.append(Strip(str(kind), start, end, frames, distance, real))
    return found


def draw(lines: Sequence[Strip], channels: Sequence[str], contrast: np.ndarray) -> Picture:
    """One strip of images per line; below each, how far every image lies from the one before."""
    side = 0.86
    pictures = []
    for line in lines:
        shown = [line.frames[k] for k in images.spread(len(line.frames), _SHOWN)]
        # The place of the real tiles stays free where there are none: strips lie in one grid.
        first, last = line.tiles or (None, None)
        row = [first, *shown, last]
        pictures.append(images.mosaic([row], column_breaks=[1, len(row) - 1]))
    wide = side * max(p.image.shape[1] / p.shape[1] for p in pictures)
    figure = canvas(wide + 0.3, len(lines) * (side + 1.05))
    grid = figure.subplots(len(lines), 1, squeeze=False)[:, 0]
    for axis, line, picture in zip(grid, lines, pictures, strict=True):
        _strip(axis, line, picture)
    left_out = (
        ""
        if any(line.kind == "treatments" for line in lines)
        else " There is no treatment to walk to."
    )
    return finish(
        figure,
        "What changes along straight lines in z",
        f"Framed images are {SYNTHETIC}: predicted means E[x|z,u], without camera noise, with u at "
        f"its prior's mean. {_SHOWN} of {len(lines[0].frames)} evenly spaced points are shown. "
        "Bars: root mean square difference of neighbouring images over pixels and channels, in "
        "standard deviations (sd) of each channel over the training tiles; bars of one height mean "
        "even steps. How much they vary: their standard deviation over their mean."
        + left_out
        + " "
        + images.contrast_note(channels, contrast),
        legend=images.channel_legend(channels),
        synthetic=True,
    )


def _strip(axis: Axes, line: Strip, picture: images.Mosaic) -> None:
    """One line: its images, the names of its ends, and the bars below."""
    images.show(axis, picture)
    columns = range(1, len(picture.x) - 1)
    images.mark_synthetic(axis, picture, (0,), columns)
    axis.set_title(f"{_PATHS[line.kind]}: {line.start} → {line.end}")
    centres = picture.centres[0]
    last = len(line.frames) - 1
    heads = [f"{k / last:.3g}" for k in images.spread(len(line.frames), _SHOWN)]
    real = "real cell" if line.tiles else ""
    axis.set_xticks(centres, [real, *heads, real])
    for label in axis.get_xticklabels()[1:-1]:
        label.set_color(VERMILLION)

    # Only under the images that the model made, so that a bar lies between the two it compares.
    span = picture.x[1], picture.x[-2] + picture.shape[1]
    full = picture.image.shape[1]
    bars = axis.inset_axes((span[0] / full, -0.72, (span[1] - span[0]) / full, 0.62))
    left, right = centres[1], centres[-2]
    steps = len(line.distance)
    middle = left + (np.arange(steps) + 0.5) / steps * (right - left)
    bars.bar(middle, line.distance, width=0.8 * (right - left) / steps, color=CONTROL)
    mean = float(line.distance.mean())
    bars.plot([left, right], [mean, mean], color=INK, linewidth=0.8, linestyle=":")
    unevenness = line.distance.std() / mean if mean > 0 else 0.0
    bars.text(
        span[1] + 0.01 * (right - left),
        mean,
        f"mean; bars\nvary by {unevenness:.0%}",
        fontsize=6.5,
        va="center",
    )
    bars.set_xlim(*span)
    bars.set_ylim(0, max(float(line.distance.max()) * 1.1, 1e-12))
    bars.set_xticks([])
    bars.spines["bottom"].set_bounds(left, right)
    bars.set_ylabel("step, sd")
    bars.yaxis.set_major_locator(MaxNLocator(3))
    bars.yaxis.set_major_formatter(FuncFormatter(number))


def animation(lines: Sequence[Strip]) -> np.ndarray:
    """Frames (F, H, W, 3), uint8, from start to end and back: all lines side by side.

    That they are synthetic is written into the images themselves.
    """
    side = 2.5
    figure = Figure(figsize=(len(lines) * (side + 0.2), side + 0.75), dpi=_FRAME_DPI)
    figure.subplots_adjust(left=0.03, right=0.97, bottom=0.24, top=0.97, wspace=0.06)
    drawn = FigureCanvasAgg(figure)
    moving = []
    for axis, line in zip(figure.subplots(1, len(lines), squeeze=False)[0], lines, strict=True):
        axis.set_axis_off()
        image = axis.imshow(line.frames[0], interpolation="nearest", vmin=0, vmax=1)
        axis.text(
            0.02,
            0.02,
            SYNTHETIC.upper(),
            transform=axis.transAxes,
            fontsize=6.5,
            color="white",
            bbox={"facecolor": VERMILLION, "linewidth": 0, "pad": 2},
            va="bottom",
        )
        for x, name, place in ((0, line.start, "left"), (1, line.end, "right")):
            axis.text(
                x, -0.11, _broken(name), transform=axis.transAxes, ha=place, va="top", fontsize=6.5
            )
        axis.plot([0, 1], [-0.06] * 2, color=FAINT, transform=axis.transAxes, clip_on=False)
        (marker,) = axis.plot(
            [0], [-0.06], "o", color=VERMILLION, transform=axis.transAxes, clip_on=False
        )
        moving.append((image, marker, line.frames))
    frames = []
    for position in np.linspace(0, 1, len(lines[0].frames)):
        for image, marker, images_of_line in moving:
            image.set_data(images_of_line[round(position * (len(images_of_line) - 1))])
            marker.set_xdata([position])
        drawn.draw()
        frames.append(np.asarray(drawn.buffer_rgba())[..., :3].copy())
    there = [frames[0]] * _HELD + frames[1:-1] + [frames[-1]] * _HELD
    return np.stack(there + frames[-2:0:-1])


def save_animation(frames: np.ndarray, path: Path) -> Path:
    """Write frames (F, H, W, 3), uint8, as an animated PNG, marked as synthetic in its metadata.

    Browsers play it; viewers that know no animation show the first frame.
    """
    from imagecodecs import apng_encode

    encoded = bytes(apng_encode(frames, delay=_DELAY))
    head = 8 + 25  # the PNG signature and the chunk IHDR, after which text may stand
    words = {"Synthetic": "true", "Description": f"Contains images that are {SYNTHETIC}."}
    text = b"".join(_chunk(b"tEXt", f"{k}\0{v}".encode("latin-1")) for k, v in words.items())
    with publish(path) as temporary:
        temporary.write_bytes(encoded[:head] + text + encoded[head:])
    return path


def _chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file: length, name, content, checksum (PNG specification, section 5.3)."""
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def _called(cells: pd.DataFrame, cell_id: str) -> str:
    """The cell with its treatment."""
    cell = cells[cells["cell_id"] == cell_id].iloc[0]
    given = "" if pd.isna(cell["treatment"]) else f", {cell['treatment']}"
    dose = f" {number(cell['concentration'])}" if cell["concentration"] > 0 else ""
    return f"{cell_id}{given}{dose}"


def _broken(name: str) -> str:
    """A name in short lines, for the room below a frame."""
    return "\n".join(shorten(part, 20) for part in name.split(", "))
