"""A new plate's cells among the phenotypes of a run, which stay as they are."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.config import PhenotypesSettings, PlateRow, parse
from vae_sci.contracts import ASSIGNED, CELLS
from vae_sci.errors import ContractError, InputError
from vae_sci.phenotypes.h5ad import read_h5ad
from vae_sci.phenotypes.make import read_cells
from vae_sci.phenotypes.neighbours import nearest_among
from vae_sci.phenotypes.normalize import normalize, refuse_harmony
from vae_sci.phenotypes.place import place
from vae_sci.phenotypes.profiles import latent_columns
from vae_sci.phenotypes.sample import in_proportion

log = logging.getLogger("vae_sci")

COMPARED = 10_000
"""Most of the fitted cells whose distance to their neighbours new cells are compared with."""


def assign_plate(row: PlateRow, results: Path, model: str) -> None:
    """Write `{results}/phenotypes/{model}/assigned/{plate}.parquet`, the table `ASSIGNED`.

    Reads what `make_phenotypes` reads of the plate, and what it wrote: `cells.parquet`, and from
    `cells.h5ad` z before normalisation and the settings. Cells are placed as
    `place` tells. Controls are the plate's own; where they are too few, those of its batch
    or of the run, as for the plates of the run.

    Raises `InputError` for a plate of the run, or a run with Harmony; `ContractError` for tables
    that are missing, or z of another number of dimensions.
    """
    folder = results / "phenotypes" / model
    run = CELLS.read(folder / "cells.parquet")
    if (run["plate"] == row.plate).any():
        raise InputError(
            required="a plate that is not in the run",
            found=f"{row.plate}, whose clusters are in {folder / 'cells.parquet'}",
            action="read them there",
        )
    raw, about = read_h5ad(folder / "cells.h5ad")
    settings = parse(PhenotypesSettings, about["settings"], str(folder / "cells.h5ad"))
    refuse_harmony(settings)
    cells, _ = read_cells([row], results, model)
    names = latent_columns(cells)
    if names != latent_columns(run):
        raise ContractError(
            required=f"the {raw.shape[1]} dimensions of z of {folder / 'cells.parquet'}",
            found=f"{len(names)} on {row.plate}",
            action="encode the plate with the model of the run",
        )
    about_wells = ["plate", "batch", "well", "treatment", "control"]
    both = pd.concat([run[about_wells], cells[about_wells]], ignore_index=True)
    z, levels, warnings = normalize(np.vstack([raw, cells[names]]), both, settings)
    z, cells["normalized_by"] = z[len(run) :], levels[len(run) :]
    for warning in warnings:
        if f" {row.plate} (" in warning:
            log.warning(warning)
    fitted = run[run["fitted"]]
    known = fitted[names].to_numpy()
    k = settings.neighbours
    placed = place(
        z,
        known,
        fitted["cluster"].to_numpy(dtype=np.int64),
        fitted[["umap_1", "umap_2"]].to_numpy(dtype=np.float32),
        k,
    )
    cells[names] = z
    cells["cluster"], cells["confidence"] = placed.cluster.astype(str), placed.confidence
    cells[["umap_1", "umap_2"]] = placed.picture
    own = _own_distances(fitted, known, k, int(about["seed"]))
    cells["distance_percentile"] = 100 * np.searchsorted(own, placed.distance) / len(own)
    ASSIGNED.write(cells, folder / "assigned" / f"{row.plate}.parquet")


def _own_distances(
    fitted: pd.DataFrame, z: NDArray[np.float64], k: int, seed: int
) -> NDArray[np.float64]:
    """Mean distance of fitted cells to their k nearest others, of some of every well, sorted."""
    some = in_proportion(fitted, COMPARED, seed)
    _, distances = nearest_among(z[some], z, k + 1)  # the first is the cell itself, or its copy
    others: Any = distances[:, 1:] if distances.shape[1] > 1 else distances
    return np.sort(others.mean(axis=1).astype(np.float64))
