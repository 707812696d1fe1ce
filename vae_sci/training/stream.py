"""Zarr stores → batches: blocks of tiles decoded ahead in threads, shuffled in a bounded window.

blocks, in an order drawn from the seed → `DECODERS` threads → window of `WINDOW_BYTES`, of which
random tiles leave as batches when the next block needs room → `READ_AHEAD` batches → the loop
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr

from vae_sci.contracts import TILES
from vae_sci.errors import ContractError
from vae_sci.tiles.light import TileLight, open_light
from vae_sci.tiles.store import NEIGHBOUR, need_table_of, store_about, store_array

WINDOW_BYTES = 400_000_000  # of tiles held for shuffling: 16,000 tiles of 64 × 64 × 3 uint16
BLOCK_BYTES = 12_600_000  # of neighbours in a shard decoded at once: 512 such tiles
DECODERS = 2  # threads that decode, each one block ahead
READ_AHEAD = 4  # batches ready before they are asked for


@dataclass(frozen=True)
class Batch:
    """Tiles of one step.

    Parameters
    ----------
    counts : (N, C, H, W), raw grey levels, as stored.
    visible : (N, 1, H, W), bool, False where a masked neighbour lies; None: all pixels count.
    plate, tile : (N,), index of the plate in the stream and row of the tile in its store.
    """

    counts: np.ndarray
    visible: np.ndarray | None
    plate: np.ndarray
    tile: np.ndarray

    def take(self, rows: np.ndarray | slice) -> Batch:
        """Some of the tiles: a copy by their numbers, a view by a slice."""
        visible = None if self.visible is None else self.visible[rows]
        return Batch(self.counts[rows], visible, self.plate[rows], self.tile[rows])

    def empty(self, n: int) -> Batch:
        """Room for `n` tiles like these."""

        def room(part: np.ndarray) -> np.ndarray:
            return np.empty((n, *part.shape[1:]), part.dtype)

        visible = None if self.visible is None else room(self.visible)
        return Batch(room(self.counts), visible, room(self.plate), room(self.tile))

    def put(self, rows: np.ndarray, tiles: Batch) -> None:
        """Overwrite some of the tiles."""
        self.counts[rows] = tiles.counts
        self.plate[rows] = tiles.plate
        self.tile[rows] = tiles.tile
        if self.visible is not None:
            self.visible[rows] = tiles.visible


@dataclass(frozen=True)
class Source:
    """One plate's store, the rows of it that are wanted (sorted), and the light on its tiles, where
    it is known not to be even."""

    plate: str
    store: Path
    rows: np.ndarray
    light: TileLight | None = None


class TileStream:
    """All wanted tiles of several plates.

    Parameters
    ----------
    sources : plates and rows.
    masked : neighbours' pixels are to be left out (the setting `tiles.neighbours: mask`).
    """

    def __init__(self, sources: list[Source], masked: bool = False) -> None:
        self.sources = [source for source in sources if len(source.rows)]
        self.masked = masked
        self.n_tiles = sum(len(source.rows) for source in self.sources)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Every tile once, in order of plate and row."""
        return _read_ahead(self._in_order(batch_size))

    def shuffled(
        self, batch_size: int, seed: tuple[int, ...], rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """One epoch in an order that `seed` alone decides.

        `steps` batches: an incomplete last one is left out, unless it is the only one.

        With several processes, process `rank` of `world` gets its share of every global batch of
        `batch_size`, so that the global batches are the same for any number of processes.
        """
        return _read_ahead(self._shuffled(batch_size, seed, rank, world))

    def light(self, batch: Batch) -> tuple[np.ndarray, np.ndarray] | None:
        """The light on the tiles of a batch: gain (N, C, H, W) and offset (N, C), as of `Light.on`;
        None where it counts as even on all plates."""
        if all(source.light is None for source in self.sources):
            return None
        gain = np.ones(batch.counts.shape, np.float32)
        offset = np.zeros(gain.shape[:2])
        for number in np.unique(batch.plate):
            light, here = self.sources[number].light, batch.plate == number
            if light is not None:
                gain[here], offset[here] = light.gain(batch.tile[here]), light.offset
        return gain, offset

    def steps(self, batch_size: int) -> int:
        """Steps per epoch of `shuffled`; at least one, for fewer tiles than a batch."""
        return max(1, self.n_tiles // batch_size)

    def _blocks(self) -> list[_Block]:
        """All that is wanted, in order of plate and row, in parts of whole chunks."""
        blocks = []
        for index, source in enumerate(self.sources):
            tiles = store_array(source.store)
            masks = store_array(source.store, "masks") if self.masked else None
            assert tiles.shards is not None  # `write_store` always shards
            tile_bytes = tiles.nbytes // tiles.shape[0]
            chunks = max(1, BLOCK_BYTES // (tile_bytes * tiles.chunks[0]))
            part = source.rows // min(chunks * tiles.chunks[0], tiles.shards[0])
            edges = np.flatnonzero(np.diff(part)) + 1
            blocks += [_Block(index, r, tiles, masks) for r in np.split(source.rows, edges)]
        return blocks

    def _in_order(self, batch_size: int) -> Iterator[Batch]:
        for block in _decoded(self._blocks()):
            for start in range(0, len(block.tile), batch_size):
                yield block.take(slice(start, start + batch_size))

    def _shuffled(
        self, batch_size: int, seed: tuple[int, ...], rank: int, world: int
    ) -> Iterator[Batch]:
        random = np.random.default_rng(seed)
        blocks = self._blocks()
        blocks = [blocks[i] for i in random.permutation(len(blocks))]
        largest = max((len(block.rows) for block in blocks), default=0)
        window: Batch | None = None
        to_come = self.n_tiles
        for block in _decoded(blocks):
            if window is None:
                size = WINDOW_BYTES * len(block.tile) // block.counts.nbytes
                window = block.empty(min(self.n_tiles, max(size, largest + batch_size)))
                held, free = np.arange(0), np.arange(len(window.tile))  # places in the window
            places, free = np.split(free, [len(block.tile)])
            window.put(places, block)
            held = np.append(held, places)
            to_come -= len(places)
            # The window stays full: only as many batches leave as the next block needs room.
            lacking = min(to_come, largest) - len(free) if to_come else len(held)
            if lacking <= 0:
                continue
            random.shuffle(held)
            if self.n_tiles < batch_size:
                leaving = len(held)
            else:
                leaving = min(-(-lacking // batch_size), len(held) // batch_size) * batch_size
            for start in range(0, leaving, batch_size):
                batch = held[start : min(start + batch_size, leaving)]
                yield window.take(batch[rank::world])
            free = np.append(free, held[:leaving])
            held = held[leaving:]


@dataclass(frozen=True)
class _Block:
    """Rows of one plate that are read and decoded at once."""

    plate: int
    rows: np.ndarray
    tiles: zarr.Array[Any]
    masks: zarr.Array[Any] | None

    def load(self) -> Batch:
        visible = None if self.masks is None else (self._read(self.masks) != NEIGHBOUR)[:, None]
        plate = np.full(len(self.rows), self.plate)
        return Batch(self._read(self.tiles), visible, plate, self.rows)

    def _read(self, array: zarr.Array[Any]) -> np.ndarray:
        """The whole span, then, unless all of it is wanted, the rows."""
        first, last = int(self.rows[0]), int(self.rows[-1])
        span = np.asarray(array[first : last + 1])
        return span if len(span) == len(self.rows) else span[self.rows - first]


def _decoded(blocks: list[_Block]) -> Iterator[Batch]:
    """The blocks in the order given, decoded ahead by `DECODERS` threads, one block each."""
    ahead: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(DECODERS) as threads:
        for block in blocks:
            ahead.append(threads.submit(block.load))
            if len(ahead) > DECODERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Run `batches` in a thread, a few ahead; its errors are raised here."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(READ_AHEAD)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def read_tables(results: Path, plates: list[str]) -> pd.DataFrame:
    """The tile tables of several plates, one below the other."""
    tables = [TILES.read(results / "tiles" / f"{plate}.parquet") for plate in plates]
    return pd.concat(tables, ignore_index=True)


def open_stream(results: Path, plates: list[str], split: str | None = None) -> TileStream:
    """The tiles of `plates` below `results`, of one part (train, validation, test) or all.

    Raises `ContractError` when the plates' stores disagree on channels, tile size or neighbours, or
    a store and its table do not belong together.
    """
    sources, first = [], None
    for plate in plates:
        store = results / "tiles" / f"{plate}.zarr"
        about = store_about(store)
        seen = {name: about[name] for name in ("channels", "size", "neighbours")}
        seen["dtype"] = str(store_array(store).dtype)
        first = first or (plate, seen)
        if seen != first[1]:
            raise ContractError(
                required="the same channels, size, neighbours and type on all plates; "
                f"{first[0]} has {first[1]}",
                found=f"plate {plate} has {seen}",
                action="give all plates the same channels and pixel size, or run them apart",
            )
        table = TILES.read(results / "tiles" / f"{plate}.parquet")
        need_table_of(store, table)
        wanted = table if split is None else table[table["split"] == split]
        rows = np.sort(wanted["tile"].to_numpy(dtype=np.int64))
        sources.append(Source(plate, store, rows, open_light(store, table)))
    return TileStream(sources, masked=bool(first and first[1]["neighbours"] == "mask"))
