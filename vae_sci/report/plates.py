"""Plate effects: what normalisation did to them, and where on the plates wells stand out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from vae_sci.phenotypes.effects import places
from vae_sci.report.style import (
    BLUE,
    FAINT,
    SEQUENTIAL,
    VERMILLION,
    Picture,
    canvas,
    finish,
    number,
    shorten,
)

_MOST = 24
_COLUMNS = 4
_TARGETS = (
    ("plate of controls", "Plate, told from\ncontrol cells"),
    ("plate of all cells", "Plate, told from\nall cells"),
    ("treatment", "Treatment, told\nfrom other plates"),
)


def plate_effects(wells: pd.DataFrame, normalization: pd.DataFrame) -> Picture:
    """Accuracies after each step, then the plates; contracts WELLS and NORMALIZATION.

    Plates that are shown: the first `_MOST` by the median distance of their control wells.
    """
    control = wells[wells["control"]].groupby("plate")["distance"].median()
    plates = control.reindex(wells["plate"].unique()).sort_values(ascending=False).index[:_MOST]
    on_plates = {plate: _places(wells[wells["plate"] == plate]) for plate in plates}
    shown = [plate for plate in plates if len(on_plates[plate])]
    lines = -(-len(shown) // _COLUMNS)
    columns = max(2, min(_COLUMNS, len(shown)))
    figure = canvas(max(2.05 * columns, 6.6), 1.9 + 1.55 * lines)
    halves = figure.subfigures(2, 1, height_ratios=[1.9, max(1.55 * lines, 0.1)], squeeze=False)
    above, below = halves[:, 0]
    for axis, (target, name) in zip(above.subplots(1, 3), _TARGETS, strict=True):
        _steps(axis, normalization[normalization["target"] == target], name)
    if shown:
        every = wells["distance"].dropna().to_numpy()
        high = float(np.percentile(every, 98)) if len(every) else 1.0
        grid = below.subplots(lines, columns, squeeze=False)
        for axis in grid.ravel()[len(shown) :]:
            axis.remove()
        for axis, plate in zip(grid.ravel(), shown, strict=False):
            mesh = _plate(axis, on_plates[plate], pd.concat(on_plates.values()), high)
            axis.set_title(shorten(str(plate), 26))
        bar = below.colorbar(
            mesh,
            ax=grid.ravel()[: len(shown)].tolist(),
            extend="max",
            aspect=18,
            shrink=min(1.0, 2 / lines),
            anchor=(0, 1.0),
        )
        bar.set_label("distance from controls,\nsd of control cells")
        bar.outline.set_visible(False)
    total = wells["plate"].nunique()
    return finish(
        figure,
        "What is left of plate effects in z",
        "Above: how often the ten nearest cells of other wells tell plate or treatment right, "
        "after each step; the line is guessing. Plates should become hard to tell, treatments "
        "should stay. Below: distance of each well from the control wells of its plate; controls "
        "are framed, each beside the other ones. Controls that stand out, or treated wells that "
        f"stand out along an edge, are artefacts until shown otherwise. {len(wells):,} wells."
        + f" Of {total} plates the {len(shown)} whose controls differ most."
        * (len(shown) < total),
        legend=[
            Line2D(
                [],
                [],
                marker="s",
                markerfacecolor="none",
                markeredgecolor=VERMILLION,
                linestyle="",
                label="control well",
            )
        ],
        table=wells[wells["plate"].isin(shown)],
    )


def _steps(axis: Axes, rows: pd.DataFrame, name: str) -> None:
    accuracy = rows["accuracy"].to_numpy(dtype=float)
    place = np.arange(len(rows))
    axis.bar(place, np.nan_to_num(accuracy), width=0.6, color=BLUE)
    for x, value in enumerate(accuracy.tolist()):
        known = np.isfinite(value)
        axis.text(
            x,
            value if known else 0,
            number(value) if known else "–",
            ha="center",
            va="bottom",
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
        )
    chance = rows["chance"].dropna()
    if len(chance):
        axis.axhline(chance.iloc[0], color=FAINT, linestyle=":", linewidth=1)
    axis.set_xticks(place, rows["step"].tolist())
    axis.set_ylim(0, 1.12)
    axis.set_yticks([0, 0.5, 1])
    axis.set_title(name)
    axis.set_ylabel("balanced accuracy")


def _places(wells: pd.DataFrame) -> pd.DataFrame:
    """Wells whose names tell row and column, with these, from 0."""
    rows, columns = places(wells["well"].to_numpy(dtype=str))
    known = np.isfinite(rows)
    return wells[known].assign(
        row=rows[known].astype(int) - 1, column=columns[known].astype(int) - 1
    )


def _plate(axis: Axes, wells: pd.DataFrame, every: pd.DataFrame, high: float) -> object:
    """One plate as its wells lie, from the first to the last row and column of `every` plate."""
    top, left = every["row"].min(), every["column"].min()
    value = np.full((every["row"].max() - top + 1, every["column"].max() - left + 1), np.nan)
    down, across = wells["row"] - top, wells["column"] - left
    value[down, across] = wells["distance"].to_numpy(dtype=float)
    mesh = axis.pcolormesh(
        value, cmap=SEQUENTIAL, vmin=0, vmax=high, edgecolor="white", linewidth=0.4
    )
    axis.set_facecolor("#EEEEEE")
    for y, x, control in zip(down, across, wells["control"], strict=True):
        if control:
            axis.add_patch(
                Rectangle((x + 0.08, y + 0.08), 0.84, 0.84, fill=False, ec=VERMILLION, lw=1.1)
            )
    axis.invert_yaxis()
    axis.set_aspect("equal")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0, pad=1, labelsize=5.5)
    rows, columns = (np.arange(0, n, max(1, -(-n // 12))) for n in value.shape)
    axis.set_yticks(rows + 0.5, [_letters(row + top) for row in rows])
    axis.set_xticks(columns + 0.5, columns + left + 1)
    return mesh


def _letters(row: int) -> str:
    """The name of a row, from 0: A, B, … Z, AA, …"""
    return ("A" if row > 25 else "") + chr(ord("A") + row % 26)
