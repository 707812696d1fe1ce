"""The finished run that a benchmark measures, its normalisation, and features from elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.config import PhenotypesSettings, parse
from vae_sci.contracts import EMBEDDINGS
from vae_sci.errors import ContractError, InputError
from vae_sci.phenotypes.baselines import unit
from vae_sci.phenotypes.h5ad import read_h5ad
from vae_sci.phenotypes.profiles import latent_columns
from vae_sci.results import Results, open_results

Array = NDArray[np.float64]


def open_run(data: Path, results: Path, model: str) -> Results:
    """The finished run on the BBBC021 cells of `data`; `ContractError` where there is none."""
    if not (results / "phenotypes" / model / "cells.parquet").is_file():
        raise ContractError(
            required=f"the results of a run on {data}",
            found=f"no phenotypes of model '{model}' in {results}",
            action=f"make example-bbbc021 DATA={data}",
        )
    return open_results(results, model)


def run_settings(run: Results) -> PhenotypesSettings:
    """The settings with which the run normalised, from its cells.h5ad."""
    path = run.path / "phenotypes" / run.model / "cells.h5ad"
    _, about = read_h5ad(path)
    return parse(PhenotypesSettings, about["settings"], str(path))


def read_features(path: Path, cells: pd.DataFrame) -> Array:
    """The numbers (N, d) of a table for the rows of `cells`; a latent vector keeps its scale."""
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(
            required="a Parquet file, or a folder of them, with a row per cell",
            found=f"{path}: {error}",
            action="give --features as NAME=FILE.parquet",
        ) from None
    latent = latent_columns(table)
    names = latent or list(table.select_dtypes("number").columns)
    if "cell_id" not in table or not names:
        raise InputError(
            required="a column cell_id and at least one of numbers",
            found=f"columns {', '.join(map(str, table.columns[:10]))} in {path}",
            action="write one row per cell: its cell_id and its features",
        )
    found = table.drop_duplicates("cell_id").set_index("cell_id")[names].reindex(cells["cell_id"])
    wrong = ~np.isfinite(found.to_numpy(dtype=np.float64)).all(axis=1)
    if wrong.any():
        raise InputError(
            required=f"finite features of every cell of the run, {len(cells)}",
            found=f"none for {wrong.sum()} cells in {path}, the first {found.index[wrong][0]}",
            action="measure these cells, or fill what is not defined with the column's median",
        )
    values = found.to_numpy(dtype=np.float64)
    return values if latent else unit(values)


def latent_vectors(folder: Path, cells: pd.DataFrame) -> Array:
    """z (N, d) of the rows of `cells`, from a folder of embeddings."""
    z = pd.concat(EMBEDDINGS.read(path) for path in sorted(folder.glob("*.parquet")))
    return z.set_index("cell_id").loc[cells["cell_id"], latent_columns(z)].to_numpy()


def named_file(text: str) -> tuple[str, Path]:
    """NAME=FILE, taken apart."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=FILE.parquet")
    return name, Path(path)
