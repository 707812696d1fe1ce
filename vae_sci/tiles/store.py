"""The store of tiles: raw counts in sharded Zarr v3."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from vae_sci.errors import ContractError
from vae_sci.files import publish
from vae_sci.tiles.shards import ShardWriter

CHUNK, SHARD = 32, 2048  # tiles per chunk (the unit of reading) and per shard (one file)
CONTRAST = (1.0, 99.8)  # percentiles of grey levels that a viewer shows black and at full colour
COLOURS = ("#00CFFF", "#FF1FC7", "#FFE100", "#C0C0C0", "#3A5BFF", "#FF6A1A")  # of channels
NEIGHBOUR = 2  # value in `masks` where another cell lies; 1: this cell, 0: background


class TileWriter:
    """Takes tiles as they come; memory holds a chunk of them.

    Made by `write_store`. `digest` is set when the block of `write_store` has ended.
    """

    digest: str

    def __init__(self, path: Path, channels: int, size: int, dtype: str, masks: bool) -> None:
        self.group = zarr.create_group(path, zarr_format=3)
        self._arrays = [self._array(path, "tiles", (channels, size, size), dtype)]
        if masks:
            self._arrays.append(self._array(path, "masks", (size, size), "uint8"))
        self._levels = np.zeros((channels, np.iinfo(dtype).max + 1), np.int64)

    def _array(self, path: Path, name: str, shape: tuple[int, ...], dtype: str) -> ShardWriter:
        array = self.group.create_array(
            name,
            shape=(0, *shape),
            chunks=(CHUNK, *shape),
            shards=(SHARD, *shape),
            dtype=dtype,
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
            dimension_names=["t", *"cyx"[-len(shape) :]],
        )
        return ShardWriter(array, path / name)

    @property
    def n_tiles(self) -> int:
        return self._arrays[0].shape[0]

    def append(self, tiles: NDArray[Any], masks: NDArray[np.uint8] | None = None) -> None:
        """Append tiles (n, C, H, W) of the store's type and, where it has them, masks (n, H, W)."""
        first = tiles[: max(0, SHARD - self.n_tiles)]
        for levels, channel in zip(self._levels, first.swapaxes(0, 1), strict=True):
            levels += np.bincount(channel.ravel(), minlength=len(levels))
        parts = [tiles] if masks is None else [tiles, masks]
        for array, part in zip(self._arrays, parts, strict=True):
            array.append(part)

    def contrast(self) -> list[tuple[int, int]]:
        """Black and full grey level of each channel, by the tiles of the first shard."""
        shares = np.cumsum(self._levels, axis=1) / max(self._levels[0].sum(), 1)
        found = []
        for share in shares:
            low, high = (int(np.searchsorted(share, percent / 100)) for percent in CONTRAST)
            found.append((low, max(high, low + 1)))
        return found

    def finish(self) -> None:
        """Write what is left and set `digest`, that of all contents (see `write_store`)."""
        whole = hashlib.blake2b(digest_size=16)
        for writer in self._arrays:
            writer.finish()
            array = writer.array
            whole.update(f"{array.basename} {array.shape} {array.dtype.str}\n".encode())
            whole.update(writer.digest)
        self.digest = whole.hexdigest()


@contextmanager
def write_store(
    path: Path,
    *,
    channels: Sequence[str],
    size: int,
    dtype: str,
    masks: bool,
    pixel_size_um: float | None,
    about: dict[str, Any],
) -> Iterator[TileWriter]:
    """Yield a `TileWriter`; the store takes its place at `path` when the block ends well.

    The group holds `tiles` (N, C, H, W) of `dtype` and, if `masks`, `masks` (N, H, W) uint8; where
    a flat field is known, `light` (`tiles.light`), which the digest leaves out.
    Attributes: `ome` (OME-NGFF 0.5; its time axis counts cells; names, colours and contrast of the
    channels, by the first shard) and `vae_sci`: `about`, channels,
    size (pixels), pixel_size_um, n_tiles, digest. The digest is BLAKE2b over, for each array, its
    name, shape and type and the BLAKE2b of its bytes in order.
    """
    with publish(path) as temporary:
        writer = TileWriter(temporary, len(channels), size, dtype, masks)
        yield writer
        writer.finish()
        writer.group.attrs["ome"] = {
            **_ome(path.stem, pixel_size_um),
            "omero": _omero(channels, np.iinfo(dtype).max, writer.contrast()),
        }
        writer.group.attrs["vae_sci"] = {
            **about,
            "channels": list(channels),
            "size": size,
            "pixel_size_um": pixel_size_um,
            "n_tiles": writer.n_tiles,
            "digest": writer.digest,
        }


def _ome(name: str, pixel_size_um: float | None) -> dict[str, Any]:
    unit = {"unit": "micrometer"} if pixel_size_um is not None else {}
    scale = pixel_size_um or 1.0
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": name,
                "axes": [
                    {"name": "t", "type": "time"},
                    {"name": "c", "type": "channel"},
                    {"name": "y", "type": "space", **unit},
                    {"name": "x", "type": "space", **unit},
                ],
                "datasets": [
                    {
                        "path": "tiles",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [1.0, 1.0, scale, scale]}
                        ],
                    }
                ],
            }
        ],
    }


def _omero(
    channels: Sequence[str], highest: int, contrast: list[tuple[int, int]]
) -> dict[str, Any]:
    """How viewers show the channels (OME-NGFF, "omero")."""
    return {
        "channels": [
            {
                "label": name,
                "color": COLOURS[number % len(COLOURS)].removeprefix("#"),
                "active": True,
                "window": {"min": 0, "max": int(highest), "start": start, "end": end},
            }
            for number, (name, (start, end)) in enumerate(zip(channels, contrast, strict=False))
        ]
    }


def open_store(path: str | Path) -> zarr.Group:
    """The store at `path`, for reading: arrays `tiles` and maybe `masks`, attribute `vae_sci`.

    Raises `ContractError` where it is missing, unfinished, lacks a shard (which Zarr would read
    as zeros), or its arrays disagree with its attributes. Does not read the tiles themselves.
    """
    path = Path(path)
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
        about: Any = group.attrs["vae_sci"]
        arrays: dict[str, Any] = {name: group[name] for name in ("tiles", "masks") if name in group}
        tiles = arrays["tiles"]
        size, count = about["size"], about["n_tiles"]
        expected = {
            "tiles": (count, len(about["channels"]), size, size),
            "masks": (count, size, size),
        }
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    for name, array in arrays.items():
        if array.shape != expected[name]:
            raise _damaged(path, f"{name} of shape {array.shape}, not {expected[name]}")
        shards = -(-count // array.shards[0])
        there = sum(p.is_file() for p in (path / name / "c").rglob("*"))
        if there != shards:
            raise _damaged(path, f"{there} of {shards} shards of {name}")
    if tiles.dtype not in (np.uint8, np.uint16):
        raise _damaged(path, f"tiles of type {tiles.dtype}")
    return group


def store_array(path: str | Path, name: str = "tiles") -> zarr.Array[Any]:
    """Array `tiles` (N, C, H, W) or `masks` (N, H, W) of the store at `path`.

    Raises `ContractError` as `open_store`, and where the store has no such array.
    """
    group = open_store(path)
    array = group.get(name)
    if not isinstance(array, zarr.Array):
        raise _damaged(Path(path), f"no array {name}, only {', '.join(sorted(group.array_keys()))}")
    return array


def store_about(path: str | Path) -> dict[str, Any]:
    """What a store says of itself: plate, channels, size, neighbours, n_tiles, digest, …"""
    about: Any = open_store(path).attrs["vae_sci"]
    return dict(about)


def need_table_of(path: str | Path, table: pd.DataFrame) -> None:
    """Raise `ContractError` unless `table` (contract TILES) was written with the store at `path`.

    A run that ended between the two leaves a new store beside an old table: rows would then lead
    to the tiles of other cells.
    """
    digest = store_about(path)["digest"]
    if (table["store_digest"] != digest).any():
        raise ContractError(
            required=f"the table that belongs to {path} (digest {digest})",
            found=f"a table of another store (digest {table['store_digest'].iloc[0]})",
            action="tile the plate again: both are then made anew",
        )


def read_rows(array: zarr.Array[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Rows (n,) of an array, in the order asked; each chunk is read once.

    Reading chunk by chunk took 3 s where `oindex` took 10 to 20 (3000 of 20,000 tiles, sharded).
    """
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    chunk = rows // array.chunks[0]
    for number in np.unique(chunk):
        places = np.flatnonzero(chunk == number)
        first, last = int(rows[places].min()), int(rows[places].max())
        out[places] = np.asarray(array[first : last + 1])[rows[places] - first]
    return out


def _damaged(path: Path, found: str) -> ContractError:
    return ContractError(
        required="a whole store of tiles",
        found=f"{path}: {found}",
        action="delete it and run again: the workflow makes it anew",
    )
