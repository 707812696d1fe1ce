"""What z is compared with, from the same tiles, and under which normalisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_sci.config import PhenotypesSettings
from vae_sci.errors import ContractError
from vae_sci.results import Results, open_results

Array = NDArray[np.float64]


def principal_components(tiles: NDArray[Any], train: NDArray[np.bool_], d: int, seed: int) -> Array:
    """The first d components (N, d) of tiles (N, C, H, W), fitted on the rows `train`."""
    from sklearn.decomposition import PCA

    pixels = np.sqrt(tiles, dtype=np.float32)
    pixels /= pixels[train].std(axis=(0, 2, 3), keepdims=True)
    flat = pixels.reshape(len(pixels), -1)
    model = PCA(d, svd_solver="randomized", random_state=seed).fit(flat[train])
    return np.asarray(model.transform(flat), dtype=np.float64)


def intensity_statistics(tiles: NDArray[Any]) -> Array:
    """Mean, sd, smallest, 5, 25, 50, 75, 95, 99 % and largest grey level per channel (N, 10 C)."""
    flat = tiles.reshape(*tiles.shape[:2], -1).astype(np.float64)
    percentiles = np.percentile(flat, [0, 5, 25, 50, 75, 95, 99, 100], axis=2)
    return (
        np.concatenate([flat.mean(axis=2)[None], flat.std(axis=2)[None], percentiles])
        .transpose(1, 2, 0)
        .reshape(len(flat), -1)
    )


def unit(features: Array) -> Array:
    """Each column at mean 0 and sd 1; a constant column at 0."""
    spread = features.std(axis=0)
    return (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)


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
    import anndata

    path = run.path / "phenotypes" / run.model / "cells.h5ad"
    table = anndata.read_h5ad(path, backed="r")
    values = table.uns["vae_sci"]["settings"]
    table.file.close()
    return PhenotypesSettings.model_validate(
        {name: v.item() if hasattr(v, "item") else v for name, v in values.items()}
    )
