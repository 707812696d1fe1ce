"""Thumbnails of the cells, many to an image: a page opens few files, each of them small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.report import images
from vae_sci.tiles.store import need_table_of, read_rows, store_array

ACROSS = 16  # thumbnails in a row and in a column of an atlas
SIDE = 64  # pixels of a thumbnail at most; a multiple of 16, the blocks of JPEG
_QUALITY = 80  # of JPEG, 0 to 100; WebP was no smaller and took 15 times as long
_BLOCK = 256  # tiles turned into colours at a time
_FOR_CONTRAST = 1000


def contrast_of(results: Path, cells: pd.DataFrame, seed: int) -> NDArray[np.float64]:
    """Black and full colour per channel (C, 2), from up to 1,000 of the cells.

    `cells` has columns plate and tile, one row per cell that has a tile.
    """
    rows = np.random.default_rng(seed).permutation(len(cells))[:_FOR_CONTRAST]
    chosen = cells.iloc[rows]
    pixels = [
        read_rows(store_array(results / "tiles" / f"{plate}.zarr"), part["tile"].to_numpy(np.int64))
        for plate, part in chosen.groupby("plate")
    ]
    return images.limits(np.concatenate(pixels))


def thumbnails(
    results: Path,
    cells: pd.DataFrame,
    tables: dict[str, pd.DataFrame],
    contrast: NDArray[np.float64],
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Colour images (N, S, S, 3) of the rows of `cells`; black where tile is missing.

    Parameters
    ----------
    cells : columns plate and tile (row in the plate's store, missing where there is no tile).
    tables : the tile table (contract TILES) of each plate that has tiles, to check its store by.
    contrast : black and full colour per channel (C, 2), grey levels, one for the whole screen.
    """
    stores = {plate: store_array(results / "tiles" / f"{plate}.zarr") for plate in tables}
    side = min([SIDE, *(store.shape[-1] for store in stores.values())])
    out = np.zeros((len(cells), side, side, 3), dtype=np.uint8)
    tile = cells["tile"].to_numpy(dtype=float, na_value=np.nan)
    plates = cells["plate"].to_numpy(dtype=object)
    done = 0
    for plate, store in stores.items():
        need_table_of(results / "tiles" / f"{plate}.zarr", tables[plate])
        places = np.flatnonzero((plates == plate) & np.isfinite(tile))
        places = places[np.argsort(tile[places], kind="stable")]  # in the order of the store
        for start in range(0, len(places), _BLOCK):
            block = places[start : start + _BLOCK]
            counts = read_rows(store, tile[block].astype(np.int64))
            out[block] = _shrunk(images.composite(counts, contrast), side)
            done += len(block)
            if progress is not None:
                progress(done, len(cells))
    return out


def write_atlases(folder: Path, pictures: NDArray[np.uint8]) -> int:
    """Write thumbnails (N, S, S, 3) as 0000.jpg … of 16 × 16 each; returns how many files."""
    import imagecodecs

    folder.mkdir(parents=True)
    side, per = pictures.shape[1], ACROSS**2
    count = -(-len(pictures) // per)
    for k in range(count):
        part = pictures[k * per : (k + 1) * per]
        lines = -(-len(part) // ACROSS)
        sheet = np.zeros((lines * ACROSS, side, side, 3), dtype=np.uint8)
        sheet[: len(part)] = part
        image = sheet.reshape(lines, ACROSS, side, side, 3).swapaxes(1, 2)
        image = np.ascontiguousarray(image.reshape(lines * side, ACROSS * side, 3))
        (folder / f"{k:04d}.jpg").write_bytes(imagecodecs.jpeg_encode(image, level=_QUALITY))
    return count


def _shrunk(colours: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """Images (N, H, H, 3), 0 … 1, as bytes (N, side, side, 3); pixels are means over areas."""
    height = colours.shape[1]
    edges = np.linspace(0, height, side + 1)
    pixel = np.arange(height)
    # (side, H): the share of each small pixel that each large one covers.
    weight = np.clip(
        np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel), 0, None
    ) * (side / height)
    rows = np.tensordot(colours, weight, (1, 1))  # (N, W, 3, side)
    small = np.tensordot(rows, weight, (1, 1))  # (N, 3, side, side): y, x
    return (np.moveaxis(small, 1, -1) * 255).round().astype(np.uint8)
