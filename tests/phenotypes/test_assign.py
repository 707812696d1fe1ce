"""A new plate among the clusters of a run: placed as its cells would be, nothing refitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vae_sci.cli import app
from vae_sci.config import PhenotypesSettings
from vae_sci.contracts import ASSIGNED, CELLS, EMBEDDINGS
from vae_sci.errors import ContractError, InputError
from vae_sci.phenotypes.assign import assign_plate
from vae_sci.phenotypes.make import make_phenotypes


def run(screen: Any, plates: int, settings: PhenotypesSettings) -> Path:
    """Phenotypes of the first plates of the screen."""
    make_phenotypes(screen.rows[:plates], screen.results, "vae", settings, 0)
    return screen.results / "phenotypes" / "vae"


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_plate_joins_the_clusters_and_the_run_stays_as_it_was(screen: Any) -> None:
    screen.add("P1").add("P2", offset=3.0).add("P9", offset=-5.0)
    settings = PhenotypesSettings(resolutions=(0.3,), normalization="whiten")
    folder = run(screen, 2, settings)
    before = files(folder)
    assign_plate(screen.rows[2], screen.results, "vae")
    assert files(folder) | before == files(folder)
    found = ASSIGNED.read(folder / "assigned" / "P9.parquet")
    cells = CELLS.read(folder / "cells.parquet")
    assert found["cell_id"].tolist() == sorted(EMBEDDINGS.read(screen.embedding("P9"))["cell_id"])
    assert (found["moa"] == "mechanism of " + found["treatment"]).all()
    assert set(found["normalized_by"]) == {"plate"}
    cluster = cells.loc[cells["treatment"] == "moved", "cluster"].mode()[0]
    moved = found["treatment"] == "moved"
    assert ((found["cluster"] == cluster) == moved).mean() > 0.97
    assert found["confidence"].between(0, 1).all()
    # On the map they lie among the cells of their cluster.
    for name, members in found.groupby("cluster"):
        known = cells.loc[cells["cluster"] == name, ["umap_1", "umap_2"]]
        middle = members[["umap_1", "umap_2"]].median()
        assert (middle >= known.quantile(0.05)).all()
        assert (middle <= known.quantile(0.95)).all()
    assert found["distance_percentile"].mean() == pytest.approx(50, abs=15)

    # As if the plate had been in the run: the same normalised z.
    names = [name for name in found if name.startswith("z_")]
    control = found["control"].to_numpy()
    whitened = np.cov(found.loc[control, names].to_numpy().T, bias=True)
    assert whitened.trace() / len(names) == pytest.approx(1, abs=0.2)
    np.testing.assert_allclose(found.loc[control, names].mean(), 0, atol=1e-6)


def test_cells_like_none_of_the_run_lie_far_from_all(screen: Any) -> None:
    screen.add("P1").add("P2").add("P9", shift=60.0)
    folder = run(screen, 2, PhenotypesSettings(resolutions=(0.3,)))
    assign_plate(screen.rows[2], screen.results, "vae")
    found = ASSIGNED.read(folder / "assigned" / "P9.parquet")
    moved = found["treatment"] == "moved"
    assert (found.loc[moved, "distance_percentile"] == 100).all()
    assert found.loc[~moved, "distance_percentile"].mean() < 75


def test_a_plate_without_controls_is_normalised_by_those_of_the_run(screen: Any) -> None:
    screen.add("P1", offset=3.0).add("P2", offset=3.0)
    screen.add("P9", {"C02": ("moved", 1.0, False)}, offset=3.0)
    folder = run(screen, 2, PhenotypesSettings(resolutions=(0.3,)))
    assign_plate(screen.rows[2], screen.results, "vae")
    found = ASSIGNED.read(folder / "assigned" / "P9.parquet")
    raw = EMBEDDINGS.read(screen.embedding("P9")).set_index("cell_id").loc[found["cell_id"]]
    run_z = pd.concat([EMBEDDINGS.read(screen.embedding(plate)) for plate in ("P1", "P2")])
    controls = run_z[run_z["cell_id"].str.contains("/B0")]
    expected = (raw["z_000"] - controls["z_000"].mean()) / controls["z_000"].std(ddof=0)
    np.testing.assert_allclose(found["z_000"], expected, atol=1e-5)
    assert set(found["normalized_by"]) == {"batch"}


def test_what_cannot_be_assigned_is_refused(screen: Any) -> None:
    screen.add("P1").add("P8", d=5)
    with pytest.raises(ContractError, match=r"cells\.parquet"):
        assign_plate(screen.rows[1], screen.results, "vae")
    folder = run(screen, 1, PhenotypesSettings(resolutions=(0.3,)))
    with pytest.raises(InputError, match="P1, whose clusters"):
        assign_plate(screen.rows[0], screen.results, "vae")
    with pytest.raises(ContractError, match="5 on P8"):
        assign_plate(screen.rows[1], screen.results, "vae")
    (folder / "cells.h5ad").write_bytes(b"broken")
    with pytest.raises(ContractError, match=r"cells\.h5ad cannot be read"):
        assign_plate(screen.rows[1], screen.results, "vae")


def test_the_verb_finds_the_plate_in_its_table(screen: Any) -> None:
    from typer.testing import CliRunner

    screen.add("P1").add("P9")
    folder = run(screen, 1, PhenotypesSettings(resolutions=(0.3,)))
    table = screen.folder / "new.tsv"
    table.write_text(
        f"plate\tkind\ttable\tplatemap\nP9\ttiles\tcells.csv\t{screen.rows[1].platemap}\n"
    )
    given = ["assign", "--plate", "P9", "--plates", str(table), "--results", str(screen.results)]
    answer = CliRunner().invoke(app, given)
    assert answer.exit_code == 0, answer.output
    assert (folder / "assigned" / "P9.parquet").is_file()
