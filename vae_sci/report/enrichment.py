"""Which treatments fill which clusters: the heat map of log2 enrichment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vae_sci.phenotypes.permutation import SIGNIFICANT
from vae_sci.report.style import (
    DIVERGING,
    FAINT,
    INK,
    NOT_GIVEN,
    UNSTABLE,
    Picture,
    canvas,
    finish,
    number,
    shorten,
    unstable_note,
)

_ROWS = 150
_KEY = ["treatment", "concentration"]


def enrichment(table: pd.DataFrame, treatments: pd.DataFrame, clusters: pd.DataFrame) -> Picture:
    """Treatments with their concentrations against clusters.

    Contracts ENRICHMENT, TREATMENTS and CLUSTERS. Numbers of unstable clusters are marked.
    """
    title = "Which clusters each treatment fills more, or less, than the controls do"
    if table.empty:
        figure = canvas(5, 0.8)
        axis = figure.subplots()
        axis.set_axis_off()
        axis.text(0.5, 0.5, "There is no treatment to compare with controls.", ha="center")
        return finish(figure, title, "The table of enrichment has no rows.", table=table)
    rows = treatments.merge(table[_KEY].drop_duplicates(), on=_KEY)
    total = len(rows)
    reduced = ""
    if len(rows) > _ROWS:
        strongest = rows.sort_values("distance", ascending=False, kind="stable")
        rows = strongest.drop_duplicates("treatment").head(_ROWS)
        reduced = (
            f" Of {total} treatments with concentrations, {len(rows)} are shown: per treatment the "
            "concentration farthest from the controls."
        )
    columns = sorted(table["cluster"].unique(), key=lambda c: (len(c), c))
    keyed = rows[_KEY].assign(row=np.arange(len(rows))).merge(table, on=_KEY, how="left")
    keyed = keyed.dropna(subset=["cluster"])
    place = (keyed["row"].to_numpy(), pd.Index(columns).get_indexer(keyed["cluster"]))
    value = np.full((len(rows), len(columns)), np.nan)
    value[place] = keyed["log2_enrichment"].to_numpy(dtype=float)
    significant = np.zeros(value.shape, dtype=bool)
    significant[place] = keyed["q_value"].to_numpy(dtype=float) <= SIGNIFICANT

    order = _order(rows, value)
    rows, value, significant = rows.iloc[order], value[order], significant[order]
    finite = np.abs(value[np.isfinite(value)])
    bound = max(1.0, float(np.ceil(np.percentile(finite, 98)))) if finite.size else 1.0

    cell = 0.15 if len(rows) > 40 else 0.19
    width, height = max(len(columns) * 0.24, 1.2), max(len(rows) * cell, 1.6)
    figure = canvas(width + 4.4, height + 0.7)
    axis = figure.subplots()
    mesh = axis.pcolormesh(
        value, cmap=DIVERGING, vmin=-bound, vmax=bound, edgecolor="white", linewidth=0.4
    )
    axis.set_facecolor("#EEEEEE")
    down, across = np.nonzero(significant)
    strong = np.abs(value[down, across]) > 0.6 * bound
    colours = np.where(strong, "white", INK)
    axis.scatter(across + 0.5, down + 0.5, s=4 if cell < 0.17 else 6, c=colours, linewidths=0)
    axis.invert_yaxis()
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0, pad=2, labelsize=6 if cell < 0.17 else 6.5)
    axis.set_xticks(np.arange(len(columns)) + 0.5, columns)
    unstable = set(clusters.loc[~clusters["stable"], "cluster"])
    for tick, column in zip(axis.xaxis.get_major_ticks(), columns, strict=True):
        if column in unstable:
            tick.label1.set(**UNSTABLE)
            tick.label2.set(**UNSTABLE)
    axis.tick_params(axis="x", labeltop=True)
    axis.set_xlabel("cluster")
    axis.set_yticks(np.arange(len(rows)) + 0.5, [_label(row) for row in rows.itertuples()])
    counts = axis.secondary_yaxis("right")
    counts.set_yticks(
        np.arange(len(rows)) + 0.5,
        [f"{r.n_cells:,} cells, {r.n_wells} wells" for r in rows.itertuples()],
        color=FAINT,
    )
    counts.tick_params(length=0, pad=2, labelsize=6)
    counts.spines[:].set_visible(False)
    bar = figure.colorbar(
        mesh, ax=axis, extend="both", shrink=min(1.0, 2.2 / height), aspect=18, anchor=(0, 1.0)
    )
    bar.set_label("log2 (share of the treatment's cells in the cluster\n/ share of the controls')")
    bar.ax.yaxis.set_major_formatter(number)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return finish(
        figure,
        title,
        f"{int(rows['n_cells'].sum()):,} cells; dot: q ≤ {SIGNIFICANT:g} (wells exchanged with "
        "controls of their plates, adjusted after Benjamini and Hochberg; no dot where there are "
        "too few wells to test). Concentrations in the platemap's unit. Rows are ordered by the "
        "cluster that the treatment enriches most." + unstable_note(unstable) + reduced,
        table=rows[_KEY].merge(table, on=_KEY, how="left"),
    )


def _order(rows: pd.DataFrame, value: np.ndarray) -> np.ndarray:
    """Rows of one treatment together by concentration, treatments by their top cluster."""
    filled = np.nan_to_num(value)
    frame = pd.DataFrame(filled).assign(
        name=rows["treatment"].fillna("").to_numpy(dtype=object),
        control=~rows["control"].to_numpy(dtype=bool),
        dose=rows["concentration"].to_numpy(dtype=float),
    )
    top = frame.groupby("name")[list(range(filled.shape[1]))].mean().idxmax(axis=1)
    frame = frame.assign(top=frame["name"].map(top))
    return frame.sort_values(["control", "top", "name", "dose"], kind="stable").index.to_numpy()


def _label(row: Any) -> str:
    name = NOT_GIVEN if pd.isna(row.treatment) else shorten(str(row.treatment), 28)
    dose = "" if pd.isna(row.concentration) else f"  {number(row.concentration)}"
    return f"{name}{dose}{' (control)' if row.control else ''}"
