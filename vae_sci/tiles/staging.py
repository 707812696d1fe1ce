"""Fields of a plate cut by several processes, each staged as a file of its own.

A run that was cut off takes up what is staged, and loses at most the fields in hand. Who packs the
fields reads them in order, so that the store's bytes depend neither on processes nor on crashes.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.files import exclusive, publish

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True)
class CutField:
    """What tiling takes from one field.

    Parameters
    ----------
    tiles : (n, C, H, W), raw counts. masks : (n, H, W), uint8.
    cells : one row per tile. field : one row per channel, its measures.
    found, n_cells : objects found, and those of them that are cells.
    not_cells, not_cut : of the others, and of cells without a tile, the number by reason.
    """

    tiles: NDArray[Any]
    masks: NDArray[np.uint8]
    cells: pd.DataFrame
    field: pd.DataFrame
    found: int
    n_cells: int
    not_cells: dict[str, int]
    not_cut: dict[str, int]

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        counts = [self.found, self.n_cells, self.not_cells, self.not_cut]
        with publish(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                tiles=self.tiles,
                masks=self.masks,
                cells=np.frombuffer(self.cells.to_parquet(index=False), np.uint8),
                field=np.frombuffer(self.field.to_parquet(index=False), np.uint8),
                counts=np.frombuffer(json.dumps(counts).encode(), np.uint8),
            )

    @classmethod
    def load(cls, path: Path) -> CutField:
        """What `save` wrote."""
        with np.load(path) as file:
            cells, field = (pd.read_parquet(io.BytesIO(file[name])) for name in ("cells", "field"))
            counts = json.loads(file["counts"].tobytes())
            return cls(file["tiles"], file["masks"], cells, field, *counts)


@contextmanager
def staged(
    folder: Path,
    plate: str,
    belongs_to: dict[str, Any],
    make: Callable[[], Callable[[int], CutField]],
    count: int,
    processes: int,
    progress: Progress,
) -> Iterator[Sequence[Path]]:
    """Yield a staged file per field, in order: those an earlier run left, the others made now.

    folder : of what they are packed into; they lie beside it, and go when the block ends well.
    belongs_to : what the fields depend on (JSON); any change of it makes all anew.
    make : gives the function that cuts field 0 … count − 1. Called once in every process, so that
        it must be picklable; what it gives need not.
    """
    text = json.dumps(belongs_to, sort_keys=True)
    key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    base = folder / f".{plate}"
    mine = base / key
    with exclusive(base / "lock", f"tile plate {plate}"):
        for other in base.iterdir():
            if other.is_dir() and other != mine:
                shutil.rmtree(other)
        paths = [mine / f"{number:06d}.npz" for number in range(count)]
        missing = [number for number in range(count) if not paths[number].exists()]
        for done, _ in enumerate(_made(make, paths, missing, processes), count - len(missing) + 1):
            if progress is not None:
                progress(done, count)
        yield paths
        shutil.rmtree(base)


def _made(
    make: Callable[[], Callable[[int], CutField]],
    paths: list[Path],
    missing: list[int],
    processes: int,
) -> Iterator[int]:
    """Make the missing fields; their numbers, as they are done."""
    if processes == 1 or len(missing) < 2:
        cut = make()
        for number in missing:
            cut(number).save(paths[number])
            yield number
        return
    # Not forked: torch and readers may hold threads and locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(missing)), context, _start, (make, paths))
    try:
        for future in as_completed([pool.submit(_work, number) for number in missing]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_cut: Callable[[int], CutField]
_paths: list[Path]


def _start(make: Callable[[], Callable[[int], CutField]], paths: list[Path]) -> None:
    global _cut, _paths
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _cut, _paths = make(), paths


def _end_with_parent() -> None:
    """Workers of a pool wait for work for ever when their parent is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(number: int) -> int:
    _cut(number).save(_paths[number])
    return number
