"""Originals beside their reconstructions beside samples from the prior."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd

from vae_sci.report import images
from vae_sci.report.style import SYNTHETIC, VERMILLION, Picture, canvas, finish, shorten

_COMPOSITES, _CLOSE, _CLOSE_SAMPLES = 12, 4, 2


def reconstructions(
    table: pd.DataFrame,
    channels: Sequence[str],
    originals: np.ndarray,
    made: np.ndarray,
    samples: np.ndarray,
) -> Picture:
    """Composites of a dozen cells, then every channel of a few of them.

    Parameters
    ----------
    table : the cells, in the order of the stacks (contract GENERATED).
    originals, made, samples : counts (N, C, H, W): tiles, their reconstructions, and predictive
        means for z drawn from the prior (another N).
    """
    ranked = np.argsort(table["bits"].to_numpy(dtype=float), kind="stable")
    cells = ranked[_spread(len(ranked), _COMPOSITES)]
    close = cells[_spread(len(cells), _CLOSE)]
    contrast = images.limits(originals)
    tile_height, tile_width = originals.shape[2:]

    composites = images.mosaic(
        [
            list(images.composite(stack, contrast))
            for stack in (originals[cells], made[cells], samples[:_COMPOSITES])
        ],
        row_breaks=[2],
    )
    grey = {
        name: np.repeat(images.scaled(stack, contrast)[..., None], 3, axis=4)
        for name, stack in (
            ("original", originals[close]),
            ("made", made[close]),
            ("sample", samples[:_CLOSE_SAMPLES]),
        )
    }
    rows = [
        [tile for k in range(len(close)) for tile in (grey["original"][k, c], grey["made"][k, c])]
        + list(grey["sample"][:, c])
        for c in range(len(channels))
    ]
    single = images.mosaic(rows, column_breaks=[2 * k for k in range(1, len(close) + 1)])

    panel = 8.6
    heights = [panel * m.image.shape[0] / m.image.shape[1] for m in (composites, single)]
    figure = canvas(panel + 1.5, sum(heights) + 0.8)
    top, bottom = figure.subplots(2, 1, height_ratios=heights)

    images.show(top, composites)
    bits = table["bits"].to_numpy(dtype=float)
    top.set_xticks(composites.centres[0][: len(cells)], [f"{bits[k]:.2f}" for k in cells])
    synthetic = textwrap.fill(SYNTHETIC, 24)
    top.set_yticks(
        composites.centres[1],
        ["originals", f"reconstructions\n{synthetic}", f"samples from the prior\n{synthetic}"],
    )
    top.set_title(
        "Held-out cells, from the best to the worst described; above: bits per pixel and channel"
    )
    for label in top.get_yticklabels()[1:]:
        label.set_color(VERMILLION)
    images.show(bottom, single)
    bottom.set_yticks(single.centres[1], [shorten(name, 22) for name in channels])
    bottom.set_xticks(
        single.centres[0],
        ["original", "reconstruction"] * len(close) + ["sample"] * len(grey["sample"]),
    )
    bottom.set_title("Each channel alone, the same contrast")
    for label in bottom.get_xticklabels():
        label.set_color("black" if label.get_text() == "original" else VERMILLION)
    for column in range(len(cells)):
        images.mark_synthetic(top, composites, 1, column)
    for column in range(len(samples[:_COMPOSITES])):
        images.mark_synthetic(top, composites, 2, column)
    for row in range(len(channels)):
        for column in range(len(single.x)):
            if column >= 2 * len(close) or column % 2:
                images.mark_synthetic(bottom, single, row, column)
    return finish(
        figure,
        "Original cells, the model's reconstruction of each, and cells that it makes up",
        f"{len(cells)} of {len(table)} cells; tiles of {tile_height} × {tile_width} pixels. Framed "
        f"images are {SYNTHETIC}. They are predicted means and so carry no camera noise. "
        + images.contrast_note(channels, contrast),
        legend=images.channel_legend(channels),
        synthetic=True,
    )


def _spread(count: int, wanted: int) -> np.ndarray:
    """Up to `wanted` positions spread evenly over `count`, first and last included."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))
