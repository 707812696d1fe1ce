"""Zarr stores → batches: whole shards in order, shuffled within a bounded window, read ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vae_sci.contracts import TILES
from vae_sci.errors import ContractError
from vae_sci.tiles.store import NEIGHBOUR, store_about, store_array

WINDOW_BYTES = 400_000_000  # of tiles held for shuffling: 16,000 tiles of 64 × 64 × 3 uint16
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


@dataclass(frozen=True)
class Source:
    """One plate's store and the rows of it that are wanted (sorted)."""

    plate: str
    store: Path
    rows: np.ndarray


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

        An incomplete last batch is left out, unless fewer tiles than a batch remain in the last
        window: the loop takes `steps` batches and no more.

        With several processes, process `rank` of `world` gets its share of every global batch of
        `batch_size`, so that the global batches are the same for any number of processes.
        """
        return _read_ahead(self._shuffled(batch_size, seed, rank, world))

    def steps(self, batch_size: int) -> int:
        """Steps per epoch of `shuffled`; at least one, for fewer tiles than a batch."""
        return max(1, self.n_tiles // batch_size)

    def _blocks(self) -> list[tuple[int, np.ndarray]]:
        """(plate index, wanted rows) of every shard that holds a wanted row."""
        blocks = []
        for index, source in enumerate(self.sources):
            shards = store_array(source.store).shards
            assert shards is not None  # `write_store` always shards
            edges = np.flatnonzero(np.diff(source.rows // shards[0])) + 1
            blocks += [(index, rows) for rows in np.split(source.rows, edges)]
        return blocks

    def _load(self, index: int, rows: np.ndarray) -> Batch:
        """The wanted rows of one shard: read the whole span, then pick."""
        store = self.sources[index].store
        span = slice(int(rows[0]), int(rows[-1]) + 1)
        counts = np.asarray(store_array(store)[span])[rows - rows[0]]
        visible = None
        if self.masked:
            masks = np.asarray(store_array(store, "masks")[span])
            visible = (masks[rows - rows[0]] != NEIGHBOUR)[:, None]
        return Batch(counts, visible, np.full(len(rows), index), rows)

    def _in_order(self, batch_size: int) -> Iterator[Batch]:
        for index, rows in self._blocks():
            block = self._load(index, rows)
            for start in range(0, len(rows), batch_size):
                yield _take(block, np.arange(start, min(start + batch_size, len(rows))))

    def _shuffled(
        self, batch_size: int, seed: tuple[int, ...], rank: int, world: int
    ) -> Iterator[Batch]:
        random = np.random.default_rng(seed)
        blocks = self._blocks()
        held: list[Batch] = []
        order = random.permutation(len(blocks))
        for position, which in enumerate(order):
            held.append(self._load(*blocks[which]))
            last = position == len(order) - 1
            if sum(block.counts.nbytes for block in held) < WINDOW_BYTES and not last:
                continue
            window = _join(held)
            shuffled = random.permutation(len(window.tile))
            full = len(shuffled) // batch_size * batch_size
            if last and full == 0:
                full = len(shuffled)  # fewer tiles than one batch: one small batch
            for start in range(0, full, batch_size):
                batch = shuffled[start : start + batch_size]
                yield _take(window, batch[rank::world])
            # What is left of this window is mixed into the next.
            held = [_take(window, shuffled[full:])]


def _take(block: Batch, rows: np.ndarray) -> Batch:
    visible = None if block.visible is None else block.visible[rows]
    return Batch(block.counts[rows], visible, block.plate[rows], block.tile[rows])


def _join(blocks: list[Batch]) -> Batch:
    if len(blocks) == 1:
        return blocks[0]
    visible = [block.visible for block in blocks if block.visible is not None]
    return Batch(
        np.concatenate([block.counts for block in blocks]),
        np.concatenate(visible) if visible else None,
        np.concatenate([block.plate for block in blocks]),
        np.concatenate([block.tile for block in blocks]),
    )


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

    Raises `ContractError` when the plates' stores disagree on channels, tile size or neighbours.
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
        wanted = table if split is None else table[table["split"] == split]
        sources.append(Source(plate, store, np.sort(wanted["tile"].to_numpy(dtype=np.int64))))
    return TileStream(sources, masked=bool(first and first[1]["neighbours"] == "mask"))
