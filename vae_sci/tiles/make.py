"""One plate → its store of tiles, and the measures by which cells are kept or dropped."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci import algorithms
from vae_sci.config import ImagesSettings, PlateRow, TilesSettings
from vae_sci.contracts import FIELDS, MEASURED_CELLS, MEASURED_FIELDS
from vae_sci.errors import InputError
from vae_sci.images import watch
from vae_sci.images.quality import camera_ceiling
from vae_sci.memory import keep_freed
from vae_sci.tiles.crop import tile_pixels, tile_quality
from vae_sci.tiles.field import FieldCutter
from vae_sci.tiles.ledger import Ledger
from vae_sci.tiles.light import write_light
from vae_sci.tiles.quality import cells_against_plate, fields_against_plate
from vae_sci.tiles.split import split_wells
from vae_sci.tiles.stacks import Stack, read_table
from vae_sci.tiles.staging import Progress, staged
from vae_sci.tiles.store import write_store


def make_tiles(
    row: PlateRow,
    fields: Path,
    settings: TilesSettings,
    images: ImagesSettings,
    seed: int,
    results: Path,
    threads: int = 1,
    progress: Progress = None,
) -> None:
    """Write `tiles/{plate}.zarr` and, under `measured/`, its tables of fields and of all cells.

    `measured/ledger/{plate}.json` tells of what was dropped on the way, and comes first. Which
    cells are kept for what follows, `select_cells` decides by these measures.

    fields : the plate's table of fields (`images.index_plate`); not read for kind `tiles`.
    results : the folder of results, with the plate's flat field if `images` ask for one.
    threads : fields that are cut side by side; the bytes do not depend on it, and what a run that
        was cut off has done is taken up.
    progress : called with (fields or stacks done, all).
    Raises `InputError` where the plate gives no cell, or its stacks or table cannot be used.
    """
    keep_freed()
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
        row, Path(fields), settings, images, path, about, ledger, threads, progress
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
    threads: int,
    progress: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The plate's cells, found in its fields. Returns their table, that of the fields' quality and
    the store's digest."""
    index = FIELDS.read(fields)
    of_field = [index["well"], index["site"]]
    usable = index[index["verdict"].eq("ok").groupby(of_field, sort=False).transform("all")]
    verdicts = Counter(index["verdict"].groupby(of_field, sort=False).first())
    n_good = usable.groupby(["well", "site"]).ngroups
    bad = verdicts - Counter({"ok": n_good})
    ledger.add("fields", "field", found=verdicts.total(), kept=n_good, dropped=dict(bad))
    if not n_good:
        raise _no_cells(row, f"no usable field among {verdicts.total()}", "look at the images")
    pixel = common_pixel_size(index)
    size = tile_pixels(settings, pixel)
    flat = None
    if images.flat_field == "retrospective":
        flat = path.parents[1] / "flat_field" / f"{row.plate}.npz"
    cutter = FieldCutter(row, usable, size, settings.segmentation, images, pixel, flat)
    belongs_to = {
        "algorithm": algorithms.TILES,
        "settings": settings.model_dump(mode="json"),
        "images": images.model_dump(mode="json"),
        "fields": index.astype(str).to_dict("list"),
        # The table of fields tells of images by their time of change, not of masks.
        "masks": watch.digest(row) if row.masks else None,
        "flat_field": hashlib.blake2b(flat.read_bytes()).hexdigest() if flat else None,
    }
    nuclei, lost = Counter[str](), Counter[str]()
    n_nuclei = n_cells = 0
    cells, measured = [], []
    with (
        staged(path.parent, row.plate, belongs_to, cutter, n_good, threads, progress) as cut_fields,
        write_store(
            path,
            channels=cutter.channels,
            size=size,
            dtype=str(usable["dtype"].iloc[0]),
            masks=True,
            pixel_size_um=pixel,
            about=about,
        ) as writer,
    ):
        if cutter.flat is not None:
            write_light(writer.group, cutter.flat)
        for cut in cut_fields:
            writer.append(cut.tiles, cut.masks)
            cells.append({"label": cut.labels, **cut.cells})
            n_here = np.full(len(cutter.channels), cut.n_cells)
            measured.append({"channel": np.array(cutter.channels), "cells": n_here, **cut.field})
            n_nuclei, n_cells = n_nuclei + cut.found, n_cells + cut.n_cells
            nuclei.update(cut.not_cells)
            lost.update(cut.not_cut)
        table = _joined(row.plate, cutter.places, cells)
        named = zip(table["well"], table["site"], table.pop("label"), strict=True)
        table["cell_id"] = [f"{row.plate}/{well}/{site}/{label}" for well, site, label in named]
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
                f"{n_nuclei} {what} in {n_good} fields, none kept ({counts or 'none found'})",
                f"check {setting} and tiles: size against one image",
            )
    return table, fields_against_plate(_joined(row.plate, cutter.places, measured)), writer.digest


def _joined(
    plate: str, places: list[tuple[str, str]], parts: list[dict[str, NDArray[Any]]]
) -> pd.DataFrame:
    """What the fields tell, by column, in one table; `places`: their wells and sites."""
    count = [len(next(iter(part.values()))) for part in parts]
    wells, sites = (np.repeat(names, count) for names in zip(*places, strict=True))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return pd.DataFrame({"plate": plate, "well": wells, "site": sites, **columns})


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
    threads: int,
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
                quality.append(pd.DataFrame(tile_quality(tiles, one.names, ceilings)))
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
