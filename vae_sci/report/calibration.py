"""The photon transfer curve: noise variance against mean, with the line and what it cannot tell."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vae_sci.images.calibrate import FILE, Calibration, Channel
from vae_sci.images.photon_transfer import Interval
from vae_sci.report.style import (
    BLUE,
    INK,
    VERMILLION,
    Picture,
    canvas,
    drawing,
    finish,
    number,
    save,
)


def report(found: Calibration, out: Path) -> None:
    """Draw calibration.png and .svg into `out`; print the table and what it means."""
    with drawing():
        save(calibration(found), out / "calibration")
    show(found)
    print(f"→ {out / FILE}, calibration.png, calibration.svg")


def calibration(found: Calibration) -> Picture:
    """One panel per channel."""
    channels = found.channels
    across = min(3, len(channels))
    down = math.ceil(len(channels) / across)
    figure = canvas(max(4.2, 2.9 * across), 2.7 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[len(channels) :]:
        axis.set_visible(False)
    for k, (axis, channel) in enumerate(zip(axes, channels, strict=False)):
        _draw(axis, channel)
        axis.set_title(f"channel {k}: gain {text(channel.line.gain)}")
    handles: list[Artist] = [
        Line2D([], [], color=INK, marker="o", markersize=3, linestyle="", label="patches, mean"),
        Line2D([], [], color=BLUE, linewidth=1.2, label="line"),
        Patch(color=BLUE, alpha=0.25, linewidth=0, label="its 95 % interval"),
    ]
    if found.dark:
        diamond = Line2D([], [], color=VERMILLION, marker="D", markersize=4, linestyle="")
        diamond.set_label("dark frames")
        handles.append(diamond)
    what = "differences of repeated frames" if found.repeated else "differences within images"
    return finish(
        figure,
        "Photon transfer: the camera's noise against brightness",
        f"Files: {len(found.images)}. Noise by {what}, in patches of 8 × 8 pixels, binned by mean "
        "with 95 % intervals. Slope: gain, grey levels per electron (95 % interval). "
        f"Known of channel 0: {channels[0].known}. Not known: {channels[0].unknown}.",
        legend=handles,
    )


def _draw(axis: Axes, channel: Channel) -> None:
    line = channel.line
    mean, variance, low, high = np.array([point[:4] for point in line.points]).reshape(-1, 4).T
    axis.errorbar(
        mean,
        variance,
        np.maximum([variance - low, high - variance], 0),
        color=INK,
        fmt="o",
        markersize=2.5,
        elinewidth=0.7,
        zorder=3,
    )
    start, end = line.mean_range
    if channel.dark is not None:
        start = min(start, channel.dark.offset.value)
        dark = (channel.dark.offset.value, channel.dark.variance.value)
        axis.plot(*dark, "D", color=VERMILLION, markersize=4, clip_on=False, zorder=4)
    at = np.linspace(start, end, 100)
    gain, constant = line.draws[:, :1], line.draws[:, 1:]
    axis.plot(at, line.gain.value * at + line.constant.value, color=BLUE, linewidth=1.2)
    axis.fill_between(
        at,
        *np.percentile(gain * at + constant, (2.5, 97.5), axis=0),
        color=BLUE,
        alpha=0.25,
        linewidth=0,
    )
    axis.set_xlabel("mean, grey levels")
    axis.set_ylabel("variance, grey levels²")
    axis.set_ylim(bottom=min(0, float(low.min(initial=0))))
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(MaxNLocator(5))
        ticks.set_major_formatter(FuncFormatter(number))


def show(found: Calibration) -> None:
    """Print a table of the channels with 95 % intervals, what is known and what is not."""
    console = Console(highlight=False)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("channel", "gain", "line constant", "offset", "read noise", "patches"):
        table.add_column(name, justify="right")
    for k, channel in enumerate(found.channels):
        line = channel.line
        estimates = (line.gain, line.constant, channel.offset, channel.read_noise)
        # The interval below its value: a terminal of 80 columns holds the row.
        cells = [text(estimate).replace(" (", "\n(") for estimate in estimates]
        table.add_row(str(k), *cells, f"{line.patches:,}")
    console.print(table)
    console.print(
        "In grey levels as stored; gain per electron. In brackets 95 % intervals, of chance alone."
    )
    for k, channel in enumerate(found.channels):
        console.print(f"channel {k}: known: {channel.known}.", soft_wrap=True, markup=False)
        console.print(f"  not known: {channel.unknown}.", soft_wrap=True, markup=False)
        for remark in channel.remarks:
            console.print(f"  note: {remark}.", soft_wrap=True, markup=False)


def text(estimate: Interval | None) -> str:
    """`1.023 (0.991 to 1.054)`; `not known`."""
    if estimate is None:
        return "not known"
    value, low, high = (
        number(part) if abs(part) >= 1e3 else f"{part:.4g}".replace("-", "−") for part in estimate
    )
    return f"{value} ({low} to {high})"
