"""What each cluster looks like: its most typical cells and cells at random."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vae_sci.report import images
from vae_sci.report.style import Picture, canvas, finish, number, shorten

_ROWS = 40


def gallery(
    results: Path,
    cells: pd.DataFrame,
    tiles: pd.DataFrame,
    clusters: pd.DataFrame,
    channels: Sequence[str],
    per_cluster: int,
    seed: int,
) -> Picture:
    """One row of tiles per cluster: half nearest to the cluster's mean z, half at random.

    Parameters
    ----------
    results : folder with the stores tiles/{plate}.zarr.
    cells, tiles, clusters : contracts CELLS, TILES (all plates in one table) and CLUSTERS.
    """
    rng = np.random.default_rng(seed)
    shown = clusters.sort_values("n_cells", ascending=False, kind="stable").head(_ROWS)
    near = (per_cluster + 1) // 2
    chosen: list[tuple[np.ndarray, np.ndarray]] = []
    z = cells.filter(regex=r"^z_").to_numpy(dtype=float)
    labels = cells["cluster"].to_numpy(dtype=object)
    for cluster in shown["cluster"]:
        members = np.flatnonzero(labels == cluster)
        distance = np.linalg.norm(z[members] - z[members].mean(axis=0), axis=1)
        order = members[np.argsort(distance, kind="stable")]
        others = rng.permutation(order[near:])[: per_cluster - near]
        chosen.append((order[:near], others))

    wanted = np.concatenate([part for pair in chosen for part in pair])
    pixels = images.read_tiles(results, cells["cell_id"].iloc[wanted], tiles)
    contrast = images.limits(pixels)
    colour = dict(zip(wanted.tolist(), images.composite(pixels, contrast), strict=True))
    rows: list[list[np.ndarray | None]] = []
    for typical, others in chosen:
        row: list[np.ndarray | None] = [colour[k] for k in typical.tolist()]
        row += [None] * (near - len(row))
        row += [colour[k] for k in others.tolist()]
        rows.append(row + [None] * (per_cluster - len(row)))
    picture = images.mosaic(rows, column_breaks=[near] if per_cluster > near else [])

    wide = max(0.65 * per_cluster, 2.6)
    tall = wide * picture.image.shape[0] / picture.image.shape[1]
    figure = canvas(wide + 2.6, tall + 0.4)
    axis = figure.subplots()
    images.show(axis, picture)
    several = cells["plate"].nunique() > 1
    axis.set_yticks(
        picture.centres[1], [_row_label(row, several) for row in shown.itertuples(index=False)]
    )
    axis.tick_params(axis="y", labelsize=5.8)
    heads = [(picture.x[0], "nearest to the cluster's mean")]
    if per_cluster > near:
        heads.append((picture.x[near], "at random"))
    axis.set_xticks([x for x, _ in heads], [text for _, text in heads], ha="left")
    left_out = len(clusters) - len(shown)
    return finish(
        figure,
        "What the cells of each cluster look like",
        f"{len(cells):,} cells in {len(clusters)} clusters; the {len(wanted)} shown are real "
        f"tiles: {near} per cluster nearest to its mean in normalised z, then up to "
        f"{per_cluster - near} drawn at random (seed {seed})."
        + (f" The {left_out} smallest clusters are left out." if left_out else "")
        + " "
        + images.contrast_note(channels, contrast),
        legend=images.channel_legend(channels),
        table=pd.concat(
            [
                cells[["cluster", "cell_id", "treatment", "concentration"]]
                .iloc[part]
                .assign(shown_as=name)
                for pair in chosen
                for part, name in zip(pair, ("nearest to the mean", "at random"), strict=True)
            ]
        ),
    )


def _row_label(row: Any, several_plates: bool) -> str:
    """Size of a cluster, whether it is unstable, its top treatment, a plate that dominates."""
    text = f"cluster {row.cluster}: {row.n_cells:,} cells ({row.share:.0%})"
    if not row.stable:
        text += "\nunstable: not found again in other wells"
    if not pd.isna(row.top_treatment):
        text += f"\nmost enriched: {shorten(str(row.top_treatment), 26)}"
        text += f" (log2: {number(row.top_log2_enrichment)})"
    if several_plates and row.top_plate_share > max(0.5, 1.5 / row.n_plates):
        text += f"\n{row.top_plate_share:.0%} from one plate"
    return text
