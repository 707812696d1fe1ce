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
from collections.abc import Iterable, Iterator
from pathlib import Path

from vae_sci.config import PlateRow
from vae_sci.errors import InputError
from vae_sci.images.loaddata import is_loaddata, read_loaddata

METADATA = {"zarr.json", ".zattrs", ".zarray", ".zgroup"}
SUFFIXES = (".tif", ".tiff", ".zarr")


def is_image(name: str) -> bool:
    """Whether a file or folder of this name is an image."""
    return name.rstrip("/").lower().endswith(SUFFIXES)


def image_files(images: str) -> list[os.DirEntry[str] | Path]:
    """Image files of a plate, in order of path: those in a folder, or those that fit a glob.

    An OME-Zarr image is a folder of its own. A link that leads nowhere is among them: whoever
    opens it says so. Raises `OSError` where the folder cannot be read.
    """
    if os.path.isdir(images) and not images.rstrip("/").endswith(".zarr"):
        with os.scandir(images) as entries:
            found: list[os.DirEntry[str] | Path] = [
                entry for entry in entries if is_image(entry.name)
            ]
    else:
        found = [Path(path) for path in glob.iglob(images, recursive=True)]
    files = [
        file
        for file in found
        if not file.name.startswith(".") and (file.name.endswith(".zarr") or not file.is_dir())
    ]
    return sorted(files, key=os.fspath)


def digest(row: PlateRow) -> str:
    """32 hexadecimal digits that change when a raw file of the plate appears, goes or changes.

    Of OME-Zarr, folders and metadata are watched, not chunk files: they change with every write
    that adds one. What cannot be looked at counts by its name alone: the room that opens it says
    why. So does what lies behind a URI: the network is not asked each time.
    """
    files: Iterable[os.DirEntry[str] | Path] = []
    if row.kind == "tiles":
        files = _stacks(row)
    elif is_loaddata(row.images or "") and "://" not in (row.images or ""):
        files = [Path(row.images or "")]
        with contextlib.suppress(InputError):  # the room that reads the table says what is wrong
            files += [Path(image.path) for image in read_loaddata(row)]
    else:
        files = _files(row.images or "")
    if row.masks is not None:
        files = [*files, *_files(row.masks)]
    whole = hashlib.blake2b(digest_size=16)
    for file in files:
        try:
            stat = file.stat()
            about = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:
            about = "missing"
        whole.update(f"{os.fspath(file)} {about}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _files(images: str) -> list[os.DirEntry[str] | Path]:
    if "://" in images:
        return [Path(images)]
    with contextlib.suppress(OSError):
        return [part for file in image_files(images) for part in _parts(file)]
    return []


def _parts(file: os.DirEntry[str] | Path) -> Iterator[os.DirEntry[str] | Path]:
    """The file; of a Zarr store its folders and metadata."""
    yield file
    if file.name.endswith(".zarr"):
        for folder, _, names in os.walk(file):
            yield Path(folder)
            for name in names:
                if name in METADATA:
                    yield Path(folder, name)


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
