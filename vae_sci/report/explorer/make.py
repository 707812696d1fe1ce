"""Write the explorer of a model: the page, its data as scripts, its tiles as atlases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci import __version__
from vae_sci.config import ReportSettings
from vae_sci.contracts import CELLS, TILES
from vae_sci.errors import ContractError
from vae_sci.files import publish
from vae_sci.phenotypes.profiles import latent_columns
from vae_sci.phenotypes.sample import in_proportion
from vae_sci.report import images
from vae_sci.report.explorer import atlas
from vae_sci.report.explorer.order import along_map
from vae_sci.report.explorer.scripts import kind_of, packed, packed_column, write_script
from vae_sci.report.style import CATEGORIES, NOT_GIVEN, SEQUENTIAL
from vae_sci.tiles.store import store_about

NEIGHBOURS = 10
# The page's own fields; the others are columns to colour and to filter by.
_OWN = ("cell_id", "umap_1", "umap_2")
_OF_TILES = ("area", "nucleus_area", "saturated", "autocorrelation", "focus")
_FAMILIES_OF_TILES = ("intensity_", "spread_")


@dataclass(frozen=True)
class Explorer:
    """What was written: the page, cells shown, cells in all, bytes of the whole folder."""

    page: Path
    shown: int
    total: int
    bytes: int


def make_explorer(
    results: Path,
    model: str,
    settings: ReportSettings,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Explorer:
    """Write `results`/explorer/`model`, whole or not at all.

    Parameters
    ----------
    settings : at most `explorer_cells` cells are shown, drawn at random from each well.
    seed : of the cells shown and of those that set the contrast.
    progress : called with (tiles drawn, cells shown).
    """
    results = Path(results)
    path = results / CELLS.path.format(model=model)
    cells, total = _cells(path, settings.explorer_cells, seed)
    latent = latent_columns(cells)
    nearest, distances = _neighbours(cells[latent].to_numpy(np.float32))
    tables = _tile_tables(results, cells)
    cells = _with_tiles(cells.drop(columns=latent), tables)

    folder = results / "explorer" / model
    with publish(folder) as temporary:
        temporary.mkdir()
        _copy_page(temporary)
        about = _about(results, model, cells, total) | {"neighbours": nearest.shape[1]}
        seen = cells[cells["tile"].notna()]
        if len(seen):
            contrast = atlas.contrast_of(results, seen, seed)
            pictures = atlas.thumbnails(results, cells, tables, contrast, progress)
            about |= _about_tiles(results, tables, contrast, pictures.shape[1])
            atlas.write_atlases(temporary / "tiles", pictures)
        data = temporary / "data"
        write_script(data, "about", about)
        write_script(data, "cell_id", "\n".join(cells["cell_id"]))
        write_script(
            data,
            "map",
            {
                "x": packed(cells["umap_1"].to_numpy(np.float32)),
                "y": packed(cells["umap_2"].to_numpy(np.float32)),
                "seen": packed(cells["tile"].notna().to_numpy(np.uint8)),
            },
        )
        write_script(data, "neighbours", {"cells": packed(nearest), "distances": packed(distances)})
        for column in about["columns"]:
            write_script(data, column["file"], packed_column(cells[column["name"]]))
        size = sum(part.stat().st_size for part in temporary.rglob("*") if part.is_file())
        # Known only now; its few digits do not count.
        write_script(data, "about", about | {"megabytes": round(size / 1e6, 1)})
    return Explorer(folder / "index.html", len(cells), total, size)


def _cells(path: Path, most: int, seed: int) -> tuple[pd.DataFrame, int]:
    """The cells to show (contract CELLS), in the order along the map, and how many there are.

    Of a large table only the rows that are shown are held.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        wells = pd.read_parquet(path, columns=["plate", "well"])
        rows = in_proportion(wells, most, seed)
        parts, start = [], 0
        for batch in pq.ParquetFile(path).iter_batches():
            first, last = np.searchsorted(rows, (start, start + len(batch)))
            parts.append(batch.take(pa.array(rows[first:last] - start)))
            start += len(batch)
        shown = pa.Table.from_batches(parts).to_pandas()
    except (OSError, ValueError) as error:
        raise ContractError(
            required=CELLS.meaning,
            found=f"{path} cannot be read: {error}",
            action="delete it and run again: the workflow makes it anew",
        ) from None
    shown = CELLS.validate(shown, str(path))
    order = along_map(shown[["umap_1", "umap_2"]].to_numpy(dtype=float))
    return shown.iloc[order].reset_index(drop=True), len(wells)


def _neighbours(z: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Rows and Euclidean distances (N, k) of the cells nearest in z among those shown; exact."""
    from sklearn.neighbors import NearestNeighbors

    k = min(NEIGHBOURS, len(z) - 1)
    if k < 1 or z.shape[1] == 0:
        return np.empty((len(z), 0), np.int32), np.empty((len(z), 0), np.float32)
    distances, rows = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(z).kneighbors()
    return rows.astype(np.int32), distances.astype(np.float32)


def _tile_tables(results: Path, cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tiles of these cells by plate, where there are any: a copied folder may lack them."""
    tables = {}
    for plate, part in cells.groupby("plate"):
        path = results / TILES.path.format(plate=plate)
        if path.is_file() and path.with_suffix(".zarr").is_dir():
            table = TILES.read(path)
            tables[str(plate)] = table[table["cell_id"].isin(part["cell_id"])]
    return tables


def _with_tiles(cells: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The cells with their `tile` and what was measured on it, missing where there is none."""
    if not tables:
        return cells.assign(tile=pd.array([pd.NA] * len(cells), dtype="Int64"))
    tiles = pd.concat(tables.values(), ignore_index=True)
    wanted = [
        name
        for name in tiles.columns
        if (name in _OF_TILES or name.startswith(_FAMILIES_OF_TILES)) and name not in cells
    ]
    return cells.merge(tiles[["cell_id", "tile", *wanted]], on="cell_id", how="left")


def _about(results: Path, model: str, cells: pd.DataFrame, total: int) -> dict[str, Any]:
    """What the page says of itself, its columns and its colours."""
    import matplotlib

    meanings = {column.name: column.meaning for column in (*TILES.columns, *CELLS.columns)}
    meanings |= {
        name: column.meaning
        for column in TILES.columns
        if column.family
        for name in cells.columns
        if name.startswith(column.name)
    }
    names = [name for name in cells.columns if name not in (*_OWN, "tile")]
    viridis = matplotlib.colormaps[SEQUENTIAL](np.linspace(0, 1, 11))
    return {
        "model": model,
        "program": f"vae_sci {__version__}",
        "shown": len(cells),
        "total": total,
        "columns": [
            {
                "name": name,
                "file": f"column_{k:03d}",
                "kind": kind_of(cells[name]),
                "groups": int(cells[name].nunique()),
                "meaning": meanings.get(name, "column of the platemap"),
            }
            for k, name in enumerate(names)
        ],
        "tiles": None,
        "not_given": NOT_GIVEN,
        "colours": {
            "categories": list(CATEGORIES),
            "numbers": [matplotlib.colors.to_hex(colour) for colour in viridis],
        },
        "library": _library(),
    }


def _about_tiles(
    results: Path, tables: dict[str, pd.DataFrame], contrast: NDArray[np.float64], side: int
) -> dict[str, Any]:
    """Channels, their colours, and the sides of tiles."""
    store = store_about(results / "tiles" / f"{next(iter(tables))}.zarr")
    channels = [str(name) for name in store["channels"]]
    size_um = store.get("pixel_size_um")
    colours = ["#FFFFFF"] if len(channels) == 1 else list(images.COLOURS)
    return {
        "channels": [
            {"name": name, "colour": colour}
            for name, colour in zip(channels, colours, strict=False)
        ],
        "contrast": images.contrast_note(channels, contrast),
        "tiles": {
            "side": side,
            "across": atlas.ACROSS,
            "micrometres": size_um * store["size"] if size_um else None,
        },
    }


def _library() -> dict[str, str]:
    """Name, version and licence of what draws the points, as its own file says."""
    from plotly.offline import get_plotlyjs_version

    return {
        "name": "plotly.js",
        "version": get_plotlyjs_version(),
        "wheel": f"plotly {version('plotly')}",
        "licence": "MIT, © Plotly, Inc.",
    }


def _copy_page(folder: Path) -> None:
    """The page's own files, and the library that draws, with a note of what it is."""
    from plotly.offline import get_plotlyjs

    with as_file(files("vae_sci.report.explorer") / "page") as page:
        for part in sorted(page.iterdir()):
            shutil.copyfile(part, folder / part.name)
    (folder / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    (folder / "plotly.min.js.json").write_text(json.dumps(_library(), indent=2) + "\n")
