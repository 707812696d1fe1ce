"""The cells as AnnData, which scanpy, cellxgene and squidpy open; read again for new plates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.errors import ContractError
from vae_sci.files import publish
from vae_sci.phenotypes.profiles import latent_columns

_PICTURE = ["umap_1", "umap_2"]
_PLACE = ["x", "y"]


def write_h5ad(
    cells: pd.DataFrame, raw: pd.DataFrame | None, about: dict[str, Any], path: str | Path
) -> None:
    """Write table `CELLS`, or some of its rows and columns, and z before normalisation if known.

    `X`: normalised z, float32; left out where `cells` has none. `obs`: everything else, texts as
    categories. `obsm`: `X_umap` (N, 2), `X_z_raw` (N, d) from `raw` (the same rows and z columns),
    and `spatial` (N, 2): x and y of the nucleus in its field, pixels, where every cell has them;
    `obs["library_id"]` then names the field (plate/well/site), squidpy's `library_key`.
    `uns["vae_sci"]`: `about`, a mapping of settings and versions.
    """
    import anndata

    names = latent_columns(cells)
    matrices = {}
    if set(_PICTURE) <= set(cells):
        matrices["X_umap"] = cells[_PICTURE].to_numpy(dtype="float32")
    if raw is not None:
        matrices["X_z_raw"] = raw[names].to_numpy(dtype="float32")
    obs = cells.set_index("cell_id").drop(columns=[*names, *_PICTURE], errors="ignore")
    if set(_PLACE) <= set(cells) and cells[_PLACE].notna().all(axis=None):
        matrices["spatial"] = cells[_PLACE].to_numpy(dtype="float64")
        obs["library_id"] = [cell_id.rpartition("/")[0] for cell_id in cells["cell_id"]]
    table = anndata.AnnData(
        X=cells[names].to_numpy(dtype="float32") if names else None,
        obs=_plain(obs),
        var=pd.DataFrame(index=names),
        obsm=matrices,
        uns={"vae_sci": about},
    )
    with publish(path) as temporary:
        table.write_h5ad(temporary, compression="gzip")


def read_h5ad(path: str | Path) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """z before normalisation (N, d), a row per row of table `CELLS`, and what the run did.

    That is `about`, as it was written. Raises `ContractError` for a file that cannot be read.
    """
    import h5py
    from anndata.io import read_elem

    try:
        with h5py.File(path) as file:
            raw, about = read_elem(file["obsm/X_z_raw"]), read_elem(file["uns/vae_sci"])
    except (OSError, KeyError) as error:
        raise ContractError(
            required="z before normalisation, and the settings of the run",
            found=f"{path} cannot be read: {error}",
            action="delete it and run again: the workflow makes it anew",
        ) from None
    return raw.astype(np.float64), _python(about)


def _python(value: Any) -> Any:
    """`value` with Python's own numbers and lists."""
    if isinstance(value, dict):
        return {name: _python(each) for name, each in value.items()}
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _plain(obs: pd.DataFrame) -> pd.DataFrame:
    """`obs` with dtypes that HDF5 knows: an empty number is NaN, a text a category."""
    obs = obs.set_axis(obs.index.astype(object).rename(None))
    for name, column in obs.items():
        if pd.api.types.is_bool_dtype(column) and not column.isna().any():
            obs[name] = column.astype(bool)
        elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            kind = "float64" if column.isna().any() else column.dtype.name.lower()
            obs[name] = column.to_numpy(dtype=kind)
        else:
            obs[name] = pd.Categorical(column.astype("string").astype(object))
    if "cluster" in obs:
        numbers = sorted(obs["cluster"].cat.categories, key=int)
        obs["cluster"] = obs["cluster"].cat.reorder_categories(numbers)
    return obs
