"""What wells are beside the control wells of their plate: the unit of every test."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.contracts import WELLS
from vae_sci.phenotypes.profiles import TREATMENT, latent_columns

FORMATS = ((8, 12), (16, 24), (32, 48))
"""Rows and columns of plates of 96, 384 and 1,536 wells."""


def well_effects(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per well of table `CELLS`, sorted by plate and well.

    Columns: plate, well, treatment, concentration, control; `n_cells`; `edge`, whether the well
    lies on the border of its plate; `spread`, the rms distance of its cells from their mean, NaN
    for one cell; and
    z, the mean over cells minus the mean over the control wells of the plate, each well counted
    once. On a plate without controls nothing is subtracted: the normalisation's reference stands
    for them.
    """
    names = latent_columns(cells)
    groups = cells.groupby(["plate", "well"], sort=True)
    wells = groups[[*TREATMENT, "control"]].first()
    wells["n_cells"] = groups.size()
    wells["spread"] = np.sqrt(groups[names].var(ddof=1).sum(axis=1, skipna=False))
    wells = wells.join(groups[names].mean()).reset_index()
    for _, rows in wells.groupby("plate").indices.items():
        plate = wells.iloc[rows]
        controls = plate["control"].to_numpy(dtype=bool)
        if controls.any():
            centre = plate.loc[controls, names].mean()
            wells.loc[plate.index, names] = plate[names] - centre
    wells["edge"] = on_edge(wells["well"].to_numpy(dtype=str))
    return wells.astype({"control": bool})


def well_table(wells: pd.DataFrame) -> pd.DataFrame:
    """The table `WELLS` from the wells as `well_effects` gives them."""
    controls = wells.groupby("plate")["control"].transform("sum").to_numpy(dtype=np.float64)
    control = wells["control"].to_numpy(dtype=bool)
    # A control is a part of the mean that was subtracted: away from the others it lies farther.
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(control, controls / (controls - 1), 1.0)
        distance = np.linalg.norm(wells[latent_columns(wells)], axis=1) * share
    distance[(controls == 0) | (control & (controls == 1))] = np.nan
    return wells.assign(distance=distance)[[column.name for column in WELLS.columns]]


def on_edge(wells: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Whether each well (W,) of a screen, such as B02, lies on the border of its plate.

    Plates are taken to be of the smallest of `FORMATS` that has all these wells. A well whose name
    tells no row and column counts as inside.
    """
    rows, columns = places(wells)
    known = np.isfinite(rows)
    if not known.any():
        return np.zeros(len(wells), dtype=bool)
    fits = [f for f in FORMATS if rows[known].max() <= f[0] and columns[known].max() <= f[1]]
    last_row, last_column = fits[0] if fits else (np.inf, np.inf)
    return np.asarray((rows == 1) | (rows == last_row) | (columns == 1) | (columns == last_column))


def places(wells: NDArray[np.str_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column of each well (W,), from 1; NaN where its name does not tell."""
    parts = pd.Series(wells).str.upper().str.extract(r"^([A-Z]{1,2})(\d+)$")
    rows = parts[0].map(_row, na_action="ignore").to_numpy(dtype=np.float64)
    return np.asarray(rows), np.asarray(parts[1], dtype=np.float64)


def _row(letters: str) -> int:
    """Number of a row, from 1: A is 1, AA is 27."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number
