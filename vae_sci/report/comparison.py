"""Several models side by side: bits, sharpness, what z tells, what they make of the same cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vae_sci.contracts import COMPARISON, RINGS
from vae_sci.report import images
from vae_sci.report.files import read_card, read_stack
from vae_sci.report.style import (
    BLUE,
    CATEGORIES,
    FAINT,
    ORANGE,
    SKY,
    SYNTHETIC,
    VERMILLION,
    Picture,
    canvas,
    drawing,
    finish,
    save,
    shorten,
)

_CELLS, _SAMPLES = 6, 4


def draw_comparison(results: Path) -> list[Path]:
    """Draw `figures/comparison` from the table of models, as PNG and SVG."""
    table = COMPARISON.read(results / COMPARISON.path)
    with drawing():
        return save(_comparison(results, table), results / "figures" / "comparison")


def _comparison(results: Path, table: pd.DataFrame) -> Picture:
    models = table["model"].tolist()
    channels = [str(name) for name in read_card(results, models[0])["channels"]]
    pictures, contrast = _mosaic(results, models, channels)
    width = 8.6
    heights = [1.0 + 0.28 * len(models), width * pictures.image.shape[0] / pictures.image.shape[1]]
    figure = canvas(width + 1.5, sum(heights) + 0.9)
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    bits, rings, share, nuisance, labels = above.subplots(1, 5, width_ratios=(1.6, 1.3, 1, 1, 1))
    _bits(bits, table)
    _rings(rings, results, models)
    _bars(share, table, ["z_share"], "Share that z carries", None)
    _bars(
        nuisance,
        table,
        ["quarter_turns", "angles", "shifts"],
        "How far z moves with\nturns, angles, shifts",
        None,
    )
    _bars(labels, table, ["auroc"], "Treatment against\ncontrol, AUROC", (0.5, 1))
    for axis in (share, nuisance, labels):
        axis.tick_params(labelleft=False)

    axis = below.subplots()
    images.show(axis, pictures)
    names = [shorten(name, 22) for name in models]
    axis.set_yticks(pictures.centres[1], ["originals", *names])
    axis.set_title(
        "The same held-out cells, each model's reconstruction of them, and (right) samples from "
        "its prior",
    )
    for label in axis.get_yticklabels()[1:]:
        label.set_color(VERMILLION)
    images.mark_synthetic(axis, pictures, range(1, len(models) + 1), range(len(pictures.x)))
    return finish(
        figure,
        "The models of this run on the same held-out cells",
        "Bits count distortion and all rates, per pixel and channel on raw grey levels: fewer is "
        "better. Fourier ring correlation of reconstruction and tile, mean over channels; the "
        "tile's camera noise lowers it. How far z moves is told over how far another cell lies, "
        f"every number of z in its sd. Framed images are {SYNTHETIC}: predicted means, without "
        "camera noise. " + images.contrast_note(channels, contrast),
        legend=images.channel_legend(channels),
        synthetic=True,
    )


def _bits(axis: Axes, table: pd.DataFrame) -> None:
    """Stacked bars, the part of each latent in bits."""
    place = np.arange(len(table))
    per_nat = table["bits"] / (table["distortion"] + table["rate_z"] + table["rate_u"])
    left = np.zeros(len(table))
    for name, colour, label in (
        ("distortion", BLUE, "distortion"),
        ("rate_u", SKY, "rate of u"),
        ("rate_z", ORANGE, "rate of z"),
    ):
        width = (table[name] * per_nat).to_numpy()
        axis.barh(place, width, 0.7, left, color=colour, label=label)
        left += width
    for y, value in zip(place, table["bits"], strict=True):
        axis.text(value, float(y), f" {value:.2f}", va="center", fontsize=6.5)
    axis.set_xlim(0, left.max() * 1.18)
    axis.set_yticks(place, [shorten(name, 18) for name in table["model"]])
    axis.invert_yaxis()
    axis.set_title("Bits per pixel and channel")
    # Below the numbers of the axis, however low the panel is.
    axis.legend(loc="upper left", bbox_to_anchor=(0, 0), borderaxespad=2.4, ncols=3, handlelength=1)


def _rings(axis: Axes, results: Path, models: list[str]) -> None:
    for name, colour in zip(models, CATEGORIES * len(models), strict=False):
        curve = RINGS.read(results / RINGS.path.format(model=name))
        mean = curve.groupby("frequency")["correlation"].mean()
        axis.plot(mean.index, mean, color=colour, linewidth=1.1, label=shorten(name, 14))
    axis.axhline(0, color=FAINT, linewidth=0.6)
    axis.set_ylim(-0.05, 1)
    axis.set_xlabel("cycles per pixel")
    axis.set_title("Ring correlation")
    axis.legend(handlelength=1, fontsize=6)


def _bars(
    axis: Axes,
    table: pd.DataFrame,
    columns: list[str],
    title: str,
    limits: tuple[float, float] | None,
) -> None:
    """One bar a model and column, in the order of the models."""
    each = 0.7 / len(columns)
    for k, column in enumerate(columns):
        place = np.arange(len(table)) + (k - (len(columns) - 1) / 2) * each
        values = table[column].to_numpy(dtype=float)
        axis.barh(place, values, each * 0.9, color=CATEGORIES[k], label=column)
        for y, value in zip(place, values, strict=True):
            if np.isfinite(value):
                axis.text(max(value, 0), y, f" {value:.3f}", va="center", fontsize=6)
    axis.set_ylim(len(table) - 0.5, -0.5)
    axis.set_yticks([])
    if limits:
        axis.set_xlim(limits[0], limits[1] + 0.2 * (limits[1] - limits[0]))
    else:
        found = table[columns].to_numpy(dtype=float)
        low, high = np.nanmin(found, initial=0), np.nanmax(found, initial=1e-9)
        axis.set_xlim(low, high + 0.25 * (high - low))
    axis.set_title(title)


def _mosaic(
    results: Path, models: list[str], channels: list[str]
) -> tuple[images.Mosaic, np.ndarray]:
    """Originals, then a row a model: its reconstructions and samples, in one contrast."""

    def of(model: str, name: str) -> np.ndarray:
        return read_stack(results / "generated" / model / f"{name}.ome.tif", len(channels))

    originals = of(models[0], "originals")
    contrast = images.limits(originals)
    rows = [list(images.composite(originals[:_CELLS], contrast))]
    for model in models:
        made = np.concatenate(
            [of(model, "reconstructions")[:_CELLS], of(model, "samples")[:_SAMPLES]]
        )
        rows.append(list(images.composite(made, contrast)))
    return images.mosaic(rows, column_breaks=[_CELLS], row_breaks=[1]), contrast
