"""What was dropped from a plate, where on it, and what it looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vae_sci.contracts import DROPPED, MEASURED_CELLS, MEASURED_FIELDS
from vae_sci.report import images
from vae_sci.report.style import FAINT, SEQUENTIAL, Picture, canvas, drawing, finish, number, save
from vae_sci.tiles.store import store_about

_EXAMPLES = 10  # tiles per reason


def draw_quality(results: Path, plate: str) -> list[Path]:
    """Draw `figures/quality/{plate}` and, below it, `figures/dropped/{plate}`, PNG and SVG."""
    results = Path(results)
    cells = MEASURED_CELLS.read(results / MEASURED_CELLS.path.format(plate=plate))
    fields = MEASURED_FIELDS.read(results / MEASURED_FIELDS.path.format(plate=plate))
    dropped = DROPPED.read(results / DROPPED.path.format(plate=plate))
    paths = []
    for name, draw in (("quality", quality), ("dropped", examples)):
        with drawing():
            picture = draw(results, plate, cells, fields, dropped)
            paths += save(picture, results / "figures" / name / plate)
    return paths


def quality(
    results: Path, plate: str, cells: pd.DataFrame, fields: pd.DataFrame, dropped: pd.DataFrame
) -> Picture:
    """Plate heat maps: cells, the share dropped, and what they are judged by; contracts as named
    MEASURED_CELLS, MEASURED_FIELDS and DROPPED."""
    gone = cells["cell_id"].isin(dropped.loc[dropped["unit"] == "cell", "cell_id"])
    wells = cells["well"]
    maps: dict[str, pd.Series] = {
        "cells cut out": wells.value_counts(),
        "share of cells dropped": gone.groupby(wells).mean(),
        "sharpness of cells, median\n(over the plate's)": cells["relative_focus"]
        .groupby(wells)
        .median(),
        "autocorrelation of cells,\nlowest 5 %": cells["autocorrelation"]
        .groupby(wells)
        .quantile(0.05),
    }
    if len(fields):
        per_field = dropped[dropped["unit"] == "field"].groupby("well").size()
        n = fields.drop_duplicates(["well", "site"])["well"].value_counts()
        maps["share of fields dropped"] = per_field.reindex(n.index, fill_value=0) / n
        maps["sharpness of fields, lowest\n(over the plate's)"] = fields.groupby("well")[
            "relative_focus"
        ].min()
        for channel, rows in fields.groupby("channel", sort=False):
            maps[f"background, {channel},\ngrey levels"] = rows.groupby("well")[
                "background"
            ].median()
    every = sorted({*wells, *fields["well"]})
    rows_ = sorted({well[:-2] for well in every}, key=lambda row: (len(row), row))
    columns = list(range(1, max(int(well[-2:]) for well in every) + 1))
    across = 3
    down = -(-len(maps) // across)
    figure = canvas(7.2, down * (0.5 + 2.0 * max(0.35, len(rows_) / len(columns))))
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[len(maps) :]:
        axis.set_visible(False)
    for axis, (title, values) in zip(axes, maps.items(), strict=False):
        _plate_map(axis, title, values, rows_, columns)
    told = [f"{len(cells):,} cells cut out, {int(gone.sum()):,} dropped."]
    for unit, rows in dropped.groupby("unit"):
        reasons = rows["reason"].value_counts()
        listed = "; ".join(f"{n:,} {reason}" for reason, n in reasons.items())
        told.append(f"{str(unit).title()}s dropped: {listed}.")
    return finish(
        figure,
        f"Quality over the wells of {plate}",
        " ".join(told) + " White: no field, or not known. Measures are of raw grey levels.",
    )


def _plate_map(
    axis: Axes, title: str, values: pd.Series, rows: list[str], columns: list[int]
) -> None:
    grid = np.full((len(rows), len(columns)), np.nan)
    for well, value in values.astype("float64").items():
        grid[rows.index(str(well)[:-2]), int(str(well)[-2:]) - 1] = value
    low, high = None, None
    if title.startswith("share"):
        low, high = 0.0, 1.0
    elif title.startswith("sharpness"):
        low, high = 0.0, 2.0  # empty fields are noise, which is far sharper than any cell
    elif title.startswith("background"):
        # A grey level more or less is no difference that should be seen.
        low = min(0.9 * values.median(), values.min())
        high = max(1.1 * values.median(), values.max())
    shown = axis.imshow(grid, cmap=SEQUENTIAL, vmin=low, vmax=high, aspect="equal")
    axis.set_title(title)
    step = 1 if len(rows) <= 8 else 2
    axis.set_yticks(range(0, len(rows), step), rows[::step])
    step = 1 if len(columns) <= 12 else 3
    axis.set_xticks(range(0, len(columns), step), [str(c) for c in columns[::step]])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    bar = axis.figure.colorbar(
        shown, ax=axis, shrink=0.8, format=number, ticks=MaxNLocator(4, steps=[1, 2, 5, 10])
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(length=2, color=FAINT)


def examples(
    results: Path, plate: str, cells: pd.DataFrame, fields: pd.DataFrame, dropped: pd.DataFrame
) -> Picture:
    """A row of tiles per reason, spread over how far they passed the limit, and one of kept."""
    channels = list(store_about(results / "tiles" / f"{plate}.zarr")["channels"])
    bad = dropped[dropped["unit"] == "cell"]
    kept = cells.loc[~cells["cell_id"].isin(bad["cell_id"]), "cell_id"]
    chosen: dict[str, pd.Series] = {
        f"kept: {len(kept):,}": kept.iloc[images.spread(len(kept), _EXAMPLES)]
    }
    for reason, rows in bad.groupby("reason", sort=False):
        rows = rows.sort_values("found", kind="stable")
        limit = f"{rows['limit'].iloc[0]}: {number(rows['at'].iloc[0])}"
        label = f"{reason}: {len(rows):,}\n(quality: {limit})"
        chosen[label] = rows["cell_id"].iloc[images.spread(len(rows), _EXAMPLES)]
    pixels = images.read_tiles(results, pd.concat(list(chosen.values())), cells)
    contrast = images.limits(pixels[: len(next(iter(chosen.values())))])
    coloured = iter(images.composite(pixels, contrast))
    grid: list[list[np.ndarray | None]] = [[next(coloured) for _ in ids] for ids in chosen.values()]
    picture = images.mosaic(grid, row_breaks=[1] if len(grid) > 1 else [])
    wide = max(2.6, 0.55 * max(map(len, grid)))
    figure = canvas(wide + 2.0, wide * picture.image.shape[0] / picture.image.shape[1] + 0.2)
    axis = figure.subplots()
    images.show(axis, picture)
    axis.set_yticks(picture.centres[1], list(chosen))
    axis.tick_params(axis="y", labelsize=6)
    return finish(
        figure,
        f"What was dropped from {plate}, and why",
        f"Real tiles, up to {_EXAMPLES} a reason, in order of what was measured, lowest first. "
        "A field without cells has no tile. "
        + images.contrast_note(channels, contrast).replace("the original tiles", "the kept tiles"),
        legend=images.channel_legend(channels),
    )
