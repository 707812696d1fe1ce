"""Originals beside their reconstructions, draws with camera noise, and samples from the prior."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd

from vae_sci.report import images
from vae_sci.report.style import SYNTHETIC, VERMILLION, Picture, canvas, finish, shorten

_COMPOSITES, _CLOSE, _CLOSE_SAMPLES = 12, 3, 2


def reconstructions(
    table: pd.DataFrame,
    channels: Sequence[str],
    originals: np.ndarray,
    made: np.ndarray,
    drawn: np.ndarray,
    samples: np.ndarray,
) -> Picture:
    """Composites of a dozen cells, then every channel of a few of them.

    Parameters
    ----------
    table : the cells, in the order of the stacks (contract GENERATED).
    originals, made, drawn, samples : counts (N, C, H, W): tiles, their predicted means, draws with
        camera noise, and predicted means for z and u from the prior (another N).
    """
    ranked = np.argsort(table["bits"].to_numpy(dtype=float), kind="stable")
    cells = ranked[images.spread(len(ranked), _COMPOSITES)]
    # The best and the worst described are often all but empty: nothing to see close by.
    close = cells[images.spread(len(cells), 2 * _CLOSE + 1)[1::2]]
    contrast = images.limits(originals)
    tile_height, tile_width = originals.shape[2:]

    composites = images.mosaic(
        [
            list(images.composite(stack, contrast))
            for stack in (originals[cells], made[cells], drawn[cells], samples[:_COMPOSITES])
        ],
        row_breaks=[3],
    )
    grey = [
        np.repeat(images.scaled(stack, contrast)[..., None], 3, axis=4)
        for stack in (originals[close], made[close], drawn[close], samples[:_CLOSE_SAMPLES])
    ]
    rows = [
        [stack[k, c] for k in range(len(close)) for stack in grey[:3]] + list(grey[3][:, c])
        for c in range(len(channels))
    ]
    single = images.mosaic(rows, column_breaks=[3 * k for k in range(1, len(close) + 1)])

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
        [
            "originals",
            f"reconstructions\n{synthetic}",
            f"with camera noise drawn\n{synthetic}",
            f"samples from the prior\n{synthetic}",
        ],
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
        ["original", "reconstruction", "with noise"] * len(close) + ["sample"] * len(grey[3]),
    )
    bottom.set_title("Each channel alone, the same contrast")
    for label in bottom.get_xticklabels():
        label.set_color("black" if label.get_text() == "original" else VERMILLION)
    images.mark_synthetic(top, composites, (1, 2), range(len(cells)))
    images.mark_synthetic(top, composites, (3,), range(len(samples[:_COMPOSITES])))
    made_columns = [k for k in range(len(single.x)) if k >= 3 * len(close) or k % 3]
    images.mark_synthetic(bottom, single, range(len(channels)), made_columns)
    return finish(
        figure,
        "Original cells, the model's reconstruction of each, and cells that it makes up",
        f"{len(cells)} of {len(table)} cells; tiles of {tile_height} × {tile_width} pixels. Framed "
        f"images are {SYNTHETIC}. Reconstructions and samples are predicted means E[x|z,u], "
        "without camera noise; the row between is a draw of p(x|z,u) for each of the "
        "reconstructions, with it. " + images.contrast_note(channels, contrast),
        legend=images.channel_legend(channels),
        synthetic=True,
    )
