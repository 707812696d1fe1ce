"""Results folders made of random numbers, through the contracts, for figures at their extremes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

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
)
from vae_sci.tiles.store import write_store

NAMES = ("DMSO", "taxol", "5-fluorouracil", "latrunculin B", "camptothecin (S)-(+) hydrochloride")


@pytest.fixture(scope="session")
def make_screen() -> Callable[..., Path]:
    """The function that makes a results folder."""
    return make_results


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small screen with three channels."""
    return make_results(tmp_path_factory.mktemp("made_up"), n_cells=400, side=24)


def make_results(
    results: Path,
    *,
    n_cells: int = 1500,
    n_treatments: int = 8,
    n_doses: int = 3,
    n_clusters: int = 6,
    n_plates: int = 2,
    channels: tuple[str, ...] = ("DNA", "tubulin", "actin"),
    concentrations: bool = True,
    side: int = 48,
    epochs: int = 25,
    missing: bool = False,
    draws: int = 3,
    seed: int = 0,
) -> Path:
    """Write every file that the figures read; returns `results`."""
    rng = np.random.default_rng(seed)
    names = [NAMES[k] if k < len(NAMES) else f"compound-{k:03d}" for k in range(n_treatments)]
    treatment = rng.choice(n_treatments, n_cells)
    cluster = (treatment * 7 + (rng.random(n_cells) < 0.4) * rng.integers(0, 99, n_cells)) % (
        n_clusters
    )
    angle = 2 * np.pi * cluster / n_clusters
    place = 6 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(size=(n_cells, 2))
    dose = 10.0 ** (treatment % 3 - 2 + rng.integers(0, n_doses, n_cells))
    control = treatment == 0
    plate = np.array([f"P{k:02d}" for k in rng.integers(0, n_plates, n_cells)])
    plate[:n_plates] = [f"P{k:02d}" for k in range(n_plates)]
    cells = pd.DataFrame(
        {
            "cell_id": [f"{plate[k]}/B02/1/{k:06d}" for k in range(n_cells)],
            "plate": plate,
            "well": "B02",
            "site": "1",
            "batch": "b1",
            "y": rng.random(n_cells) * 900,
            "x": rng.random(n_cells) * 900,
            "treatment": pd.array([names[k] for k in treatment], dtype="string"),
            "concentration": np.where(control | (not concentrations), np.nan, dose),
            "control": control,
            "split": "test",
            "cluster": cluster.astype(str),
            "confidence": 1.0,
            "fitted": True,
            "umap_1": place[:, 0],
            "umap_2": place[:, 1],
            "rate_z": rng.gamma(20, 2, n_cells),
            "rate_u": rng.gamma(200, 2, n_cells),
            "distortion": rng.lognormal(9, 0.1, n_cells),
            "novelty": rng.random(n_cells) * 100,
            "normalized_by": "plate",
            **{f"z_{k:03d}": rng.normal(size=n_cells) + place[:, k % 2] for k in range(4)},
            "moa": np.array([f"mode {k % 5}" for k in treatment]),
            "nuclear_area": rng.gamma(50, 4, n_cells),
        }
    )
    if missing:
        cells.loc[5:60, "treatment"] = pd.NA
        cells.loc[5:60, "control"] = False
    cells = cells.sort_values("cell_id", ignore_index=True)
    CELLS.write(cells, results / "phenotypes/vae/cells.parquet")

    key = ["treatment", "concentration"]
    groups = cells.groupby(key, dropna=False)
    treatments = groups.agg(control=("control", "first"), n_cells=("cell_id", "size"))
    treatments = treatments.reset_index().assign(
        n_wells=rng.integers(1, 9, len(treatments)),
        n_plates=n_plates,
        distance=rng.gamma(2, 1, len(treatments)),
        p_value=0.01,
        q_value=0.02,
        untested=None,
        auroc=0.7,
        auroc_intensity=0.6,
        cell_count=rng.uniform(0.3, 1.2, len(treatments)),
        n_empty_wells=0,
        heterogeneity=rng.uniform(0.9, 1.3, len(treatments)),
        edge_share=0.0,
        edge_share_control=0.1,
        agreement=rng.uniform(-0.2, 1, len(treatments)),
        suspicion=None,
        top_cluster="0",
    )
    TREATMENTS.write(treatments, results / "phenotypes/vae/treatments.csv")
    wells = treatments.merge(pd.DataFrame({"plate": sorted(set(plate))}), "cross")
    wells["well"] = [f"{'BCDEFGHIJKLMNO'[k // 20 % 14]}{k % 20 + 2:02d}" for k in wells.index]
    WELLS.write(
        wells[["plate", "well", *key, "control"]]
        .drop_duplicates(["plate", "well"])
        .assign(n_cells=20, edge=False, distance=rng.gamma(2, 1), spread=2.0),
        results / "phenotypes/vae/wells.csv",
    )
    named = treatments.loc[~treatments["control"] & treatments["treatment"].notna(), "treatment"]
    DOSES.write(
        pd.DataFrame({"treatment": named.unique()}).assign(
            n_doses=2,
            n_wells=4,
            trend=0.5,
            p_value=0.03,
            q_value=0.04,
            untested=None,
            lowest_active=1.0,
        ),
        results / "phenotypes/vae/doses.csv",
    )
    steps = pd.DataFrame({"step": ["raw", "standardize"], "accuracy": [0.9, np.nan]})
    targets = pd.DataFrame({"target": ["plate of controls", "plate of all cells", "treatment"]})
    NORMALIZATION.write(
        steps.merge(targets, "cross").assign(chance=0.5, n_cells=100, n_labels=2),
        results / "phenotypes/vae/normalization.csv",
    )
    counts = cells["cluster"].value_counts()
    exemplar = cells.groupby("cluster")["cell_id"].first()
    CLUSTERS.write(
        pd.DataFrame(
            {
                "cluster": counts.index,
                "n_cells": counts.to_numpy(),
                "share": counts.to_numpy() / n_cells,
                "stability": np.linspace(1, 0.7, len(counts)),
                "stable": np.linspace(1, 0.7, len(counts)) >= 0.75,
                "share_control": 0.1,
                "n_plates": n_plates,
                "top_plate_share": np.linspace(0.2, 0.9, len(counts)),
                "top_treatment": [names[k % n_treatments] for k in range(len(counts))],
                "top_log2_enrichment": rng.normal(1, 2, len(counts)),
                "exemplar": exemplar[counts.index].to_numpy(),
            }
        ),
        results / "phenotypes/vae/clusters.csv",
    )
    pairs = treatments[[*key, "control"]].merge(pd.DataFrame({"cluster": counts.index}), "cross")
    found = cells.groupby([*key, "cluster"], dropna=False).size().rename("n_cells").reset_index()
    pairs = pairs.merge(found, "left", on=[*key, "cluster"]).fillna({"n_cells": 0})
    ratio = np.log2(
        (pairs["n_cells"] + 0.5) / (pairs.groupby("cluster")["n_cells"].transform("mean") + 0.5)
    )
    ENRICHMENT.write(
        pairs.assign(
            share=0.1,
            share_control=0.1,
            odds_ratio=np.exp2(ratio),
            log2_enrichment=ratio,
            p_value=0.5,
            q_value=np.where(ratio.abs() > 1.5, 0.01, 0.6),
        ),
        results / "phenotypes/vae/enrichment.csv",
    )

    tiles = _tiles(rng, n_cells, len(channels), side)
    for name, group in cells.groupby("plate"):
        rows = group.index.to_numpy()
        TILES.write(
            pd.DataFrame(
                {
                    "cell_id": group["cell_id"],
                    "plate": name,
                    "well": "B02",
                    "site": "1",
                    "batch": "b1",
                    "tile": np.arange(len(group)),
                    "split": "test",
                    **dict.fromkeys(("y", "x", "y0", "x0", "area", "nucleus_area"), 10),
                    "saturated": np.where(rng.random(len(group)) < 0.1, 0.02, 0.0),
                    "autocorrelation": rng.beta(9, 1, len(group)),
                    "focus": rng.gamma(3, 0.01, len(group)),
                    "difference": 1.0,
                    "intensity_0": 100.0,
                    "spread_0": 10.0,
                    "store_digest": "made up",
                }
            ),
            results / f"tiles/{name}.parquet",
        )
        with write_store(
            results / f"tiles/{name}.zarr",
            channels=channels,
            size=side,
            dtype=str(tiles.dtype),
            masks=False,
            pixel_size_um=None,
            about={"plate": name},
        ) as writer:
            writer.append(tiles[rows % len(tiles)])

    folder = results / "generated/vae"
    GENERATED.write(
        pd.DataFrame(
            {
                "row": np.arange(16),
                "cell_id": cells["cell_id"].iloc[:16],
                "split": "test",
                "rate_z": 40.0,
                "rate_u": 400.0,
                "bits": rng.gamma(30, 0.2, 16),
            }
        ),
        folder / "cells.csv",
    )
    blurred = (tiles + np.roll(tiles, 1, 2) + np.roll(tiles, 1, 3) + np.roll(tiles, -1, 2)) / 4
    grid = pd.MultiIndex.from_product([(1.0, 0.5), range(8)], names=["temperature", "draw"])
    SAMPLES.write(_numbered(grid.to_frame()), folder / "samples.csv")
    grid = pd.MultiIndex.from_product(
        [cells["cell_id"].iloc[[0, 3]], range(1 + draws)], names=["cell_id", "draw"]
    )
    table = _numbered(grid.to_frame())
    RESAMPLED.write(
        table.assign(temperature=(table["draw"] > 0).astype(float)), folder / "resampled.csv"
    )
    position = np.linspace(0, 1, 12)
    walks = [("treatments", "9 control cells", "9 cells, taxol 3")] * (n_treatments > 1)
    walks.append(("cells", cells["cell_id"].iloc[0], cells["cell_id"].iloc[-1]))
    lines = [
        pd.DataFrame(
            {
                "line": kind,
                "position": position,
                "start": start,
                "end": end,
                "distance": np.append(np.nan, rng.gamma(20, 0.01, 11)),
            }
        )
        for kind, start, end in walks
    ]
    MORPHS.write(_numbered(pd.concat(lines)), folder / "morphs.csv")
    for name, stack in (
        ("originals", tiles[:16]),
        ("reconstructions", blurred[:16]),
        ("predictive", rng.poisson(blurred[:16])),
        ("samples", blurred[rng.integers(0, len(blurred), 16)]),
        ("resampled", blurred[rng.integers(0, len(blurred), 2 * (1 + draws))]),
        ("morphs", np.concatenate([_walk(blurred[0], blurred[1], position)] * len(walks))),
    ):
        tifffile.imwrite(
            folder / f"{name}.ome.tif", stack.astype(np.uint16), metadata={"axes": "TCYX"}
        )

    (results / "models/vae").mkdir(parents=True)
    (results / "models/vae/model.json").write_text(
        json.dumps({"latent_dim": 32, "channels": list(channels)})
    )
    epoch = np.arange(1, epochs + 1)
    HISTORY.write(
        pd.DataFrame(
            {
                "epoch": epoch,
                "step": epoch * 100,
                "beta": np.minimum(epoch / 8, 1),
                "learning_rate": 1e-3 * np.cos(epoch / epochs * 1.5) ** 2,
                "train_loss": 9e4 + 4e4 / epoch,
                "train_distortion": 9e4 + 4e4 / epoch,
                "train_rate_z": 60 - 40 / epoch,
                "train_rate_u": 600 - 400 / epoch,
                "train_bits": 5.5 + 3 / epoch,
                "train_view_loss": 1 + 2 / epoch,
                "validation_distortion": 9e4 + 4.2e4 / epoch,
                "validation_rate_z": np.where(epoch % 2, 61 - 40 / epoch, np.nan),
                "validation_rate_u": np.where(epoch % 2, 610 - 400 / epoch, np.nan),
                "validation_bits": 5.6 + 3.1 / epoch,
                "active_units": np.minimum(epoch * 3, 29),
                "skipped_steps": (epoch == 3) * 2,
                "tiles_per_second": 400 + rng.normal(size=epochs) * 20,
                "data_wait": 0.05,
            }
        ),
        results / "models/vae/history.parquet",
    )
    return results


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    return table.reset_index(drop=True).assign(row=lambda t: np.arange(len(t)))


def _walk(start: np.ndarray, end: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Images (S, C, H, W) that fade from one into another."""
    return start + position[:, None, None, None] * (end - start)


def _tiles(rng: np.random.Generator, n: int, channels: int, side: int) -> np.ndarray:
    """Up to 64 spots on a dim background, counts (N, C, H, W)."""
    n = min(n, 64)
    y, x = np.mgrid[:side, :side] / side - 0.5
    spot = np.empty((n, channels, side, side))
    for k in range(n):
        for c in range(channels):
            cy, cx = rng.normal(0, 0.12, 2)
            waves = 1 + 0.6 * np.sin(30 * (c + 1) * (x * rng.random() + y * rng.random()))
            spot[k, c] = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) * rng.uniform(8, 30)) * waves
    return rng.poisson(100 + 900 * spot).astype(np.uint16)
