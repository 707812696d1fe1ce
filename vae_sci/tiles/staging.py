"""Fields of a plate cut by several threads, each staged as a file of its own.

A run that was cut off takes up what is staged, and loses at most the fields in hand. Fields are
handed on in order, so that the store's bytes depend neither on threads nor on crashes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_sci.files import exclusive, publish

Progress = Callable[[int, int], None] | None
AHEAD = 3  # fields per thread that are cut or wait to be packed: the bound on memory


@dataclass(frozen=True)
class CutField:
    """What tiling takes from one field.

    Parameters
    ----------
    tiles : (n, C, H, W), raw counts. masks : (n, H, W), uint8. labels : (n,), of the cells.
    cells, field : measures by name, (n,) of the cells and (C,) of the field's channels.
    found, n_cells : objects found, and those of them that are cells.
    not_cells, not_cut : of the others, and of cells without a tile, the number by reason.
    """

    tiles: NDArray[Any]
    masks: NDArray[np.uint8]
    labels: NDArray[np.integer]
    cells: dict[str, NDArray[np.float64]]
    field: dict[str, NDArray[np.float64]]
    found: int
    n_cells: int
    not_cells: dict[str, int]
    not_cut: dict[str, int]

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        names = [list(self.cells), list(self.field)]
        counts = [self.found, self.n_cells, self.not_cells, self.not_cut]
        with publish(path) as temporary, temporary.open("wb") as file:
            # Neither zipped nor checked by sums: it costs as much as cutting.
            file.write(json.dumps([names, counts]).encode() + b"\n")
            tables = (np.stack(list(measures.values())) for measures in (self.cells, self.field))
            for array in (self.tiles, self.masks, self.labels, *tables):
                np.save(file, array)

    @classmethod
    def load(cls, path: Path) -> CutField:
        """What `save` wrote."""
        with path.open("rb") as file:
            names, counts = json.loads(file.readline())
            tiles, masks, labels, *tables = (np.load(file) for _ in range(5))
        cells, field = (dict(zip(*pair, strict=True)) for pair in zip(names, tables, strict=True))
        return cls(tiles, masks, labels, cells, field, *counts)


@contextmanager
def staged(
    folder: Path,
    plate: str,
    belongs_to: dict[str, Any],
    cut: Callable[[int], CutField],
    count: int,
    threads: int,
    progress: Progress,
) -> Iterator[Iterator[CutField]]:
    """Yield the fields in order: those an earlier run has staged, and the others as they are cut.

    folder : of what they are packed into; staged files lie beside it, and go when the block ends
        well.
    belongs_to : what the fields depend on (JSON); any change of it makes all anew.
    cut : cuts field 0 … count − 1; called by several threads at once.
    """
    text = json.dumps(belongs_to, sort_keys=True)
    key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    base = folder / f".{plate}"
    mine = base / key
    with exclusive(base / "lock", f"tile plate {plate}"):
        for other in base.iterdir():
            if other.is_dir() and other != mine:
                shutil.rmtree(other)
        paths = [mine / f"{number:06d}.field" for number in range(count)]
        missing = {number for number in range(count) if not paths[number].exists()}

        def get(number: int) -> CutField:
            if number not in missing:
                return CutField.load(paths[number])
            field = cut(number)
            field.save(paths[number])
            return field

        def fields() -> Iterator[CutField]:
            done = count - len(missing)
            for number, field in enumerate(_in_order(get, count, threads)):
                if progress is not None and number in missing:
                    done += 1
                    progress(done, count)
                yield field

        yield fields()
        shutil.rmtree(base)


def _in_order(get: Callable[[int], CutField], count: int, threads: int) -> Iterator[CutField]:
    """Fields 0 … count − 1; who asks for one finds a few of the next under way.

    The thread that asks is one of the `threads`: where it would wait, it cuts a field itself.
    """
    if threads == 1:
        yield from map(get, range(count))
        return
    under_way: dict[int, Future[CutField]] = {}
    pool = ThreadPoolExecutor(threads - 1)
    try:
        for number in range(count):
            for later in range(number + len(under_way), min(number + AHEAD * threads, count)):
                under_way[later] = pool.submit(get, later)
            while not under_way[number].done():
                # What can be cancelled was not begun.
                free = next((later for later in under_way if under_way[later].cancel()), None)
                if free is None:
                    break
                under_way[free] = Future()
                under_way[free].set_result(get(free))
            yield under_way.pop(number).result()
    finally:
        pool.shutdown(cancel_futures=True)
