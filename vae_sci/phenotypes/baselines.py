"""What z is compared with, from the same tiles: principal components, intensity statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.contracts import TILES
from vae_sci.errors import ContractError
from vae_sci.tiles.store import need_table_of, read_rows, store_array

Array = NDArray[np.float64]

FITTED_TILES = 3_000
"""Most training tiles that principal components are fitted on."""

BLOCK = 1_024
"""Tiles in memory at a time."""


def fit_principal_components(
    tiles: NDArray[Any], d: int, seed: int
) -> Callable[[NDArray[Any]], Array]:
    """A function from tiles (N, C, H, W) to their first d components (N, d), fitted on `tiles`.

    Components of the square root of the counts, which evens out their noise, with each channel at
    unit variance over `tiles`.
    """
    from sklearn.decomposition import PCA

    spread = np.sqrt(tiles, dtype=np.float32).std(axis=(0, 2, 3), keepdims=True)
    spread[spread == 0] = 1  # a channel without light

    def flat(counts: NDArray[Any]) -> NDArray[np.float32]:
        pixels: NDArray[np.float32] = np.sqrt(counts, dtype=np.float32) / spread
        return pixels.reshape(len(counts), -1)

    model = PCA(d, svd_solver="randomized", random_state=seed).fit(flat(tiles))
    return lambda counts: np.asarray(model.transform(flat(counts)), dtype=np.float64)


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


def pixel_features(
    results: Path,
    cells: pd.DataFrame,
    d: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Array]:
    """PCA-d and intensity statistics of `cells` (columns cell_id, plate, split), by name.

    Components are fitted on at most `FITTED_TILES` cells whose split is train. `progress` is called
    with (tiles read, all). Raises `ContractError` for cells that the tile tables lack.
    """
    train = np.flatnonzero((cells["split"] == "train").to_numpy())
    drawn = np.sort(np.random.default_rng(seed).permutation(train)[:FITTED_TILES])
    fitted = np.concatenate([tiles for _, tiles in _blocks(results, cells.iloc[drawn])])
    components = fit_principal_components(fitted, min(d, len(fitted)), seed)
    del fitted
    parts, done = [], 0
    for rows, tiles in _blocks(results, cells):
        parts.append((rows, components(tiles), intensity_statistics(tiles)))
        done += len(rows)
        if progress is not None:
            progress(done, len(cells))
    order = np.argsort(np.concatenate([rows for rows, _, _ in parts]))
    pca, statistics = (np.concatenate([part[i] for part in parts])[order] for i in (1, 2))
    return {
        f"PCA-{pca.shape[1]}": pca,
        f"intensity statistics ({statistics.shape[1]})": statistics,
    }


def _blocks(results: Path, cells: pd.DataFrame) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Rows of `cells` and their tiles (n, C, H, W), plate by plate, at most `BLOCK` at a time."""
    for plate, members in cells.reset_index(drop=True).groupby("plate", sort=False):
        path = results / "tiles" / f"{plate}.zarr"
        table = TILES.read(path.with_suffix(".parquet"))
        need_table_of(path, table)
        found = pd.Index(table["cell_id"]).get_indexer(pd.Index(members["cell_id"]))
        if (found < 0).any():
            raise ContractError(
                required=f"every cell of plate {plate} in {path.with_suffix('.parquet')}",
                found=f"no cell {members['cell_id'].iloc[int((found < 0).argmax())]}",
                action="run phenotypes again: the plate's tiles have changed since",
            )
        places = table["tile"].to_numpy(dtype=np.int64)[found]
        # In the order of the store, so that every chunk is read once.
        order = np.argsort(places)
        array = store_array(path)
        for start in range(0, len(order), BLOCK):
            taken = order[start : start + BLOCK]
            yield members.index.to_numpy()[taken], read_rows(array, places[taken])
