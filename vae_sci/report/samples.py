"""Cells that the model makes up: from the prior at several temperatures, and z with other u."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vae_sci.report import images
from vae_sci.report.style import FAINT, SYNTHETIC, VERMILLION, Picture, canvas, finish, number

_COLUMNS = 12


def samples(
    table: pd.DataFrame, channels: Sequence[str], made: np.ndarray, originals: np.ndarray
) -> Picture:
    """Originals, then one row of made-up cells per temperature; a column is one draw.

    Parameters
    ----------
    table : contract SAMPLES, in the order of `made`.
    made : counts (N, C, H, W), predicted means.
    originals : counts (M, C, H, W), tiles that give the contrast.
    """
    contrast = images.limits(originals)
    shown = originals[images.spread(len(originals), _COLUMNS)]
    rows = [list(images.composite(shown, contrast))]
    temperatures = sorted(table["temperature"].unique())
    for temperature in temperatures:
        of_it = table[table["temperature"] == temperature].sort_values("draw").head(_COLUMNS)
        rows.append(list(images.composite(made[of_it["row"].to_numpy(dtype=int)], contrast)))
    picture = images.mosaic(rows, row_breaks=[1])

    panel = 8.6
    figure = canvas(panel + 1.5, panel * picture.image.shape[0] / picture.image.shape[1] + 0.4)
    axis = figure.subplots()
    images.show(axis, picture)
    axis.set_yticks(
        picture.centres[1],
        ["originals", *(f"temperature {number(t)}\nsynthetic" for t in temperatures)],
    )
    for label in axis.get_yticklabels()[1:]:
        label.set_color(VERMILLION)
    for row, tiles in enumerate(rows[1:], 1):
        images.mark_synthetic(axis, picture, (row,), range(len(tiles)))
    return finish(
        figure,
        "Cells that the model makes up, from tame to as varied as the prior",
        f"Framed images are {SYNTHETIC}: predicted means E[x|z,u], without camera noise, of z and "
        "u drawn from their priors. Temperature is the factor on both draws; 1 is the prior "
        "itself. Each column is one draw, the same numbers at every temperature. The originals "
        f"({len(shown)} of {len(originals)} held-out cells) are no partners of the columns below "
        "them. " + images.contrast_note(channels, contrast),
        legend=images.channel_legend(channels),
        synthetic=True,
    )


def resampled(
    table: pd.DataFrame,
    channels: Sequence[str],
    made: np.ndarray,
    cells: pd.DataFrame,
    originals: np.ndarray,
    reconstructions: np.ndarray,
) -> Picture:
    """A row per cell: the tile, its reconstruction and, with u, z alone and with u drawn anew.

    Parameters
    ----------
    table : contract RESAMPLED, in the order of `made`.
    made : counts (N, C, H, W), predicted means.
    cells : contract GENERATED, in the order of `originals` and `reconstructions`, (M, C, H, W).
    """
    contrast = images.limits(originals)
    draws = int(table["draw"].max())
    rows = []
    for cell_id, own in table.sort_values("draw").groupby("cell_id", sort=False):
        k = int(np.flatnonzero(cells["cell_id"] == cell_id)[0])
        # Without u, z alone is the reconstruction: nothing is shown twice.
        others = made[own["row"].to_numpy(dtype=int)] if draws else ()
        tiles = [originals[k], reconstructions[k], *others]
        rows.append(list(images.composite(np.stack(tiles), contrast)))
    picture = images.mosaic(rows, column_breaks=[1, 3] if draws else [1])

    tile = 0.92
    across = tile * picture.image.shape[1] / picture.shape[1]
    down = tile * picture.image.shape[0] / picture.shape[1]
    figure = canvas(across + 0.6 + (0 if draws else 3.2), down + 0.4)
    axis = figure.subplots()
    images.show(axis, picture)
    heads = ["original", "reconstruction"]
    if draws:
        heads += ["z alone", *(f"u, draw {k + 1}" for k in range(draws))]
    axis.set_xticks(picture.centres[0], heads)
    for label in axis.get_xticklabels()[1:]:
        label.set_color(VERMILLION)
    images.mark_synthetic(axis, picture, range(len(rows)), range(1, len(heads)))
    if not draws:
        axis.text(
            1.04,
            0.5,
            "This model's decoder has no skip latents u:\nz alone gives the image, and there is\n"
            "nothing to draw.",
            transform=axis.transAxes,
            va="center",
            color=FAINT,
        )
    return finish(
        figure,
        "What the phenotype z leaves open",
        f"{len(rows)} of {len(cells)} held-out cells. Framed images are {SYNTHETIC}: predicted "
        "means, without camera noise, at the posterior mean of z. "
        + (
            "Reconstruction: u at its posterior mean, read from the tile. z alone: u at the mean "
            "of its prior, which sees only z. Draws: u drawn from that prior; what differs among "
            "them is not in z. "
            if draws
            else "There is no u: z alone is the reconstruction. "
        )
        + images.contrast_note(channels, contrast),
        legend=images.channel_legend(channels),
        synthetic=True,
    )
