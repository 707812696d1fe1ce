"""Mean z per well: what a treatment did, one row per well."""

from __future__ import annotations

import pandas as pd

TREATMENT = ["treatment", "concentration"]


def latent_columns(table: pd.DataFrame) -> list[str]:
    """The columns of z, in order."""
    return sorted(str(name) for name in table.columns if str(name).startswith("z_"))


def well_profiles(cells: pd.DataFrame) -> pd.DataFrame:
    """The table `PROFILES` from table `CELLS`: mean normalised z per well."""
    wells = cells.groupby(["plate", "well"], sort=True)
    about = wells[["batch", *TREATMENT, "control"]].first()
    about["n_cells"] = wells.size()
    return about.join(wells[latent_columns(cells)].mean()).reset_index()
