"""One plate → its store of tiles, and the measures by which cells are kept or dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vae_sci import algorithms
from vae_sci.config import ImagesSettings, PlateRow, TilesSettings
from vae_sci.contracts import FIELDS, MEASURED_CELLS, MEASURED_FIELDS
from vae_sci.errors import InputError
from vae_sci.images.quality import camera_ceiling, measure_field
from vae_sci.images.read import read_field
from vae_sci.tiles.cells import cell_finder
from vae_sci.tiles.crop import corners, crop, crop_masks, tile_pixels, tile_quality
from vae_sci.tiles.ledger import Ledger
from vae_sci.tiles.quality import cells_against_plate, fields_against_plate
from vae_sci.tiles.segment import Segmentation
from vae_sci.tiles.split import split_wells
from vae_sci.tiles.stacks import Stack, read_table
from vae_sci.tiles.store import write_store

Progress = Callable[[int, int], None] | None


def make_tiles(
    row: PlateRow,
    fields: Path,
    settings: TilesSettings,
    images: ImagesSettings,
    seed: int,
    results: Path,
    progress: Progress = None,
) -> None:
    """Write `tiles/{plate}.zarr` and, under `measured/`, its tables of fields and of all cells.

    `measured/ledger/{plate}.json` tells of what was dropped on the way, and comes first. Which
    cells are kept for what follows, `select_cells` decides by these measures.

    fields : the plate's table of fields (`images.index_plate`); not read for kind `tiles`.
    results : the folder of results. progress : called with (fields or stacks done, all).
    Raises `InputError` where the plate gives no cell, or its stacks or table cannot be used.
    """
    results = Path(results)
    make = _from_stacks if row.kind == "tiles" else _from_fields
    ledger = Ledger(row.plate, row.kind)
    about = {
        "plate": row.plate,
        "kind": row.kind,
        "neighbours": settings.neighbours,
        "algorithm": algorithms.TILES,
    }
    path = results / "tiles" / f"{row.plate}.zarr"
    table, measured, digest = make(
        row, Path(fields), settings, images, path, about, ledger, progress
    )
    table["batch"] = row.batch
    table["tile"] = np.arange(len(table))
    table["store_digest"] = digest
    wells = table["well"].astype(str)
    parts = split_wells(Counter(wells), row.plate, seed, settings.split)
    table["split"] = wells.map(parts)
    ledger.write(results / "measured" / "ledger" / f"{row.plate}.json", rows=len(table))
    MEASURED_FIELDS.write(measured, results / MEASURED_FIELDS.path.format(plate=row.plate))
    MEASURED_CELLS.write(
        cells_against_plate(table), results / MEASURED_CELLS.path.format(plate=row.plate)
    )


def _from_fields(
    row: PlateRow,
    fields: Path,
    settings: TilesSettings,
    images: ImagesSettings,
    path: Path,
    about: dict[str, Any],
    ledger: Ledger,
    progress: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The plate's cells, found in its fields. Returns their table, that of the fields' quality and
    the store's digest."""
    index = FIELDS.read(fields)
    everything = [
        (str(rows["well"].iloc[0]), str(rows["site"].iloc[0]), rows)
        for _, rows in index.groupby(["well", "site"], sort=False)
    ]
    good = [field for field in everything if (field[2]["verdict"] == "ok").all()]
    bad = Counter(rows["verdict"].iloc[0] for *_, rows in everything) - Counter({"ok": len(good)})
    ledger.add("fields", "field", found=len(everything), kept=len(good), dropped=dict(bad))
    if not good:
        raise _no_cells(row, f"no usable field among {len(everything)}", "look at the images")
    pixel = common_pixel_size(index)
    size = tile_pixels(settings, pixel)
    first_field = good[0][2].sort_values("channel_index")
    channels = list(first_field["channel"])
    usable = pd.concat([rows for *_, rows in good])
    find = cell_finder(row, usable, settings.segmentation, images, pixel)
    nuclei, lost = Counter[str](), Counter[str]()
    n_nuclei = n_cells = 0
    tables, measured = [], []
    with write_store(
        path,
        channels=channels,
        size=size,
        dtype=str(first_field["dtype"].iloc[0]),
        masks=True,
        pixel_size_um=pixel,
        about=about,
    ) as writer:
        for done, (well, site, rows) in enumerate(good, start=1):
            field = read_field(rows)
            found = find(well, site, field)
            where = {"plate": row.plate, "well": well, "site": site}
            measured.append(
                pd.DataFrame(measure_field(field)).assign(
                    **where, channel=channels, cells=found.n_cells
                )
            )
            n_nuclei, n_cells = n_nuclei + found.found, n_cells + found.n_cells
            nuclei.update(found.dropped)
            cells, dropped = measure(found, size)
            lost.update(dropped)
            first = cells[["y0", "x0"]].to_numpy(np.int64)
            tiles = crop(field, first, size)
            writer.append(
                tiles, crop_masks(found.cells, cells["label"].to_numpy(np.int64), first, size)
            )
            ceilings = [camera_ceiling(plane.max()) for plane in field]
            cells = pd.concat([cells, tile_quality(tiles, channels, ceilings)], axis=1)
            cells = cells.assign(**where)
            names = found.names[cells.pop("label") - 1]
            cells["cell_id"] = [f"{row.plate}/{well}/{site}/{name}" for name in names]
            tables.append(cells)
            if progress is not None:
                progress(done, len(good))
        table = pd.concat(tables, ignore_index=True)
        if row.masks is None:
            ledger.add("nuclei", "nucleus", found=n_nuclei, kept=n_cells, dropped=dict(nuclei))
        ledger.add("cells", "cell", found=n_cells, kept=len(table), dropped=dict(lost))
        if table.empty:
            counts = ", ".join(f"{n} {why}" for why, n in (nuclei + lost).items())
            what, setting = "nuclei", "tiles: segmentation (nucleus_channel, nucleus_diameter_um)"
            if row.masks is not None:
                what, setting = "labels", "masks"
            raise _no_cells(
                row,
                f"{n_nuclei} {what} in {len(good)} fields, none kept ({counts or 'none found'})",
                f"check {setting} and tiles: size against one image",
            )
    return table, fields_against_plate(pd.concat(measured, ignore_index=True)), writer.digest


def measure(found: Segmentation, size: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Cells whose tile of `size` pixels can be cut, and the number of others by reason.

    Columns: label, y, x (mean of the nucleus, else of the cell; pixels), y0, x0, area,
    nucleus_area (pixels², none where nuclei are not known).
    """
    height, width = found.cells.shape
    count = found.n_cells
    middle = found.cells if found.nuclei is None else found.nuclei
    place = np.flatnonzero(middle)
    label = middle.ravel()[place]
    area = np.bincount(label, minlength=count + 1)[1:]
    y = np.bincount(label, place // width, count + 1)[1:] / area
    x = np.bincount(label, place % width, count + 1)[1:] / area
    first = corners(np.stack([y, x], axis=1), size)
    edge = np.concatenate([found.cells[[0, -1]].ravel(), found.cells[:, [0, -1]].ravel()])
    cut = np.isin(np.arange(1, count + 1), edge)
    leaves = (first < 0).any(axis=1) | (first + size > [height, width]).any(axis=1)
    table = pd.DataFrame(
        {
            "label": np.arange(1, count + 1),
            "y": y,
            "x": x,
            "y0": first[:, 0],
            "x0": first[:, 1],
            "area": np.bincount(found.cells.ravel(), minlength=count + 1)[1:],
            "nucleus_area": np.nan if found.nuclei is None else area,
        }
    )
    dropped = {"cut at border": int(cut.sum()), "tile leaves the field": int((leaves & ~cut).sum())}
    return table[~cut & ~leaves].reset_index(drop=True), {k: n for k, n in dropped.items() if n}


def common_pixel_size(index: pd.DataFrame) -> float | None:
    """µm per pixel, if all fields agree within one percent."""
    sizes = index["pixel_size_um"].dropna()
    if sizes.empty:
        return None
    if sizes.max() > 1.01 * sizes.min():
        small, large = index.loc[[sizes.idxmin(), sizes.idxmax()], "path"]
        raise InputError(
            required="one pixel size per plate",
            found=f"{sizes.min():g} µm in {small}, {sizes.max():g} µm in {large}",
            action="treat them as two plates, or set images: pixel_size_um if the files are wrong",
        )
    return float(sizes.median())


def _from_stacks(
    row: PlateRow,
    fields: Path,
    settings: TilesSettings,
    images: ImagesSettings,
    path: Path,
    about: dict[str, Any],
    ledger: Ledger,
    progress: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The plate's cells, taken from its stacks. Returns their table, one of no field and the
    store's digest."""
    if settings.neighbours == "mask":
        raise InputError(
            required="masks of cells, since tiles: neighbours is mask",
            found=f"plate {row.plate} of kind tiles, which has none",
            action="set tiles: neighbours to keep, or start from whole fields",
        )
    table = read_table(row)
    stacks = {name: Stack(name, images) for name in table["stack"].unique()}
    for name, stack in stacks.items():
        index = table.loc[table["stack"] == name, "index"]
        if index.iloc[-1] >= stack.count:
            raise InputError(
                required=f"positions below {stack.count}, the cells in {name}",
                found=f"{index.iloc[-1]} in line {index.index[-1]} of {row.table}",
                action="count from 0, and check that the table belongs to this stack",
            )
    one = next(iter(stacks.values()))
    for stack in stacks.values():
        if (stack.dtype, stack.names) != (one.dtype, one.names):
            raise InputError(
                required="stacks of one type and with the same channels",
                found=f"{one.dtype}, {len(one.names)} channels in {one.path}; {stack.dtype}, "
                f"{len(stack.names)} in {stack.path}",
                action="save the stacks alike",
            )
    pixel = images.pixel_size_um or one.pixel_size_um
    size = tile_pixels(settings, pixel)
    quality = []
    with write_store(
        path,
        channels=one.names,
        size=size,
        dtype=one.dtype,
        masks=False,
        pixel_size_um=pixel,
        about=about,
    ) as writer:
        for done, (name, stack) in enumerate(stacks.items(), start=1):
            here = table["stack"] == name
            index = table.loc[here, "index"].to_numpy(np.int64)
            table.loc[here, ["y0", "x0"]] += stack.offset(size)
            for tiles in stack.blocks(size, index):
                writer.append(tiles)
                ceilings = [camera_ceiling(tiles[:, c].max()) for c in range(tiles.shape[1])]
                quality.append(tile_quality(tiles, one.names, ceilings))
            if progress is not None:
                progress(done, len(stacks))
    ledger.add("cells", "cell", found=len(table), kept=sum(len(q) for q in quality))
    table = table.drop(columns=["stack", "index"]).reset_index(drop=True)
    table = pd.concat([table, pd.concat(quality, ignore_index=True)], axis=1)
    return table, pd.DataFrame(columns=[c.name for c in MEASURED_FIELDS.columns]), writer.digest


def _no_cells(row: PlateRow, found: str, action: str) -> InputError:
    return InputError(
        required=f"at least one cell on plate {row.plate}", found=found, action=action
    )
