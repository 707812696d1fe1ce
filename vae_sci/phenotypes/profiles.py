"""Mean z per well and per treatment, also with pycytominer's names of columns."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from vae_sci.contracts import CELLS, PROFILES, PYCYTOMINER_TREATMENTS, PYCYTOMINER_WELLS

TREATMENT = ["treatment", "concentration"]

FULL_WELL = 20
"""Cells from which on a well counts in full towards its treatment; with fewer, in proportion.

The mean of a few cells is mostly noise; of many it is mostly what the well itself adds, which more
cells do not lessen.
"""


def latent_columns(table: pd.DataFrame) -> list[str]:
    """The columns of z, in order."""
    return sorted(str(name) for name in table.columns if str(name).startswith("z_"))


def write_profiles(cells: pd.DataFrame, folder: Path) -> None:
    """Write profiles.parquet and the tables in pycytominer/ from table `CELLS` into `folder`."""
    wells = well_profiles(cells)
    PROFILES.write(wells, folder / "profiles.parquet")
    PYCYTOMINER_WELLS.write(pycytominer_names(wells), folder / "pycytominer" / "wells.parquet")
    PYCYTOMINER_TREATMENTS.write(
        pycytominer_names(treatment_profiles(wells)), folder / "pycytominer" / "treatments.parquet"
    )


def well_profiles(cells: pd.DataFrame) -> pd.DataFrame:
    """The table `PROFILES` from table `CELLS`: mean normalised z per well.

    Further texts of the cells that are one value in every well (the platemap's) are carried.
    """
    wells = cells.groupby(["plate", "well"], sort=True)
    about = wells[["batch", *TREATMENT, "control"]].first()
    about["n_cells"] = wells.size()
    profiles = about.join(wells[latent_columns(cells)].mean()).reset_index()
    contract = {column.name for column in CELLS.columns}
    further = [str(n) for n in cells if n not in contract and not str(n).startswith("z_")]
    return _carried(profiles, cells, ["plate", "well"], further)


def treatment_profiles(wells: pd.DataFrame) -> pd.DataFrame:
    """Means of table `PROFILES` over wells (`mean_of_wells`), a row per treatment, concentration.

    Columns: treatment, concentration, control, n_cells, n_wells, n_plates, z, and further texts of
    the wells that are one value in every treatment.
    """
    groups = wells.groupby(TREATMENT, dropna=False, sort=True)
    about = groups[["control"]].first().join(groups[["n_cells"]].sum())
    about["n_wells"], about["n_plates"] = groups.size(), groups["plate"].nunique()
    names = latent_columns(wells)
    means = mean_of_wells(wells[names], wells["n_cells"], [wells[name] for name in TREATMENT])
    profiles = about.join(means).reset_index()
    contract = {column.name for column in PROFILES.columns}
    further = [str(n) for n in wells if n not in contract and not str(n).startswith("z_")]
    return _carried(profiles, wells, TREATMENT, further)


def mean_of_wells(values: pd.DataFrame, n_cells: pd.Series, keys: list[pd.Series]) -> pd.DataFrame:
    """Mean of `values` (a row per well) by `keys`, wells of few cells counting less (`FULL_WELL`).

    A mean, not a median: of two to four wells, as is common, a median leaves out none or two.
    """
    weight = n_cells.clip(upper=FULL_WELL).astype("float64")
    sums = values.mul(weight, axis=0).groupby(keys, dropna=False, sort=True).sum()
    return sums.div(weight.groupby(keys, dropna=False, sort=True).sum(), axis=0)


def pycytominer_names(profiles: pd.DataFrame) -> pd.DataFrame:
    """The same table with `Metadata_` before every column but z; `Metadata_Plate`, `Metadata_Well`.

    So pycytominer and copairs tell metadata from features.
    """
    capital = {"plate": "Metadata_Plate", "well": "Metadata_Well"}
    return profiles.rename(
        columns={
            name: capital.get(name, f"Metadata_{name}")
            for name in profiles.columns
            if name not in latent_columns(profiles)
        }
    )


def _carried(
    profiles: pd.DataFrame, rows: pd.DataFrame, keys: list[str], names: list[str]
) -> pd.DataFrame:
    """`profiles` (one row per `keys`) with those of `names` that do not vary within its rows.

    Texts alone, as the platemap's are: numbers (saturated: 0) may be alike by chance.
    """
    number = rows.groupby(keys, dropna=False, sort=True).ngroup()
    first = rows.loc[~number.duplicated(), names].set_axis(number[~number.duplicated()], axis=0)
    first = first.sort_index()
    for name in names:
        if pd.api.types.is_numeric_dtype(rows[name]):
            continue
        codes = pd.Series(pd.factorize(rows[name])[0], index=rows.index)
        if (codes == codes.groupby(number).transform("first")).all():
            profiles[name] = first[name].to_numpy()
    return profiles
