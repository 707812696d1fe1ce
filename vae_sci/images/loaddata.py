"""CellProfiler's LoadData tables as the index of a plate: one row a field, columns a channel.

https://cellprofiler-manual.s3.amazonaws.com/CellProfiler-4.2.6/modules/input.html#loaddata
"""

from __future__ import annotations

import csv
import io
import logging
import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vae_sci.config import PlateRow
from vae_sci.errors import InputError
from vae_sci.images.layouts import normalize_well, number_or_text
from vae_sci.images.remote import is_uri, read_remote

logger = logging.getLogger(__name__)

# Tables made from CellProfiler's database put Image_ before every name.
_FILE = re.compile(r"(?:Image_)?(FileName|PathName|URL|Frame|Series)_(.+)")
_ABOUT = re.compile(r"(?:Image_)?(?:Metadata_)?(Plate|Well|Site|Field)(?:_.+)?", re.IGNORECASE)
_SUFFIXES = (".tif", ".tiff", ".zarr")


@dataclass(frozen=True)
class Listed:
    """One image that the table lists; `page` is the plane within its file, None: all of it."""

    well: str
    site: str
    channel: str
    path: str
    page: int | None


def is_loaddata(images: str) -> bool:
    """Whether the column images of plates.tsv names a LoadData table."""
    return images.lower().endswith(".csv")


def read_loaddata(row: PlateRow) -> list[Listed]:
    """The images of a plate, in the order of the table; paths are relative to its folder.

    Of the table's rows those of the plate count (all, where there is no column Metadata_Plate).
    Without a column Metadata_Site the rows of a well are its sites 1, 2, … Images that are no
    TIFF or Zarr (illumination functions, .npy) are left out.
    Raises `InputError` naming the table and its line.
    """
    assert row.images is not None
    table = row.images
    try:
        stored = read_remote(table) if is_uri(table) else Path(table).read_bytes()
        lines = list(csv.reader(io.StringIO(stored.decode("utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            required="a LoadData table (CSV, UTF-8)",
            found=f"{table}: {error}",
            action="check the column images of plates.tsv",
        ) from None
    header = [row.columns.get(name.strip(), name.strip()) for name in lines[0]] if lines else []
    about: dict[str, int] = {}
    for position, name in enumerate(header):
        match = _ABOUT.fullmatch(name)
        if match:
            about.setdefault({"field": "site"}.get(match[1].lower(), match[1].lower()), position)
    files: dict[str, dict[str, int]] = {}
    for position, name in enumerate(header):
        match = _FILE.fullmatch(name)
        if match:
            files.setdefault(match[2], {})[match[1]] = position
    channels = {name: parts for name, parts in files.items() if {"FileName", "URL"} & set(parts)}
    if "well" not in about or not channels:
        raise InputError(
            required="columns Metadata_Well, and a channel FileName_… (with PathName_…) or URL_…",
            found=f"{', '.join(header[:12])}{' …' if len(header) > 12 else ''} in {table}",
            action="rename columns in plates.tsv, columns: old:Metadata_Well, or add them",
        )
    listed: list[Listed] = []
    rows_of_well: Counter[str] = Counter()
    left_out: set[str] = set()
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) < len(header):
            raise InputError(
                required=f"{len(header)} values a row, as in the header",
                found=f"{len(cells)} in line {number} of {table}",
                action="complete the row, or remove it",
            )
        told = {key: cells[position].strip() for key, position in about.items()}
        if told.get("plate", row.plate) != row.plate:
            continue
        try:
            well = normalize_well(told["well"])
        except ValueError as error:
            raise InputError(
                required="a well such as B02 in every row",
                found=f"{error}, line {number} of {table}",
                action="correct the name of the well",
            ) from None
        rows_of_well[well] += 1
        site = number_or_text(told.get("site") or str(rows_of_well[well]))
        for channel, parts in channels.items():
            path = _path(table, {key: cells[at].strip() for key, at in parts.items()})
            if path is None:
                raise InputError(
                    required=f"a file name for channel {channel}",
                    found=f"none in line {number} of {table}",
                    action="complete the row, or remove it",
                )
            if not path.lower().endswith(_SUFFIXES):
                left_out.add(channel)
                continue
            frame = cells[parts["Frame"]].strip() if "Frame" in parts else ""
            if "Series" in parts and cells[parts["Series"]].strip() not in ("", "0"):
                raise InputError(
                    required="one image a file: series 0",
                    found=f"series {cells[parts['Series']].strip()}, line {number} of {table}",
                    action="export every field to a file of its own",
                )
            page = int(frame) if frame.isdigit() else None
            listed.append(Listed(well, site, number_or_text(channel), path, page))
    if left_out:
        logger.warning("%s: left out, no images: %s", table, ", ".join(sorted(left_out)))
    if not listed:
        raise InputError(
            required=f"images of plate '{row.plate}'",
            found=f"none in {table}",
            action="name the plate as the table does, or correct the table",
        )
    return listed


def _path(table: str, told: dict[str, str]) -> str | None:
    """Where an image is; None where the row does not tell."""
    folder = posixpath.dirname(table)
    if told.get("FileName"):
        inside = told.get("PathName", "").replace("\\", "/")
        if is_uri(inside):
            return f"{inside.rstrip('/')}/{told['FileName']}"
        return _join(folder, str(PurePosixPath(inside, told["FileName"])))
    url = told.get("URL", "")
    if url.startswith("file:"):
        return _join(folder, re.sub(r"^file:(//)?", "", url))
    return url or None


def _join(folder: str, inside: str) -> str:
    return posixpath.join(folder, inside) if is_uri(folder) else str(Path(folder, inside))
