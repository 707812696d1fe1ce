"""Tiles, embeddings and platemaps of a screen → its phenotype tables, published file by file."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import vae_sci
from vae_sci.config import PhenotypesSettings, PlateRow
from vae_sci.contracts import (
    CELLS,
    CLUSTERS,
    DOSES,
    EMBEDDINGS,
    ENRICHMENT,
    FIELDS,
    NORMALIZATION,
    RESOLUTIONS,
    SIMILARITY,
    TILES,
    TREATMENTS,
    WELLS,
)
from vae_sci.errors import ContractError, InputError
from vae_sci.files import write_json
from vae_sci.images.platemap import need_wells, read_platemap
from vae_sci.phenotypes.cluster import by_size, cluster_table
from vae_sci.phenotypes.effects import well_effects, well_table
from vae_sci.phenotypes.enrichment import treatment_enrichment
from vae_sci.phenotypes.h5ad import write_h5ad
from vae_sci.phenotypes.map import draw_map
from vae_sci.phenotypes.neighbours import fuzzy_graph, nearest
from vae_sci.phenotypes.normalize import normalization_table, normalize, normalize_fully
from vae_sci.phenotypes.place import place
from vae_sci.phenotypes.profiles import TREATMENT, latent_columns, write_profiles
from vae_sci.phenotypes.sample import in_proportion
from vae_sci.phenotypes.stability import BOOTSTRAPS, Clusters, find_clusters
from vae_sci.phenotypes.treatments import dose_table, similarity_table, treatment_table

log = logging.getLogger("vae_sci")

QUALITY = ("saturated", "autocorrelation", "focus")
"""Columns of the tile table that say whether to believe a cell; carried into `CELLS`."""

_MADE_HERE = (
    "cluster",
    "umap_1",
    "umap_2",
    "rate_z",
    "rate_u",
    "distortion",
    "novelty",
    "normalized_by",
    "fitted",
    "confidence",
)
_STEPS = 7 + BOOTSTRAPS


def make_phenotypes(
    rows: list[PlateRow],
    results: Path,
    model: str,
    settings: PhenotypesSettings,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `{results}/phenotypes/{model}/`: the tables of cells, clusters, treatments and wells.

    Reads `{results}/tiles/{plate}.parquet`, `{results}/embeddings/{model}/{plate}.parquet` and the
    platemaps of `rows`. `progress` is called with (steps done, steps in all). Every random choice
    follows `seed`. Warnings go to the logger `vae_sci` and into `scores.json`.

    Raises `ContractError` for a cell that is in the tile or the embedding table alone, and
    `InputError` for wells that a platemap lacks.
    """
    steps = iter(range(1, _STEPS + 1))

    def done() -> None:
        if progress is not None:
            progress(next(steps), _STEPS)

    cells, intensities = read_cells(rows, results, model)
    names = latent_columns(cells)
    raw = cells[names].copy()
    done()
    z, levels, warnings, after = normalize_fully(raw.to_numpy(), cells, settings, seed)
    empty = empty_wells(rows, results, cells)
    if len(empty):
        lost = empty["plate"] + "/" + empty["well"]
        warnings.append(f"imaged wells without a cell ({len(lost)}): {_some(lost)}")
    if not cells["control"].any():
        warnings.append("no control cells: what compares treatments with controls is left empty")
    for warning in warnings:
        log.warning(warning)
    cells[names], cells["normalized_by"] = z, levels
    done()
    clusters = _add_clusters(cells, z, settings, seed, done)
    cells = CELLS.validate(cells, "the cells of this run")
    done()
    wells = well_effects(cells)
    enrichment = treatment_enrichment(cells, seed)
    beside, _, _ = normalize(
        intensities / np.maximum(intensities.std(axis=0), 1e-12), cells, settings
    )
    treatments = treatment_table(cells, wells, empty, beside, enrichment, settings, seed)
    done()

    folder = results / "phenotypes" / model
    CELLS.write(cells, folder / "cells.parquet")
    CLUSTERS.write(cluster_table(cells, enrichment, clusters.stability), folder / "clusters.csv")
    RESOLUTIONS.write(clusters.resolutions, folder / "resolutions.csv")
    TREATMENTS.write(treatments, folder / "treatments.csv")
    WELLS.write(well_table(wells), folder / "wells.csv")
    DOSES.write(dose_table(wells, treatments, seed), folder / "doses.csv")
    SIMILARITY.write(similarity_table(wells), folder / "similarity.csv")
    NORMALIZATION.write(normalization_table(after, cells, seed), folder / "normalization.csv")
    write_profiles(cells, folder)
    ENRICHMENT.write(enrichment, folder / "enrichment.csv")
    about = {"settings": settings.model_dump(mode="json"), "seed": seed, "versions": versions()}
    write_h5ad(cells, raw, about, folder / "cells.h5ad")
    write_json(_scores(cells, warnings), folder / "scores.json")
    done()


def read_cells(
    rows: list[PlateRow], results: Path, model: str
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """All cells of the screen sorted by `cell_id`: tile table, platemap and embedding joined.

    Carries `QUALITY` and whatever tile table and platemap hold beyond the contract; a column in
    both is the platemap's. With it mean and contrast of the channels (N, 2 C), grey levels.
    """
    plates = [_read_plate(row, results, model) for row in rows]
    parts = [cells for cells, _ in plates]
    latent = [tuple(latent_columns(part)) for part in parts]
    other = next((i for i, names in enumerate(latent) if names != latent[0]), None)
    if other is not None:
        raise ContractError(
            required=f"the same dimensions of z on all plates; {rows[0].plate}: {len(latent[0])}",
            found=f"{len(latent[other])} on {rows[other].plate}",
            action="encode all plates with the same model",
        )
    cells = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    if cells.empty:
        raise ContractError(
            required="at least one cell",
            found=f"no cell in the tile tables of {', '.join(row.plate for row in rows)}",
            action="results/ledger says why cells were dropped",
        )
    kinds = cells.groupby(TREATMENT, dropna=False)["control"].nunique()
    if (kinds > 1).any():
        raise InputError(
            required="a treatment at one concentration that is control in all its wells or in none",
            found=f"both for {_some(kinds.index[kinds > 1].get_level_values(0))}",
            action="give the wells that are not controls a treatment name of their own",
        )
    cells = cells.sort_values("cell_id", ignore_index=True)
    levels = pd.concat([levels for _, levels in plates]).loc[cells["cell_id"]]
    return cells, levels.to_numpy(dtype=np.float64)


def empty_wells(rows: list[PlateRow], results: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """Wells with an image and no cell in `cells`: plate, well, treatment, concentration, control.

    A treatment that kills all cells of a well leaves no other trace.
    """
    parts = [pd.DataFrame(columns=["plate", "well", *TREATMENT, "control"])]
    for row in rows:
        path = results / FIELDS.path.format(plate=row.plate)
        if row.platemap is None or not path.is_file():
            continue  # cells that came ready-made: who knows which wells there were
        imaged = FIELDS.read(path)["well"].unique()
        left = np.setdiff1d(imaged, cells.loc[cells["plate"] == row.plate, "well"])
        platemap = read_platemap(row)
        platemap = platemap[platemap["well"].isin(left)].assign(plate=row.plate)
        parts.append(platemap.reindex(columns=parts[0].columns))
    found = [part for part in parts if len(part)]
    return pd.concat(found, ignore_index=True) if found else parts[0]


def versions() -> dict[str, str]:
    """Versions of vae_sci and of the packages that decide the result."""
    packages = ("numpy", "scikit-learn", "umap-learn", "igraph", "anndata")
    return {"vae_sci": vae_sci.__version__} | {p: importlib.metadata.version(p) for p in packages}


def _add_clusters(
    cells: pd.DataFrame,
    z: NDArray[np.float64],
    settings: PhenotypesSettings,
    seed: int,
    done: Callable[[], None],
) -> Clusters:
    """Add cluster, confidence, fitted, umap_1 and umap_2 to `cells`, a row per row of z (N, d).

    Clusters and picture are fitted to at most `settings.fitted_cells` of them; the rest is placed
    beside these.
    """
    wells = (cells["plate"] + "/" + cells["well"]).to_numpy(dtype=str)
    k = settings.neighbours
    rows = in_proportion(cells, settings.fitted_cells, seed)
    fitted = z[rows]
    indices, distances = nearest(fitted, k)
    graph = fuzzy_graph(indices, distances)
    done()
    clusters = find_clusters(fitted, indices, graph, wells[rows], settings.resolutions, seed, done)
    labels = clusters.labels
    picture = draw_map(fitted, graph, settings.umap_min_dist, seed)
    done()

    own = np.zeros(len(cells), dtype=bool)
    own[rows] = True
    cluster, confidence = np.empty(len(cells), dtype=np.int64), np.ones(len(cells))
    drawn = np.empty((len(cells), 2), dtype=np.float32)
    cluster[own], drawn[own] = labels, picture
    if len(fitted) > 1:
        confidence[own] = (labels[indices[:, 1:]] == labels[:, None]).mean(axis=1)
    if not own.all():
        placed = place(z[~own], fitted, labels, picture, k)
        cluster[~own], confidence[~own], drawn[~own] = placed[:3]
    number = by_size(cluster)  # with the placed ones another may be larger
    clusters = clusters._replace(stability=clusters.stability[np.argsort(number)])
    cluster = number[cluster]
    cells["cluster"], cells["confidence"], cells["fitted"] = cluster.astype(str), confidence, own
    cells[["umap_1", "umap_2"]] = drawn
    return clusters


def _read_plate(row: PlateRow, results: Path, model: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A plate's cells, and by `cell_id` the mean and contrast of their channels."""
    tiles_path = results / "tiles" / f"{row.plate}.parquet"
    embedding_path = results / "embeddings" / model / f"{row.plate}.parquet"
    tiles, embedding = TILES.read(tiles_path), EMBEDDINGS.read(embedding_path)
    for here, there, paths in (
        (tiles, embedding, (tiles_path, embedding_path)),
        (embedding, tiles, (embedding_path, tiles_path)),
    ):
        lost = here.loc[~here["cell_id"].isin(there["cell_id"]), "cell_id"]
        if len(lost):
            raise ContractError(
                required=f"every cell of {paths[0]} in {paths[1]}",
                found=f"{_some(lost)} only in the first",
                action="encode the plate again: its tiles have changed since",
            )
    wanted = {column.name for column in CELLS.columns} | set(QUALITY)
    contract = {column.name for column in TILES.columns}
    levels = [name for name in tiles.columns if name.startswith(("intensity_", "spread_"))]
    extra = [name for name in tiles.columns if name not in contract and name not in levels]
    cells = tiles[[name for name in tiles.columns if name in wanted & contract] + extra]
    cells = _with_treatment(cells, row, tiles_path).assign(batch=row.batch)
    taken = [n for n in cells.columns if n in _MADE_HERE or n.startswith(("z_", "sd_"))]
    if taken:
        raise InputError(
            required="carried columns with names of their own",
            found=f"{', '.join(taken)} in {row.platemap or row.table} of plate {row.plate}",
            action=f"rename them, as in columns = {taken[0]}:my_{taken[0]} in plates.tsv",
        )
    latent = [n for n in embedding.columns if not n.startswith("sd_")]
    cells = cells.merge(embedding[latent], on="cell_id", validate="one_to_one")
    return cells, tiles.set_index("cell_id")[levels]


def _with_treatment(cells: pd.DataFrame, row: PlateRow, source: Path) -> pd.DataFrame:
    """`cells` with treatment, concentration, control and all columns of the platemap."""
    if row.platemap is not None:
        platemap = read_platemap(row)
        need_wells(row, cells["well"], platemap)
        # An optional column that the platemap lacks comes empty: it must not hide the tiles' own.
        platemap = platemap.drop(
            columns=[n for n in platemap if n in cells and n != "well" and platemap[n].isna().all()]
        )
        cells = cells.drop(columns=[n for n in platemap if n != "well"], errors="ignore").merge(
            platemap, on="well", how="left", validate="many_to_one"
        )
        source = Path(row.platemap)
    absent = pd.DataFrame(
        {"treatment": pd.NA, "concentration": np.nan, "control": False}, cells.index
    )
    cells = cells.join(absent[[name for name in absent if name not in cells]])
    cells = cells.astype({"treatment": "string", "concentration": "float64"})
    if not pd.api.types.is_bool_dtype(cells["control"]) or cells["control"].isna().any():
        raise InputError(
            required="true or false in every row of column control",
            found=f"{_some(cells['control'].drop_duplicates())} in {source}",
            action="correct it",
        )
    mixed = cells.groupby("well")[[*TREATMENT, "control"]].nunique(dropna=False).max(axis=1) > 1
    if mixed.any():
        raise InputError(
            required="one treatment and concentration per well",
            found=f"more than one in {_some(mixed.index[mixed])} of plate {row.plate} in {source}",
            action="correct the table",
        )
    return cells


def _scores(cells: pd.DataFrame, warnings: list[str]) -> dict[str, Any]:
    """What `scores.json` holds: counts, what z was normalised by, and warnings."""
    return {
        "n_cells": len(cells),
        "n_clusters": int(cells["cluster"].nunique()),
        "normalized_by": cells["normalized_by"].value_counts().to_dict(),
        "warnings": warnings,
    }


def _some(names: Iterable[Any], most: int = 5) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" * (len(listed) > most))
