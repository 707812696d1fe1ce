"""Have the raw files of a plate changed? Told from their names, sizes and times of change alone.

The workflow asks this of every plate each time that it starts; nothing is opened but the table
that names ready-made stacks.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import glob
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from vae_sci.config import PlateRow

SUFFIXES = (".tif", ".tiff")


def image_files(images: str) -> list[os.DirEntry[str] | Path]:
    """Image files of a plate, in order of path: those in a folder, or those that fit a glob.

    A link that leads nowhere is among them: whoever opens it says so. Raises `OSError` where the
    folder cannot be read.
    """
    if os.path.isdir(images):
        with os.scandir(images) as entries:
            found: list[os.DirEntry[str] | Path] = [
                entry for entry in entries if entry.name.lower().endswith(SUFFIXES)
            ]
    else:
        found = [Path(path) for path in glob.iglob(images, recursive=True)]
    files = [file for file in found if not file.name.startswith(".") and not file.is_dir()]
    return sorted(files, key=os.fspath)


def digest(row: PlateRow) -> str:
    """32 hexadecimal digits that change when a raw file of the plate appears, goes or changes.

    What cannot be looked at counts by its name alone: the room that opens it says why.
    """
    files: Iterable[os.DirEntry[str] | Path] = []
    if row.kind == "tiles":
        files = _stacks(row)
    else:
        with contextlib.suppress(OSError):
            files = image_files(row.images or "")
    whole = hashlib.blake2b(digest_size=16)
    for file in files:
        try:
            stat = file.stat()
            about = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:
            about = "missing"
        whole.update(f"{os.fspath(file)} {about}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _stacks(row: PlateRow) -> list[Path]:
    table = Path(row.table or "")
    renamed = {new: old for old, new in row.columns.items()}
    stacks = _stacks_by_plate(table, renamed.get("stack", "stack"), renamed.get("plate", "plate"))
    return [table.parent / name for name in stacks.get(row.plate, stacks.get(None, []))]


@functools.cache
def _stacks_by_plate(table: Path, stack: str, plate: str) -> dict[str | None, list[str]]:
    """Plate (None: the table tells none) → names of stacks; empty for a table without them."""
    found: dict[str | None, set[str]] = defaultdict(set)
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            separator = "\t" if "\t" in header else ","
            names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
            for line in csv.DictReader(file, names, delimiter=separator):
                if line.get(stack):
                    found[line[plate].strip() if line.get(plate) else None].add(line[stack].strip())
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}  # the room that reads the table says what is wrong with it
    return {name: sorted(stacks) for name, stacks in found.items()}
