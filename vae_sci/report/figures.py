"""All figures of one model, from the files of a results folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from vae_sci.config import ReportSettings
from vae_sci.contracts import (
    CELLS,
    CLUSTERS,
    DOSES,
    ENRICHMENT,
    GENERATED,
    HISTORY,
    MORPHS,
    NORMALIZATION,
    RESAMPLED,
    SAMPLES,
    TILES,
    TREATMENTS,
    WELLS,
    Contract,
)
from vae_sci.errors import ContractError, SettingsError
from vae_sci.report import images, morph, umap
from vae_sci.report.doses import dose_response
from vae_sci.report.enrichment import enrichment
from vae_sci.report.files import read_card, read_stack
from vae_sci.report.gallery import gallery
from vae_sci.report.plates import plate_effects
from vae_sci.report.reconstructions import reconstructions
from vae_sci.report.samples import resampled, samples
from vae_sci.report.style import Picture, drawing, save
from vae_sci.report.training import training


def draw_all(
    results: Path,
    model: str,
    settings: ReportSettings,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Draw every figure of `model` under `results`/figures/`model`, as PNG and SVG, with its data.

    The lines in z are moreover an animated PNG, `morph_animation.png`.

    Parameters
    ----------
    settings : tiles per cluster, treatments with a panel, further columns to colour the map by.
    seed : of the tiles drawn at random and of the order in which cells are drawn.
    progress : called with (figures done, figures in all).
    """
    results = Path(results)
    description = read_card(results, model)
    channels = [str(name) for name in description["channels"]]
    phenotypes = results / "phenotypes" / model
    cells = CELLS.read(phenotypes / "cells.parquet")
    clusters = CLUSTERS.read(phenotypes / "clusters.csv")
    treatments = TREATMENTS.read(phenotypes / "treatments.csv")
    wells = WELLS.read(phenotypes / "wells.csv")
    tiles = _tiles(results, cells)
    for column in settings.colour_by:
        if column not in cells.columns:
            raise SettingsError(
                required="report.colour_by: columns of the table of cells",
                found=f"'{column}'; {phenotypes / 'cells.parquet'} has {', '.join(cells.columns)}",
                action="name one of these columns, or add it to the platemap",
            )

    folder = results / "generated" / model
    shown, (originals, made, drawn) = _generated(
        folder, GENERATED, ("originals", "reconstructions", "predictive"), len(channels)
    )
    sampled, (prior,) = _generated(folder, SAMPLES, ("samples",), len(channels))
    resampled_, (with_other_u,) = _generated(folder, RESAMPLED, ("resampled",), len(channels))
    walked, (on_lines,) = _generated(folder, MORPHS, ("morphs",), len(channels))
    contrast = images.limits(originals)
    lines = morph.strips(results, walked, on_lines, cells, tiles, contrast)

    figures: dict[str, Callable[[], Picture]] = {
        "training": lambda: training(
            HISTORY.read(results / "models" / model / "history.parquet"),
            int(description["latent_dim"]),
        ),
        "reconstructions": lambda: reconstructions(
            shown, channels, originals, made, drawn, prior[sampled["temperature"] == 1]
        ),
        "samples": lambda: samples(sampled, channels, prior, originals),
        "resampled": lambda: resampled(resampled_, channels, with_other_u, shown, originals, made),
        "morph": lambda: morph.draw(lines, channels, contrast),
        "umap_treatment": lambda: umap.by_treatment(cells, treatments, settings.treatments, seed),
        "umap_concentration": lambda: umap.by_concentration(
            cells, treatments, settings.treatments, seed
        ),
        "umap_plate": lambda: umap.by_plate(cells, seed),
        "umap_cluster": lambda: umap.by_cluster(cells, clusters, seed),
        "umap_quality": lambda: umap.by_quality(cells, tiles, seed),
        "gallery": lambda: gallery(
            results, cells, tiles, clusters, channels, settings.gallery_cells, seed
        ),
        "enrichment": lambda: enrichment(
            ENRICHMENT.read(phenotypes / "enrichment.csv"), treatments, clusters
        ),
        "dose_response": lambda: dose_response(
            wells, treatments, DOSES.read(phenotypes / "doses.csv"), settings.treatments
        ),
        "plates": lambda: plate_effects(
            wells, NORMALIZATION.read(phenotypes / "normalization.csv")
        ),
    }
    for column in settings.colour_by:
        figures[f"umap_{column}"] = partial(
            umap.by_column, cells, column, settings.treatments, seed
        )

    paths: list[Path] = []
    for done, (name, draw) in enumerate(figures.items(), start=1):
        with drawing():
            paths += save(draw(), results / "figures" / model / name)
        if progress is not None:
            progress(done, len(figures) + 1)
    with drawing():
        moving = morph.animation(lines)
    paths.append(results / "figures" / model / "morph_animation.png")
    morph.save_animation(moving, paths[-1])
    if progress is not None:
        progress(len(figures) + 1, len(figures) + 1)
    return paths


def _tiles(results: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """The tile tables of all plates that the cells come from."""
    plates = sorted(cells["plate"].unique())
    tables = [TILES.read(results / "tiles" / f"{plate}.parquet") for plate in plates]
    return pd.concat(tables, ignore_index=True)


def _generated(
    folder: Path, contract: Contract, stacks: Sequence[str], channels: int
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """A table of generated images, by row, and its stacks (N, C, H, W)."""
    name = contract.path.rpartition("/")[2]
    table = contract.read(folder / name).sort_values("row", ignore_index=True)
    found = [read_stack(folder / f"{stack}.ome.tif", channels) for stack in stacks]
    for stack, pixels in zip(stacks, found, strict=True):
        if len(pixels) != len(table):
            raise ContractError(
                required=f"an image in {stack}.ome.tif for each of the {len(table)} rows of {name}",
                found=f"{len(pixels)} images in {folder}",
                action="delete the folder and run again: the workflow makes it anew",
            )
    return table, found
