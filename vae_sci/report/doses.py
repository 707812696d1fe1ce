"""Dose and response: how far the wells of each treatment lie from the controls, dose by dose."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from vae_sci.phenotypes.permutation import SIGNIFICANT
from vae_sci.report.style import (
    EVERYTHING,
    FAINT,
    VERMILLION,
    Picture,
    canvas,
    finish,
    number,
    shorten,
)

_SIDE = 1.55
_COLUMNS = 6


def dose_response(
    wells: pd.DataFrame, treatments: pd.DataFrame, doses: pd.DataFrame, most: int
) -> Picture:
    """A panel per treatment, the farthest first; contracts WELLS, TREATMENTS and DOSES."""
    title = "How far each dose moves its wells from the controls"
    dosed = wells[~wells["control"] & (wells["concentration"] > 0) & wells["distance"].notna()]
    farthest = treatments[treatments["treatment"].isin(dosed["treatment"])]
    order = farthest.groupby("treatment")["distance"].max().sort_values(ascending=False)
    names = order.index[:most].tolist()
    controls = wells.loc[wells["control"], "distance"].dropna().to_numpy()
    if not names:
        figure = canvas(5, 0.8)
        axis = figure.subplots()
        axis.set_axis_off()
        axis.text(0.5, 0.5, "No well of a treatment with a concentration above 0.", ha="center")
        return finish(figure, title, f"{len(wells):,} wells.", table=dosed)
    shown = dosed[dosed["treatment"].isin(names)]
    band = np.quantile(controls, (0.05, 0.95)) if len(controls) else None
    top = float(max(shown["distance"].max(), band[1] if band is not None else 0)) * 1.08

    lines = -(-len(names) // _COLUMNS)
    columns = max(3, -(-len(names) // lines))
    figure = canvas(columns * _SIDE + 0.4, lines * (_SIDE + 0.25) + 0.2)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axis in grid.ravel()[len(names) :]:
        axis.remove()
    for axis, name in zip(grid.ravel(), names, strict=False):
        if band is not None:
            axis.axhspan(*band, color=EVERYTHING, linewidth=0, zorder=0)
        own = shown[shown["treatment"] == name]
        _panel(axis, own, treatments[treatments["treatment"] == name])
        axis.set_title(f"{shorten(str(name), 22)}\n{_trend(doses, name)}", fontsize=6.5)
        axis.set_ylim(0, top)
        axis.yaxis.set_major_formatter(FuncFormatter(number))
    for axis in grid[:, 0]:
        axis.set_ylabel("distance, sd of controls")
    first_of_last = grid[-1, 0]
    first_of_last.set_xlabel("concentration, log scale", loc="left")
    left_out = f" {len(order) - len(names)} more treatments are left out." * (len(order) > most)
    return finish(
        figure,
        title,
        f"{len(shown):,} wells of {len(names)} treatments, the farthest first; concentrations in "
        "the platemap's unit. Distance: length of a well's mean z minus that of the controls of "
        "its plate, in sd of control cells; noise alone gives the controls' distances. ρ: Spearman "
        "correlation of dose and effect over wells; its p from doses exchanged within plates. A "
        f"full dot: the dose is told from controls at q ≤ {SIGNIFICANT:g}." + left_out,
        legend=[
            _mark("a well", "none", of_dose=False),
            _mark(f"median of the dose, q ≤ {SIGNIFICANT:g}", VERMILLION),
            _mark("median of the dose, other", "white"),
            *([Patch(color=EVERYTHING, label="9 in 10 control wells")] if band is not None else []),
        ],
        table=shown,
    )


def _panel(axis: Axes, own: pd.DataFrame, tested: pd.DataFrame) -> None:
    """Wells as rings, medians of doses on a line, full where the dose is significant."""
    dose = own["concentration"].to_numpy(dtype=float)
    axis.plot(
        dose,
        own["distance"],
        linestyle="",
        marker="o",
        markersize=3,
        markerfacecolor="none",
        markeredgecolor=FAINT,
        markeredgewidth=0.6,
    )
    median = own.groupby("concentration")["distance"].median()
    axis.plot(median.index, median, color=VERMILLION, linewidth=1, zorder=2)
    q = tested.set_index("concentration")["q_value"].reindex(median.index)
    sure = (q <= SIGNIFICANT).to_numpy()
    for chosen, face in ((sure, VERMILLION), (~sure, "white")):
        axis.plot(
            median.index[chosen],
            median[chosen],
            linestyle="",
            marker="o",
            markersize=4.5,
            markerfacecolor=face,
            markeredgecolor=VERMILLION,
            zorder=3,
        )
    axis.set_xscale("log")
    levels = np.unique(dose)
    axis.set_xlim(levels[0] / 2, levels[-1] * 2)
    ticks = levels if len(levels) <= 3 else levels[[0, len(levels) // 2, -1]]
    axis.xaxis.set_major_locator(FixedLocator(ticks.tolist()))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(number))


def _trend(doses: pd.DataFrame, name: object) -> str:
    """The trend of a treatment in a few letters, or why there is none."""
    found = doses[doses["treatment"] == name]
    if found.empty:
        return "no trend tested"
    row = found.iloc[0]
    if pd.isna(row["trend"]):
        return "one concentration"
    p = "p not tested" if pd.isna(row["p_value"]) else f"p = {number(row['p_value'])}"
    return f"ρ = {number(row['trend'])}, {p}"


def _mark(label: str, face: str, of_dose: bool = True) -> Line2D:
    return Line2D(
        [],
        [],
        color=VERMILLION,
        linestyle="-" if of_dose else "",
        linewidth=1,
        marker="o",
        markersize=4.5 if of_dose else 3,
        markerfacecolor=face,
        markeredgecolor=VERMILLION if of_dose else FAINT,
        label=label,
    )
