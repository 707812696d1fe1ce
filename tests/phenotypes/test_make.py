"""The room as a whole: real tables in, the promised tables out, nothing lost on the way."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

from vae_sci.config import PhenotypesSettings
from vae_sci.contracts import (
    CELLS,
    CLUSTERS,
    DOSES,
    EMBEDDINGS,
    ENRICHMENT,
    FIELDS,
    NORMALIZATION,
    PROFILES,
    RESOLUTIONS,
    SIMILARITY,
    TILES,
    TREATMENTS,
    WELLS,
)
from vae_sci.errors import ContractError, InputError
from vae_sci.phenotypes.make import make_phenotypes

DMSO = ("DMSO", 0.0, True)
SETTINGS = PhenotypesSettings(resolutions=(0.3,))
TABLES = {
    "cells.parquet": CELLS,
    "clusters.csv": CLUSTERS,
    "resolutions.csv": RESOLUTIONS,
    "treatments.csv": TREATMENTS,
    "wells.csv": WELLS,
    "doses.csv": DOSES,
    "similarity.csv": SIMILARITY,
    "normalization.csv": NORMALIZATION,
    "profiles.parquet": PROFILES,
    "enrichment.csv": ENRICHMENT,
}


def make(screen: Any, settings: PhenotypesSettings = SETTINGS, seed: int = 0) -> Path:
    make_phenotypes(screen.rows, screen.results, "vae", settings, seed)
    return screen.results / "phenotypes" / "vae"


def test_a_screen_with_one_strong_treatment(screen: Any) -> None:
    screen.add("P2", offset=3.0).add("P1", platemap=False)
    folder = make(screen)
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [*TABLES, "cells.h5ad", "pycytominer", "scores.json"]
    )
    tables = {name: contract.read(folder / name) for name, contract in TABLES.items()}
    cells = tables["cells.parquet"]

    tiles = pd.concat([TILES.read(screen.tiles(p)) for p in ("P1", "P2")])
    z = pd.concat([EMBEDDINGS.read(screen.embedding(p)) for p in ("P1", "P2")])
    z = z.set_index("cell_id").loc[cells["cell_id"], [f"z_{i:03d}" for i in range(6)]]
    assert cells["cell_id"].tolist() == sorted(tiles["cell_id"])
    assert (cells["moa"] == "mechanism of " + cells["treatment"]).all()
    assert {"saturated", "autocorrelation", "focus"} <= set(cells.columns)
    for plate in ("P1", "P2"):
        here = (cells["plate"] == plate).to_numpy()
        control = (here & cells["control"]).to_numpy()
        expected = (z[here] - z[control].mean()) / z[control].std(ddof=0)
        np.testing.assert_allclose(cells.loc[here, z.columns], expected, atol=1e-9)
    assert set(cells["normalized_by"]) == {"plate"}

    moved = cells["treatment"] == "moved"
    cluster = cells.loc[moved, "cluster"].mode()[0]
    assert ((cells["cluster"] == cluster) == moved).mean() > 0.97
    clusters = tables["clusters.csv"].set_index("cluster")
    assert clusters["n_cells"].sum() == len(cells) == 280
    assert clusters.loc[cluster, "top_treatment"] == "moved"
    assert clusters.loc[cluster, "share_control"] < 0.05
    treatments = tables["treatments.csv"].set_index("treatment")
    assert treatments.loc["moved", "top_cluster"] == cluster
    assert treatments.loc["moved", "auroc"] > 0.99
    assert treatments.loc["moved", "distance"] == pytest.approx(6, abs=0.8)
    assert treatments.loc["same", "auroc"] == pytest.approx(0.5, abs=0.15)
    assert np.isnan(treatments.loc["DMSO", "auroc"])
    assert treatments.loc["DMSO", "control"]
    profiles = tables["profiles.parquet"]
    assert len(profiles) == 14
    well = cells[(cells["plate"] == "P2") & (cells["well"] == "C02")]
    row = profiles[(profiles["plate"] == "P2") & (profiles["well"] == "C02")].iloc[0]
    assert row["z_000"] == pytest.approx(well["z_000"].mean())
    assert (row["treatment"], row["n_cells"], row["control"]) == ("moved", 20, False)

    scores = json.loads((folder / "scores.json").read_text())
    assert scores["n_cells"] == 280
    assert scores["n_clusters"] == len(clusters)
    assert scores["normalized_by"] == {"plate": 280}
    assert scores["warnings"] == []
    table = tables["normalization.csv"].set_index(["target", "step"])
    assert table.loc[("plate of all cells", "raw"), "accuracy"] > 0.95
    assert table.loc[("plate of all cells", "standardize"), "accuracy"] < 0.65
    assert table.loc[("plate of all cells", "raw"), "chance"] == 0.5
    treatment = table.loc[("treatment", "standardize")]
    assert treatment["accuracy"] > treatment["chance"] + 0.2


def test_cells_beyond_those_that_are_fitted_are_placed_beside_them(screen: Any) -> None:
    screen.add("P1", cells_per_well=40).add("P2", cells_per_well=40)
    folder = make(screen, PhenotypesSettings(resolutions=(0.3,), fitted_cells=140))
    cells = CELLS.read(folder / "cells.parquet")
    assert cells.groupby(["plate", "well"])["fitted"].sum().tolist() == [10] * 14
    moved = cells["treatment"] == "moved"
    sizes = cells["cluster"].astype(int).value_counts().sort_index()
    assert sizes.is_monotonic_decreasing
    cluster = cells.loc[moved & cells["fitted"], "cluster"].mode()[0]
    for own in (True, False):
        some = cells["fitted"] == own
        assert ((cells["cluster"] == cluster) == moved)[some].mean() > 0.97
        assert cells.loc[some, "confidence"].mean() > 0.9
    # The picture of a placed cell lies within that of its cluster.
    for _, members in cells.groupby("cluster"):
        known, placed = (
            members.loc[members["fitted"] == own, ["umap_1", "umap_2"]] for own in (True, False)
        )
        assert (placed.min() >= known.min()).all()
        assert (placed.max() <= known.max()).all()


def test_h5ad_opens_with_what_scanpy_needs(screen: Any) -> None:
    folder = make(screen.add("P1").add("P2", platemap=False))
    cells = CELLS.read(folder / "cells.parquet").set_index("cell_id")
    table = anndata.read_h5ad(folder / "cells.h5ad")
    assert table.obs_names.tolist() == cells.index.tolist()
    assert table.X.dtype == np.float32
    np.testing.assert_allclose(table.X, cells[table.var_names], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(table.obsm["X_umap"], cells[["umap_1", "umap_2"]], rtol=1e-6)
    raw = pd.concat([EMBEDDINGS.read(screen.embedding(p)) for p in ("P1", "P2")])
    raw = raw.set_index("cell_id").loc[cells.index, table.var_names]
    np.testing.assert_allclose(table.obsm["X_z_raw"], raw, rtol=1e-6, atol=1e-6)
    assert table.obs["cluster"].cat.categories.tolist() == sorted(set(cells["cluster"]), key=int)
    assert table.obs["cluster"].astype(str).tolist() == cells["cluster"].tolist()
    assert table.obs["control"].dtype == bool
    assert table.obs["moa"].dtype == "category"
    assert table.obs["x"].isna().all()
    assert "spatial" not in table.obsm
    assert table.uns["vae_sci"]["settings"]["neighbours"] == 15
    assert set(table.uns["vae_sci"]["versions"]) >= {"vae_sci", "umap-learn", "igraph"}


def test_same_seed_same_files_and_another_seed_another_picture(screen: Any) -> None:
    screen.add("P1")
    first, again, other = (
        CELLS.read(make(screen, seed=seed) / "cells.parquet") for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first, again)
    assert not np.array_equal(first["umap_1"], other["umap_1"])
    np.testing.assert_array_equal(first["z_000"], other["z_000"])


def test_fallback_is_a_column_a_warning_and_a_line_of_scores(
    screen: Any, caplog: pytest.LogCaptureFixture
) -> None:
    screen.add("P1").add("P2", {"B02": DMSO, "C02": ("moved", 1.0, False)})
    with caplog.at_level(logging.WARNING, "vae_sci"):
        folder = make(screen)
    cells = CELLS.read(folder / "cells.parquet")
    used = cells.groupby("plate")["normalized_by"].unique()
    assert [list(u) for u in used] == [["plate"], ["batch"]]
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["normalized_by"] == {"plate": 140, "batch": 40}
    assert [r.getMessage() for r in caplog.records if r.name == "vae_sci"] == scores["warnings"]
    assert "P2 (20 cells in 1 wells)" in scores["warnings"][0]


def test_an_imaged_well_without_a_cell_is_told(screen: Any) -> None:
    screen.add("P1")
    plain = {"string": "a", "Int64": 1, "float64": 0.5, "bool": False}
    wells = ["B02", "C02", "C03"]
    fields = pd.DataFrame({c.name: [plain[c.type]] * len(wells) for c in FIELDS.columns})
    FIELDS.write(fields.assign(plate="P1", well=wells), screen.results / "images" / "P1.parquet")
    for contract, path in ((TILES, screen.tiles("P1")), (EMBEDDINGS, screen.embedding("P1"))):
        table = contract.read(path)
        contract.write(table[~table["cell_id"].str.contains("/C03/")], path)
    folder = make(screen)
    warnings = json.loads((folder / "scores.json").read_text())["warnings"]
    assert warnings == ["imaged wells without a cell (1): P1/C03"]
    cells = CELLS.read(folder / "cells.parquet")
    control = cells["control"].to_numpy()
    np.testing.assert_allclose(cells.loc[control, "z_000"].mean(), 0, atol=1e-9)
    row = TREATMENTS.read(folder / "treatments.csv").set_index("treatment").loc["moved"]
    assert (row["n_wells"], row["n_empty_wells"], row["cell_count"]) == (1, 1, 0.5)
    assert "wells without a cell: 1" in row["suspicion"]


@pytest.mark.parametrize("lost_from", ["tiles", "embedding"])
def test_a_cell_in_one_table_alone_is_an_error_that_names_it(screen: Any, lost_from: str) -> None:
    screen.add("P1")
    contract, path = (
        (TILES, screen.tiles("P1"))
        if lost_from == "tiles"
        else (EMBEDDINGS, screen.embedding("P1"))
    )
    table = contract.read(path)
    contract.write(table[table["cell_id"] != "P1/C02/1/61"], path)
    with pytest.raises(ContractError, match="P1/C02/1/61 only in the first"):
        make(screen)


def test_a_well_that_the_platemap_lacks_is_an_error_that_names_it(screen: Any) -> None:
    screen.add("P1")
    path = Path(str(screen.rows[0].platemap))
    path.write_text("".join(line for line in path.open() if not line.startswith("C03")))
    with pytest.raises(InputError, match="C03"):
        make(screen)


def test_platemap_wins_over_columns_that_the_tiles_carry(screen: Any) -> None:
    screen.add("P1")
    tiles = TILES.read(screen.tiles("P1"))
    TILES.write(
        tiles.assign(moa="stale", control=True, treatment="stale", source="kept"),
        screen.tiles("P1"),
    )
    cells = CELLS.read(make(screen) / "cells.parquet")
    assert set(cells["moa"]) == {"mechanism of DMSO", "mechanism of moved", "mechanism of same"}
    assert set(cells["treatment"]) == {"DMSO", "moved", "same"}
    assert cells["control"].sum() == 60
    assert set(cells["source"]) == {"kept"}


def test_no_treatment_anywhere_still_gives_phenotypes(screen: Any) -> None:
    screen.add("P1", platemap=False)
    tiles = TILES.read(screen.tiles("P1"))
    TILES.write(tiles.drop(columns=["treatment", "concentration", "control"]), screen.tiles("P1"))
    folder = make(screen)
    cells = CELLS.read(folder / "cells.parquet")
    assert not cells["control"].any()
    assert set(cells["normalized_by"]) == {"all"}
    assert len(TREATMENTS.read(folder / "treatments.csv")) == 1
    assert ENRICHMENT.read(folder / "enrichment.csv")["p_value"].isna().all()
    warnings = json.loads((folder / "scores.json").read_text())["warnings"]
    assert any("no control cells" in w for w in warnings)


def test_an_earlier_result_is_left_alone_when_a_run_fails(screen: Any) -> None:
    folder = make(screen.add("P1"))
    before = {p: p.read_bytes() for p in folder.rglob("*.*")}
    screen.embedding("P1").unlink()
    with pytest.raises(ContractError, match=r"P1\.parquet"):
        make(screen)
    assert {p: p.read_bytes() for p in folder.rglob("*.*")} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control": "false"}, "true or false"),
        ({"cluster": "7"}, "cluster in cells.csv"),
        ({"z_position": 1.0}, "z_position in cells.csv"),
        ({"treatment": [f"t{i}" for i in range(140)]}, "more than one in B02"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(
    screen: Any, change: dict[str, object], message: str
) -> None:
    screen.add("P1", platemap=False)
    TILES.write(TILES.read(screen.tiles("P1")).assign(**change), screen.tiles("P1"))
    with pytest.raises(InputError, match=message):
        make(screen)


def test_a_treatment_that_is_control_in_some_wells_alone_is_refused(screen: Any) -> None:
    screen.add("P1").add("P2", {"B02": ("DMSO", 0.0, False), "C02": DMSO})
    with pytest.raises(InputError, match="both for DMSO"):
        make(screen)


def test_plates_encoded_with_different_dimensions_are_refused(screen: Any) -> None:
    screen.add("P1").add("P2", d=5)
    with pytest.raises(ContractError, match="5 on P2"):
        make(screen)


def test_progress_is_told(screen: Any) -> None:
    told: list[tuple[int, int]] = []
    screen.add("P1")
    make_phenotypes(
        screen.rows, screen.results, "vae", SETTINGS, 0, lambda a, b: told.append((a, b))
    )
    assert told == [(i, len(told)) for i in range(1, 1 + len(told))]
