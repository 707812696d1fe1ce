"""Cells already cropped: TIFF stacks and the table that tells what they show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from vae_sci.config import ImagesSettings, PlateRow
from vae_sci.contracts import TILES
from vae_sci.errors import InputError
from vae_sci.images.index import channel_names
from vae_sci.images.layouts import number_or_text
from vae_sci.images.platemap import (
    need_columns,
    need_wells,
    numbers,
    read_csv,
    read_platemap,
    rows_of_plate,
    wells,
)
from vae_sci.images.tiff import check_counts, open_tiff, pixel_size

BLOCK = 512  # cells read at a time

_GIVEN = ("y", "x", "y0", "x0", "area", "nucleus_area")  # ours, taken from the table if there


def read_table(row: PlateRow) -> pd.DataFrame:
    """The plate's cells, one row each, sorted by stack and index.

    Columns: cell_id, plate, well, site, batch, stack (absolute path), index; y, x, y0, x0, area,
    nucleus_area (missing where the table has none); then the table's other columns, unchanged:
    one that would take the name of a column of ours is called `given_…`. `label` (or `cell`) is
    the last part of cell_id; without it, stack and index are.
    Raises `InputError` naming the file and its line.
    """
    assert row.table is not None
    path = Path(row.table)
    raw = rows_of_plate(read_csv(path, row.columns), row.plate, path)
    need_columns(raw, ["stack", "index", "well"], path)
    table = pd.DataFrame(index=raw.index)
    table["plate"] = row.plate
    table["batch"] = row.batch
    table["well"] = wells(raw["well"], path)
    table["site"] = (
        raw["site"].map(number_or_text, na_action="ignore").astype("string")
        if "site" in raw
        else pd.Series(pd.NA, index=raw.index, dtype="string")
    )
    table["stack"] = raw["stack"].map(lambda name: str((path.parent / name).resolve()))
    index = numbers(raw["index"], path)
    wrong = raw.index[(index < 0) | (index % 1 != 0)]
    if len(wrong):
        raise InputError(
            required="in column 'index' positions in the stack: 0, 1, 2, …",
            found=f"'{raw['index'][wrong[0]]}' in line {wrong[0]} of {path}",
            action="count the cells of each stack from 0",
        )
    table["index"] = index.astype("int64")
    named = next((name for name in ("label", "cell") if name in raw), None)
    stems = raw["stack"].map(lambda name: Path(name).name.split(".")[0])
    label = stems + "-" + table["index"].astype(str)
    if named is not None:
        need_columns(raw, [named], path)
        label = raw[named]
    table["cell_id"] = (
        row.plate + "/" + table["well"] + "/" + table["site"].fillna("-") + "/" + label
    )
    for key in (["cell_id"], ["stack", "index"]):
        twice = table.index[table.duplicated(key)]
        if len(twice):
            what = ", ".join(str(table.loc[twice[0], k]) for k in key)
            raise InputError(
                required=f"every {' and '.join(key)} once",
                found=f"{what} again in line {twice[0]} of {path}",
                action="give each cell its own label within plate, well and site, and list it once",
            )
    for name in _GIVEN:
        table[name] = numbers(raw[name], path) if name in raw else np.nan
    ours = {column.name for column in TILES.columns if not column.family} | set(table.columns)
    families = tuple(column.name for column in TILES.columns if column.family)
    for name in raw.columns:
        if name in {"well", "site", "stack", "index", *_GIVEN}:
            continue
        taken = name in ours or name.startswith(families)
        table[f"given_{name}" if taken else name] = _typed(raw[name])
    if row.platemap is not None:
        need_wells(row, table["well"], read_platemap(row))
    return table.sort_values(["stack", "index"], kind="stable")


def _typed(column: pd.Series) -> pd.Series:
    """Numbers and booleans where the whole column is so, else text."""
    values = column.dropna()
    if len(values) and values.str.lower().isin(["true", "false"]).all():
        return column.str.lower().map({"true": True, "false": False}).astype("boolean")
    converted = pd.to_numeric(values, errors="coerce")
    if len(values) and converted.notna().all():
        return pd.to_numeric(column)
    return column.astype("string")


class Stack:
    """One TIFF stack as (N, C, H, W), read block by block.

    names : channel names in the order of the tiles; `pixel_size_um` from the file, or None.
    """

    def __init__(self, path: str, settings: ImagesSettings) -> None:
        self.path = path
        with open_tiff(path) as tif:
            series = tif.series[0]
            check_counts(path, series)
            self.dtype = str(series.dtype)
            self.pixel_size_um = pixel_size(tif)
            self._cell, self._channel, self._y, self._x = _axes(path, series.axes, series.shape)
            shape = series.shape
        self.count = 1 if self._cell is None else shape[self._cell]
        channels = 1 if self._channel is None else shape[self._channel]
        self.shape = (shape[self._y], shape[self._x])
        ids = [str(position + 1) for position in range(channels)]
        names = channel_names(ids, settings, path)
        self.names = list(names.values())
        self._picked = [int(position) - 1 for position in names]

    def blocks(self, size: int, index: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        """Tiles (n, C, size, size) of the cells `index`, rising, cut from the middle."""
        y0, x0 = self.offset(size)
        with open_tiff(self.path) as tif:
            array = zarr.open_array(tif.series[0].aszarr(), mode="r")
            for start in range(0, len(index), BLOCK):
                wanted = index[start : start + BLOCK]
                window = [slice(None)] * array.ndim
                if self._cell is not None:
                    window[self._cell] = slice(int(wanted[0]), int(wanted[-1]) + 1)
                window[self._y] = slice(y0, y0 + size)
                window[self._x] = slice(x0, x0 + size)
                yield self._ordered(np.asarray(array[tuple(window)]))[wanted - wanted[0]]

    def offset(self, size: int) -> tuple[int, int]:
        """First row and column of the middle `size` × `size` pixels.

        Raises `InputError` where the stack's tiles are smaller.
        """
        if min(self.shape) < size:
            raise InputError(
                required=f"cells of at least {size} × {size} pixels (tiles: size)",
                found=f"{self.shape[0]} × {self.shape[1]} in {self.path}",
                action="set tiles: size to what the smallest stack has, or less",
            )
        return (self.shape[0] - size) // 2, (self.shape[1] - size) // 2

    def _ordered(self, block: NDArray[Any]) -> NDArray[Any]:
        """Any order of axes → (n, C, H, W), channels picked as in the settings."""
        order = [a for a in (self._cell, self._channel, self._y, self._x) if a is not None]
        rest = [a for a in range(block.ndim) if a not in order]
        block = block.transpose(*rest, *order)
        block = block.reshape(block.shape[len(rest) :])
        if self._channel is None:
            block = np.expand_dims(block, -3)
        if self._cell is None:
            block = block[None]
        return block[:, self._picked]


def _axes(path: str, axes: str, shape: tuple[int, ...]) -> tuple[int | None, int | None, int, int]:
    """Positions of the axes of cells, channels, y and x (tifffile's letters; C or S: channels).

    Where no letter tells channels, they are the second of two axes beside y and x. Raises
    `InputError` where the cells lie along several axes.
    """
    other = [i for i, axis in enumerate(axes) if axis not in "YX"]
    channel = next((i for wanted in "CS" for i in other if axes[i] == wanted), None)
    long = [i for i in other if i != channel and shape[i] > 1]
    if channel is None and len(long) == 2 and len(other) == 2:
        channel = long.pop()
    if len(long) > 1 or not {"Y", "X"} <= set(axes):
        raise InputError(
            required="a stack with axes cell, channel, y, x in any order (for example TCYX)",
            found=f"axes {axes} of shape {tuple(shape)} in {path}",
            action="save it with its axes in the OME or ImageJ metadata",
        )
    return (long[0] if long else None), channel, axes.index("Y"), axes.index("X")
