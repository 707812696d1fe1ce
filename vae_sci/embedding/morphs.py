"""Images along straight lines in z: what changes on the way from one phenotype to another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vae_sci.contracts import CELLS, CLUSTERS, EMBEDDINGS, MORPHS, TREATMENTS
from vae_sci.embedding.generate import expected_counts, numbered, write_stack
from vae_sci.errors import ContractError
from vae_sci.model.checkpoint import load_model
from vae_sci.model.device import pick_device
from vae_sci.model.vae import VAE

N_STEPS = 25  # images on a line, both ends among them
MIN_CELLS = 10  # of a treatment; the mean of fewer is more those cells than the treatment


@dataclass(frozen=True)
class Line:
    """From the mean z of some cells to that of others.

    Parameters
    ----------
    kind : what lies at the ends, "treatments" or "cells".
    start, end : what the ends are called.
    at_start, at_end : (N,), bool, the cells whose mean each end is.
    """

    kind: str
    start: str
    end: str
    at_start: np.ndarray
    at_end: np.ndarray


@torch.no_grad()
def morph(results: Path, model_name: str, device: str = "auto") -> None:
    """Write `results/generated/{model}/morphs.ome.tif` and `morphs.csv`.

    E[x|z,u] at `N_STEPS` points, evenly spaced between the ends of each line in raw posterior
    means of z, with u at its prior's mean and the decoder told no plate. The lines are those of
    `treatment_line` and `cell_line`.

    Raises `ContractError` for a cell of the phenotypes that has no embedding.
    """
    model, card = load_model(results / "models" / model_name, pick_device(device))
    phenotypes = results / "phenotypes" / model_name
    cells = CELLS.read(phenotypes / "cells.parquet")
    lines = [
        treatment_line(cells, TREATMENTS.read(phenotypes / "treatments.csv")),
        cell_line(cells, CLUSTERS.read(phenotypes / "clusters.csv")),
    ]
    images, tables = [], []
    for line in filter(None, lines):
        start, end = (
            _raw_z(results / "embeddings" / model_name, cells[at]).mean(axis=0)
            for at in (line.at_start, line.at_end)
        )
        position = np.linspace(0, 1, N_STEPS)
        z = torch.from_numpy(start + position[:, None] * (end - start)).float()
        made = model.generative(z.to(next(model.parameters()).device), temperature=0.0)
        images.append(expected_counts(model, made))
        tables.append(
            pd.DataFrame(
                {
                    "line": line.kind,
                    "position": position,
                    "start": line.start,
                    "end": line.end,
                    "distance": np.append(np.nan, step_distances(model, made.p.mean)),
                }
            )
        )
    folder = results / "generated" / model_name
    write_stack(np.concatenate(images), folder / "morphs.ome.tif", card)
    MORPHS.write(numbered(pd.concat(tables)), folder / "morphs.csv")


def treatment_line(cells: pd.DataFrame, treatments: pd.DataFrame) -> Line | None:
    """From the controls to the treatment that lies farthest from them; None where there is none.

    Treatments of fewer than `MIN_CELLS` cells count only where none has more. The mean of n cells
    lies √(d / n) away by chance alone, d the dimensions of z: treatments are ranked by
    distance² − d / n. Controls are those on the treatment's plates if there are any, then all;
    where a screen has none, all other cells.

    Parameters
    ----------
    cells, treatments : contracts CELLS and TREATMENTS.
    """
    named = treatments[~treatments["control"] & treatments["treatment"].notna()]
    if named.empty:
        return None
    named = named[named["n_cells"] >= min(MIN_CELLS, named["n_cells"].max())]
    chance = cells.filter(regex="^z_").shape[1] / named["n_cells"].astype(float)
    top = named.iloc[int((named["distance"].astype(float) ** 2 - chance).argmax())]
    # CSV and Parquet may differ in a concentration's last digit.
    dose = np.isclose(
        cells["concentration"], top["concentration"], rtol=1e-9, atol=0, equal_nan=True
    )
    end = dose & cells["treatment"].eq(top["treatment"]).fillna(False).to_numpy(dtype=bool)
    control = cells["control"].to_numpy(dtype=bool)
    beside = control & cells["plate"].isin(cells.loc[end, "plate"]).to_numpy()
    start = next((some for some in (beside, control, ~end) if some.any()), None)
    if start is None:
        return None
    what = "control" if control.any() else "other"
    amount = "" if pd.isna(top["concentration"]) else f" {top['concentration']:g}"
    return Line(
        "treatments",
        f"{start.sum()} {what} cells",
        f"{end.sum()} cells, {top['treatment']}{amount}",
        start,
        end,
    )


def cell_line(cells: pd.DataFrame, clusters: pd.DataFrame) -> Line:
    """Between the most typical cells of the two largest clusters.

    Where there is but one cluster, the line ends at the cell farthest from its most typical one,
    in normalised z.

    Parameters
    ----------
    cells, clusters : contracts CELLS and CLUSTERS.
    """
    ends = clusters.sort_values("n_cells", ascending=False, kind="stable")["exemplar"].tolist()[:2]
    ids = cells["cell_id"].to_numpy(dtype=object)
    if len(ends) == 1:
        z = cells.filter(regex="^z_").to_numpy(dtype=float)
        from_first = np.linalg.norm(z - z[ids == ends[0]], axis=1)
        ends.append(ids[from_first.argmax()])
    return Line("cells", ends[0], ends[1], ids == ends[0], ids == ends[1])


def step_distances(model: VAE, means: Tensor) -> np.ndarray:
    """How far each image lies from the one before, (S − 1,), of predicted means (S, C, H, W).

    Root mean square over pixels and channels, each channel in units of its standard deviation
    over the training tiles.
    """
    step = means.diff(dim=0) / model.likelihood.scale
    return step.square().mean(dim=(1, 2, 3)).sqrt().cpu().double().numpy()


def _raw_z(folder: Path, cells: pd.DataFrame) -> np.ndarray:
    """Posterior means (N, latent_dim) of these cells."""
    parts = []
    for plate, own in cells.groupby("plate"):
        table = EMBEDDINGS.read(folder / f"{plate}.parquet").set_index("cell_id")
        lost = own.loc[~own["cell_id"].isin(table.index), "cell_id"]
        if len(lost):
            raise ContractError(
                required="an embedding of every cell of the phenotypes",
                found=f"none of {lost.iloc[0]} in {folder / f'{plate}.parquet'}",
                action="make the phenotypes again: the embeddings have changed since",
            )
        parts.append(table.loc[own["cell_id"]].filter(regex="^z_").to_numpy(dtype=float))
    return np.concatenate(parts)
