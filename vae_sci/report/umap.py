"""The cells on the UMAP, coloured by treatment, concentration, plate, cluster, quality, or any
other column.

Up to eight categories share one panel; more get a panel each, in colour over all cells in grey,
which stays readable with any colour vision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vae_sci.report.style import (
    BLUE,
    CATEGORIES,
    CONTROL,
    EVERYTHING,
    FAINT,
    NOT_GIVEN,
    SEQUENTIAL,
    STABLE,
    UNSTABLE,
    VERMILLION,
    Picture,
    canvas,
    finish,
    number,
    shorten,
    unstable_note,
)

_DRAWN_LARGE, _DRAWN_SMALL = 200_000, 20_000
_PLATES = 30
_LARGE, _SMALL = 5.0, 1.5  # side of a panel, inches
_QUALITY = (
    ("distortion", "Distortion", "nats per tile"),
    ("rate_z", "Rate of z", "nats"),
    ("novelty", "Novelty", "percentile of validation cells"),
    ("autocorrelation", "Pixel autocorrelation", "no unit; below about 0.7: noise"),
    ("focus", "Focus", "no unit; low: blurred"),
    ("saturated", "Saturated", "share of the tile's values"),
)


class _Map:
    """The cells' places, and how they are put on a panel: shuffled, thinned, sized."""

    def __init__(self, cells: pd.DataFrame, seed: int) -> None:
        self.xy = cells[["umap_1", "umap_2"]].to_numpy(dtype=float)
        self.rng = np.random.default_rng(seed)
        self.all = np.arange(len(cells))
        self.drawn = np.random.default_rng(seed).permutation(self.all)[:_DRAWN_LARGE]
        low, high = self.xy.min(axis=0), self.xy.max(axis=0)
        reach = max(float((high - low).max()), 1e-6) * 0.53
        self.window = [(m - reach, m + reach) for m in (low + high) / 2]

    def table(self, cells: pd.DataFrame, *columns: str) -> pd.DataFrame:
        """What the panels show, for the file beside the figure: of more cells than can be drawn, as
        many, drawn at random."""
        rows = np.sort(self.drawn)
        return cells[["cell_id", "umap_1", "umap_2", *columns]].iloc[rows]

    def frame(self, axis: Axes, labelled: bool) -> None:
        """Square axes over the whole map, without ticks: distances on it mean nothing."""
        axis.set_xlim(*self.window[0])
        axis.set_ylim(*self.window[1])
        axis.set_box_aspect(1)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_color(EVERYTHING)
        if labelled:
            axis.set_xlabel("UMAP 1 (no unit)", loc="left")
            axis.set_ylabel("UMAP 2 (no unit)", loc="bottom")

    def shuffled(self, rows: np.ndarray, most: int) -> np.ndarray:
        """At most `most` of the rows, in random order."""
        return self.rng.permutation(rows)[:most]

    def dots(self, axis: Axes, rows: np.ndarray, colour: str | np.ndarray, side: float) -> None:
        """Dots on a panel of `side` inches, the smaller the more there are."""
        size = float(np.clip(0.3 * (72 * side) ** 2 / max(len(rows), 1), 0.2, 2 * side))
        x, y = self.xy[rows].T
        if isinstance(colour, str):
            axis.plot(
                x,
                y,
                linestyle="",
                marker="o",
                markersize=size**0.5,
                markeredgewidth=0,
                color=colour,
                zorder=2,
                rasterized=True,
            )
        else:
            axis.scatter(x, y, s=size, c=colour, linewidths=0, zorder=2, rasterized=True)


@dataclass(frozen=True)
class _Panel:
    """One small panel: its title, the rows in colour, their colour or colours (rows, 4)."""

    title: str
    rows: np.ndarray
    colour: str | np.ndarray


def by_column(cells: pd.DataFrame, column: str, most: int, seed: int) -> Picture:
    """The map coloured by any column: by its values if numeric, by category if not."""
    values = cells[column]
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and values.nunique() > len(CATEGORIES):
        panels = ((column, column, "unit as in the table of cells"),)
        return _by_values(cells, panels, f"The cells by {column}", seed)
    return _by_category(cells, column, most, seed)


def by_plate(cells: pd.DataFrame, seed: int) -> Picture:
    """The map by plate: plates that lie apart are a batch effect."""
    return _by_category(cells, "plate", _PLATES, seed)


def by_treatment(cells: pd.DataFrame, treatments: pd.DataFrame, most: int, seed: int) -> Picture:
    """A panel for each of the `most` treatments that lie farthest from the controls."""
    map_ = _Map(cells, seed)
    names, of = _by_distance(cells, treatments)
    panels = [
        _Panel(f"{shorten(name, 24)}\n{len(of[name]):,} cells", of[name], VERMILLION)
        for name in names[:most]
    ]
    title = "Where the cells of each treatment lie"
    if not panels:
        note = f"{len(cells):,} cells, none of them treated."
        return finish(_pale(map_), title, note, table=map_.table(cells, "treatment"))
    controls = _controls(cells)
    return finish(
        _multiples(map_, panels, controls),
        title,
        f"{len(cells):,} cells. " + _choice(names, most) + _thinned(map_, _DRAWN_SMALL),
        legend=_key(controls, VERMILLION),
        table=map_.table(cells, "treatment", "control"),
    )


def by_concentration(
    cells: pd.DataFrame, treatments: pd.DataFrame, most: int, seed: int
) -> Picture:
    """The treatments' panels, in colour from the lowest to the highest concentration."""
    map_ = _Map(cells, seed)
    dose = cells["concentration"].to_numpy(dtype=float)
    dose = np.where(dose > 0, dose, np.nan)
    names, of = _by_distance(cells, treatments)
    names = [name for name in names if np.isfinite(dose[of[name]]).any()]
    colours = ScalarMappable(Normalize(0, 1), f"{SEQUENTIAL}_r")  # the darker, the more
    panels = []
    for name in names[:most]:
        rows = of[name][np.isfinite(dose[of[name]])]
        level = np.log10(dose[rows])
        low, high = level.min(), level.max()
        share = (level - low) / (high - low) if high > low else np.ones(len(rows))
        span = number(10**low) + (f" to {number(10**high)}" if high > low else " only")
        panels.append(
            _Panel(
                f"{shorten(name, 24)}\n{span}; {len(rows):,} cells", rows, colours.to_rgba(share)
            )
        )
    title = "Where the cells of each treatment lie as its concentration rises"
    if not panels:
        note = f"{len(cells):,} cells, none of a treatment with a concentration above 0."
        return finish(_pale(map_), title, note, table=map_.table(cells, "concentration"))
    controls = _controls(cells)
    figure = _multiples(map_, panels, controls)
    figure.set_figwidth(figure.get_figwidth() + 0.8)
    bar = figure.colorbar(colours, ax=figure.axes, location="right", shrink=0.4, aspect=25)
    bar.set_ticks([0, 1], labels=["lowest", "highest"])
    bar.set_label("concentration of the treatment, log scale")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return finish(
        figure,
        title,
        f"{len(cells):,} cells. Above each panel its concentrations, in the platemap's unit. "
        + _choice(names, most)
        + _thinned(map_, _DRAWN_SMALL),
        legend=_key(controls, None),
        table=map_.table(cells, "treatment", "concentration", "control"),
    )


def by_cluster(cells: pd.DataFrame, clusters: pd.DataFrame, seed: int) -> Picture:
    """The map by cluster, each cluster's number at its middle; colours only part neighbours.

    `cells`, `clusters`: contracts CELLS and CLUSTERS. Numbers of unstable clusters are marked.
    """
    map_ = _Map(cells, seed)
    labels = cells["cluster"].to_numpy(dtype=object)
    names = sorted(set(labels), key=lambda c: (len(c), c))
    palette = dict(zip(names, (CATEGORIES[k % 7] for k in range(len(names))), strict=True))
    figure = canvas(_LARGE + 0.4, _LARGE + 0.2)
    axis = figure.subplots()
    map_.frame(axis, labelled=True)
    rows = map_.shuffled(map_.all, _DRAWN_LARGE)
    map_.dots(axis, rows, _rgb([palette[c] for c in labels[rows]]), _LARGE)
    places = np.array([np.median(map_.xy[labels == name], axis=0) for name in names])
    reach = map_.window[0][1] - map_.window[0][0]
    unstable = set(clusters.loc[~clusters["stable"], "cluster"])
    for name, (x, y) in zip(names, _apart(places, 0.035 * reach), strict=True):
        axis.text(
            x,
            y,
            name,
            ha="center",
            va="center",
            fontsize=8,
            **(UNSTABLE if name in unstable else STABLE),
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
        )
    return finish(
        figure,
        f"The {len(names)} clusters of latent phenotype on the map"
        if len(names) > 1
        else "All cells lie in one cluster",
        f"{len(cells):,} cells. A number stands at the middle of its cluster, 0 the largest; "
        "colours repeat and only part neighbours. Clusters were found in z, not on this map."
        + unstable_note(unstable)
        + _thinned(map_, _DRAWN_LARGE),
        table=map_.table(cells, "cluster"),
    )


def by_quality(cells: pd.DataFrame, tiles: pd.DataFrame, seed: int) -> Picture:
    """The map by how well the model describes a cell, and by the quality of its tile."""
    quality = tiles[["cell_id", "autocorrelation", "focus", "saturated"]]
    joined = cells[["cell_id", "umap_1", "umap_2", "distortion", "rate_z", "novelty"]].merge(
        quality, on="cell_id", how="left"
    )
    return _by_values(joined, _QUALITY, "The cells by figures of quality", seed)


def _by_values(
    cells: pd.DataFrame, panels: Sequence[tuple[str, str, str]], title: str, seed: int
) -> Picture:
    """Panels (column, title, unit) in colour between the 2nd and the 98th percentile."""
    map_ = _Map(cells, seed)
    columns = min(3, len(panels))
    side = _LARGE if columns == 1 else 2.5
    lines = -(-len(panels) // columns)
    figure = canvas(columns * (side + 0.75), lines * (side + 0.25) + 0.2)
    for k, (axis, (column, name, unit)) in enumerate(
        zip(figure.subplots(lines, columns, squeeze=False).ravel(), panels, strict=True)
    ):
        map_.frame(axis, labelled=k == (lines - 1) * columns)
        values = cells[column].to_numpy(dtype=float, na_value=np.nan)
        known = np.isfinite(values)
        low, high = np.percentile(values[known], (2, 98)) if known.any() else (0.0, 0.0)
        if low == high and known.any():
            low, high = values[known].min(), values[known].max()
        if low == high:
            axis.set_title(f"{name}: {number(low) if known.any() else NOT_GIVEN} for all cells")
            map_.dots(axis, map_.shuffled(map_.all, _DRAWN_LARGE), EVERYTHING, side)
            continue
        axis.set_title(name)
        map_.dots(axis, map_.shuffled(map_.all[~known], _DRAWN_LARGE), EVERYTHING, side)
        colours = ScalarMappable(Normalize(low, high), SEQUENTIAL)
        rows = map_.shuffled(map_.all[known], _DRAWN_LARGE)
        map_.dots(axis, rows, colours.to_rgba(values[rows]), side)
        bar = figure.colorbar(colours, ax=axis, extend="both", shrink=0.75, aspect=22)
        bar.set_label(unit)
        bar.ax.yaxis.set_major_locator(MaxNLocator(4))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(number))
        bar.outline.set_visible(False)  # type: ignore[operator]
    return finish(
        figure,
        title,
        f"{len(cells):,} cells. Colours run from the 2nd to the 98th percentile; what lies beyond "
        "has the colour of the end." + _thinned(map_, _DRAWN_LARGE),
        table=map_.table(cells, *(column for column, _, _ in panels)),
    )


def _by_category(cells: pd.DataFrame, column: str, most: int, seed: int) -> Picture:
    """One panel for up to eight categories, a panel each for more; the commonest first."""
    map_ = _Map(cells, seed)
    labels = cells[column].astype("string").fillna(NOT_GIVEN).to_numpy(dtype=object)
    counts = pd.Series(labels).value_counts()
    names = sorted(counts.index, key=lambda name: (-counts[name], name))
    title = f"The cells by {column}"
    if len(names) > len(CATEGORIES):
        shown = sorted(names[:most])
        panels = [
            _Panel(
                f"{shorten(name, 24)}\n{counts[name]:,} cells", np.flatnonzero(labels == name), BLUE
            )
            for name in shown
        ]
        return finish(
            _multiples(map_, panels, None),
            title,
            f"{len(cells):,} cells. Each panel: one {column} in colour over all cells in grey"
            + (f"; the {most} commonest of {len(names)}." if len(names) > most else ".")
            + _thinned(map_, _DRAWN_SMALL),
            legend=_key(None, BLUE),
            table=map_.table(cells, column),
        )
    palette = dict(zip(sorted(names), CATEGORIES, strict=False))
    figure = canvas(_LARGE + 2.0, _LARGE + 0.3)
    axis = figure.subplots()
    map_.frame(axis, labelled=True)
    rows = map_.shuffled(map_.all, _DRAWN_LARGE)
    map_.dots(axis, rows, _rgb([palette[name] for name in labels[rows]]), _LARGE)
    axis.legend(
        handles=[
            _dot(colour, f"{shorten(name, 26)} ({counts[name]:,})")
            for name, colour in palette.items()
        ],
        title=f"{column} (cells)",
        alignment="left",
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
    )
    return finish(
        figure,
        title,
        f"{len(cells):,} cells, drawn in random order." + _thinned(map_, _DRAWN_LARGE),
        table=map_.table(cells, column),
    )


def _multiples(map_: _Map, panels: Sequence[_Panel], controls: np.ndarray | None) -> Figure:
    """One small panel each: all cells pale, controls darker, the panel's own in colour."""
    lines = -(-len(panels) // 6)
    columns = max(3, -(-len(panels) // lines))
    figure = canvas(columns * (_SMALL + 0.08) + 0.3, lines * (_SMALL + 0.38) + 0.2)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in grid[len(panels) :]:
        axis.remove()
    for k, (axis, panel) in enumerate(zip(grid, panels, strict=False)):
        map_.frame(axis, labelled=k == (lines - 1) * columns)
        axis.set_title(panel.title, fontsize=6.5)
        map_.dots(axis, map_.shuffled(map_.all, _DRAWN_SMALL), EVERYTHING, _SMALL)
        if controls is not None:
            map_.dots(axis, map_.shuffled(controls, _DRAWN_SMALL), CONTROL, _SMALL)
        pick = map_.shuffled(np.arange(len(panel.rows)), _DRAWN_SMALL)
        colour = panel.colour if isinstance(panel.colour, str) else panel.colour[pick]
        map_.dots(axis, panel.rows[pick], colour, _SMALL)
    return figure


def _pale(map_: _Map) -> Figure:
    """All cells in grey: there is nothing to colour."""
    figure = canvas(_LARGE + 0.4, _LARGE + 0.2)
    axis = figure.subplots()
    map_.frame(axis, labelled=True)
    map_.dots(axis, map_.shuffled(map_.all, _DRAWN_LARGE), EVERYTHING, _LARGE)
    return figure


def _key(controls: np.ndarray | None, colour: str | None) -> list[Line2D]:
    """The legend of small panels; no entry for a colour that a bar explains."""
    handles = [_dot(EVERYTHING, "all cells")]
    if controls is not None:
        handles.append(_dot(CONTROL, f"controls ({len(controls):,} cells)"))
    if colour is not None:
        handles.append(_dot(colour, "the cells that the panel names"))
    return handles


def _by_distance(
    cells: pd.DataFrame, treatments: pd.DataFrame
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Treatments other than controls, the farthest from the controls first, and their rows."""
    named = cells["treatment"].fillna(NOT_GIVEN).to_numpy(dtype=object)
    named[cells["control"].to_numpy(dtype=bool)] = ""
    rows = pd.Series(np.arange(len(cells))).groupby(named).apply(lambda s: s.to_numpy())
    of = {str(name): index for name, index in rows.items() if name}
    distance = treatments.assign(treatment=treatments["treatment"].fillna(NOT_GIVEN))
    farthest = distance.groupby("treatment")["distance"].max()
    return sorted(of, key=lambda name: (-farthest.get(name, 0.0), name)), of


def _controls(cells: pd.DataFrame) -> np.ndarray:
    return np.flatnonzero(cells["control"].to_numpy(dtype=bool))


def _choice(names: Sequence[str], most: int) -> str:
    """Which treatments have a panel."""
    text = "Treatments are ordered by the distance of their mean from the controls."
    if len(names) > most:
        text = (
            f"The {most} of {len(names)} treatments whose mean lies farthest from the controls, "
            "the farthest first; the others are among the grey cells."
        )
    return text


def _thinned(map_: _Map, most: int) -> str:
    """Said where a panel cannot show all cells."""
    return (
        f" At most {most:,} cells of a kind are drawn, at random." if len(map_.all) > most else ""
    )


def _dot(colour: str, label: str) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="",
        marker="o",
        markersize=4,
        color=colour,
        markeredgecolor=FAINT,
        markeredgewidth=0.3,
        label=label,
    )


def _rgb(colours: Sequence[str]) -> np.ndarray:
    """Hex colours as numbers (N, 3)."""
    from matplotlib.colors import to_rgb

    table = {colour: to_rgb(colour) for colour in set(colours)}
    return np.array([table[colour] for colour in colours])


def _apart(places: np.ndarray, least: float) -> np.ndarray:
    """Push places (N, 2) that are nearer than `least` from each other."""
    places = places.copy()
    for _ in range(200):
        offset = places[:, None] - places[None]
        gap = np.linalg.norm(offset, axis=2) + 1e-9
        np.fill_diagonal(gap, np.inf)
        push = np.clip(least - gap, 0, None)[..., None] * offset / gap[..., None]
        if not push.any():
            break
        places += 0.5 * push.sum(axis=1)
    return places
