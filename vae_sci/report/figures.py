"""All figures of one model, from the files of a results folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from vae_sci.config import ReportSettings
from vae_sci.contracts import CELLS, CLUSTERS, ENRICHMENT, GENERATED, HISTORY, TILES, TREATMENTS
from vae_sci.errors import ContractError, SettingsError
from vae_sci.report import umap
from vae_sci.report.enrichment import enrichment
from vae_sci.report.gallery import gallery
from vae_sci.report.reconstructions import reconstructions
from vae_sci.report.style import Picture, drawing, save
from vae_sci.report.training import training


def draw_all(
    results: Path,
    model: str,
    settings: ReportSettings,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Draw every figure of `model` under `results`/figures/`model`, as PNG and SVG.

    Parameters
    ----------
    settings : tiles per cluster, treatments with a panel, further columns to colour the map by.
    seed : of the tiles drawn at random and of the order in which cells are drawn.
    progress : called with (figures done, figures in all).
    """
    results = Path(results)
    description = _json(results / "models" / model / "model.json")
    channels = [str(name) for name in description["channels"]]
    phenotypes = results / "phenotypes" / model
    cells = CELLS.read(phenotypes / "cells.parquet")
    clusters = CLUSTERS.read(phenotypes / "clusters.csv")
    treatments = TREATMENTS.read(phenotypes / "treatments.csv")
    tiles = _tiles(results, cells)
    for column in settings.colour_by:
        if column not in cells.columns:
            raise SettingsError(
                required="report.colour_by: columns of the table of cells",
                found=f"'{column}'; {phenotypes / 'cells.parquet'} has {', '.join(cells.columns)}",
                action="name one of these columns, or add it to the platemap",
            )

    figures: dict[str, Callable[[], Picture]] = {
        "training": lambda: training(
            HISTORY.read(results / "models" / model / "history.parquet"),
            int(description["latent_dim"]),
        ),
        "reconstructions": lambda: _reconstructions(results / "generated" / model, channels),
        "umap_treatment": lambda: umap.by_treatment(cells, treatments, settings.treatments, seed),
        "umap_concentration": lambda: umap.by_concentration(
            cells, treatments, settings.treatments, seed
        ),
        "umap_plate": lambda: umap.by_plate(cells, seed),
        "umap_cluster": lambda: umap.by_cluster(cells, seed),
        "umap_quality": lambda: umap.by_quality(cells, tiles, seed),
        "gallery": lambda: gallery(
            results, cells, tiles, clusters, channels, settings.gallery_cells, seed
        ),
        "enrichment": lambda: enrichment(
            ENRICHMENT.read(phenotypes / "enrichment.csv"), treatments
        ),
    }
    for column in settings.colour_by:
        figures[f"umap_{column}"] = partial(
            umap.by_column, cells, column, settings.treatments, seed
        )

    paths: list[Path] = []
    for name, draw in figures.items():
        with drawing():
            paths += save(draw(), results / "figures" / model / name)
        if progress is not None:
            progress(len(paths) // 2, len(figures))
    return paths


def _tiles(results: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """The tile tables of all plates that the cells come from."""
    plates = sorted(cells["plate"].unique())
    tables = [TILES.read(results / "tiles" / f"{plate}.parquet") for plate in plates]
    return pd.concat(tables, ignore_index=True)


def _reconstructions(folder: Path, channels: list[str]) -> Picture:
    table = GENERATED.read(folder / "cells.csv").sort_values("row", ignore_index=True)
    originals = _stack(folder / "originals.ome.tif", len(channels))
    made = _stack(folder / "reconstructions.ome.tif", len(channels))
    samples = _stack(folder / "samples.ome.tif", len(channels))
    if not len(table) == len(originals) == len(made):
        raise ContractError(
            required="as many originals and reconstructions as rows of cells.csv",
            found=f"{len(originals)}, {len(made)} and {len(table)} in {folder}",
            action="delete the folder and run again: the workflow makes it anew",
        )
    return reconstructions(table, channels, originals, made, samples)


def _stack(path: Path, channels: int) -> np.ndarray:
    """An image stack (N, C, H, W); TIFF readers drop axes of length one, so C is given."""
    import tifffile

    try:
        pixels = tifffile.imread(path)
        return pixels.reshape(-1, channels, *pixels.shape[-2:])
    except (OSError, ValueError) as error:
        raise ContractError(
            required=f"a stack of tiles with {channels} channels",
            found=f"{path} cannot be read as such: {error}",
            action="delete it and run again: the workflow makes it anew",
        ) from None


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ContractError(
            required="the description of the trained model",
            found=f"{path} cannot be read: {error}",
            action="train the model again",
        ) from None
