"""An array of a store written chunk by chunk, in the shards that Zarr reads.

Zarr itself writes a shard in one go, and then holds its tiles, its encoded chunks and the bytes of
its file. Here one chunk is held. The format: https://zarr-specs.readthedocs.io, codec
sharding_indexed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import blosc
from numcodecs.checksum32 import CRC32C
from numpy.typing import NDArray

_ABSENT = 2**64 - 1  # offset and length, in the index, of a chunk that is not there

# Its threads would leave the blocks of a chunk in the order in which they are done.
blosc.use_threads = False


class ShardWriter:
    """Appends rows to an array (0, …) that Zarr has made, with shards, in the folder `path`.

    `shape` and `digest`, the BLAKE2b of the array's bytes, are those of what was appended. Zarr can
    read it after `finish`.
    """

    def __init__(self, array: zarr.Array[Any], path: Path) -> None:
        self.array, self.path = array, path
        self._chunk = np.zeros(array.chunks, array.dtype)
        assert array.shards is not None
        self._per_shard = array.shards[0] // array.chunks[0]
        self._index = np.full((self._per_shard, 2), _ABSENT, "<u8")
        self._hash = hashlib.blake2b(digest_size=16)
        self._rows = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._rows, *self._chunk.shape[1:])

    @property
    def digest(self) -> bytes:
        return self._hash.digest()

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows (n, …) of the array's type."""
        self._hash.update(np.ascontiguousarray(rows).data)
        length, done = len(self._chunk), 0
        while done < len(rows):
            filled = self._rows % length
            part = rows[done : done + length - filled]
            self._chunk[filled : filled + len(part)] = part
            done += len(part)
            self._rows += len(part)
            if self._rows % length == 0:
                self._write_chunk(self._rows // length - 1)

    def finish(self) -> None:
        """Write what is left, and tell Zarr how many rows there are."""
        whole, left = divmod(self._rows, len(self._chunk))
        if left:
            self._chunk[left:] = 0
            self._write_chunk(whole)
        chunks = whole + (left > 0)
        if chunks % self._per_shard:
            self._write_index(chunks // self._per_shard)
        self.array.resize(self.shape)

    def _write_chunk(self, number: int) -> None:
        shard, place = divmod(number, self._per_shard)
        encoded = blosc.compress(self._chunk, b"zstd", 3, blosc.BITSHUFFLE)
        self._index[place] = self._write(shard, encoded), len(encoded)
        if place == self._per_shard - 1:
            self._write_index(shard)

    def _write_index(self, shard: int) -> None:
        self._write(shard, CRC32C(location="end").encode(self._index))
        self._index[:] = _ABSENT

    def _write(self, shard: int, data: bytes) -> int:
        """Append to a shard's file; where in it the data begin."""
        file = self.path.joinpath("c", str(shard), *["0"] * (self._chunk.ndim - 1))
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as opened:
            begins = opened.tell()
            opened.write(data)
        return begins
