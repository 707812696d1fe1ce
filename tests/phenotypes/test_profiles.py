"""Profiles of wells and treatments, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vae_sci.phenotypes.profiles import (
    FULL_WELL,
    pycytominer_names,
    treatment_profiles,
    well_profiles,
)


@pytest.fixture
def cells() -> pd.DataFrame:
    """Two wells of a, of one and of three cells, and one of DMSO."""
    return pd.DataFrame(
        {
            "cell_id": [str(i) for i in range(6)],
            "plate": "P",
            "well": ["B02", "B03", "B03", "B03", "B04", "B04"],
            "batch": "week",
            "treatment": ["a", "a", "a", "a", "DMSO", "DMSO"],
            "concentration": [np.nan] * 4 + [0.0, 0.0],
            "control": [False] * 4 + [True] * 2,
            "moa": ["M"] * 4 + [None] * 2,
            "operator": ["x", "y", "y", "y", "x", "x"],
            "focus": [1.0, 1.0, 2.0, 3.0, 1.0, 1.0],
            "saturated": 0.0,
            "z_000": [8.0, 0.0, 1.0, 2.0, -1.0, 1.0],
        }
    )


def test_wells_carry_what_the_platemap_says_and_nothing_of_single_cells(
    cells: pd.DataFrame,
) -> None:
    wells = well_profiles(cells)
    assert wells["z_000"].tolist() == [8, 1, 0]
    assert wells["n_cells"].tolist() == [1, 3, 2]
    assert wells["moa"].fillna("").tolist() == ["M", "M", ""]
    assert not {"focus", "saturated"} & set(wells)


def test_treatments_are_means_of_wells_in_which_few_cells_count_less(cells: pd.DataFrame) -> None:
    found = treatment_profiles(well_profiles(cells)).set_index("treatment")
    assert found.loc["a", "z_000"] == (1 * 8 + 3 * 1) / 4
    assert found.loc["a", ["n_wells", "n_cells", "n_plates"]].tolist() == [2, 4, 1]
    assert found.loc["a", "moa"] == "M"
    assert "operator" not in found
    full = well_profiles(cells).assign(n_cells=[FULL_WELL, 50 * FULL_WELL, 1])
    assert treatment_profiles(full).set_index("treatment").loc["a", "z_000"] == (8 + 1) / 2


def test_names_of_pycytominer(cells: pd.DataFrame) -> None:
    named = pycytominer_names(well_profiles(cells))
    assert [name for name in named if not name.startswith("Metadata_")] == ["z_000"]
    assert {"Metadata_Plate", "Metadata_Well", "Metadata_moa"} <= set(named)
