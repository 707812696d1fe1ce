"""The index of a plate: which files show which well, site and channel, and how good they are."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.config import ImagesSettings, PlateRow
from vae_sci.contracts import FIELDS
from vae_sci.errors import InputError, StorageError
from vae_sci.images.layouts import Layout, Name, number_or_text
from vae_sci.images.platemap import need_wells, read_platemap
from vae_sci.images.quality import camera_ceiling, focus
from vae_sci.images.read import read_planes
from vae_sci.images.watch import image_files

logger = logging.getLogger(__name__)


def index_plate(
    row: PlateRow,
    settings: ImagesSettings,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the table of fields (`contracts.FIELDS`) of one plate to `out`.

    Reads every image once. For kind `tiles` the table has no row. `progress` is called with
    (fields done, fields in all). Raises `InputError` for a platemap that cannot be used, for a well
    that is imaged but not in the platemap, and, unless `settings.broken_fields` is "drop", for a
    field that cannot be used.
    """
    platemap = read_platemap(row)
    names = [column.name for column in FIELDS.columns]
    if row.kind == "tiles":
        FIELDS.write(pd.DataFrame(columns=names), out)
        return
    fields = find_fields(row)
    need_wells(row, (well for well, _ in fields), platemap)
    ids = _most_common(tuple(sorted(files, key=str)) for files in fields.values())
    indexed: list[list[dict[str, Any]]] = []
    for done, ((well, site), files) in enumerate(fields.items(), start=1):
        with _droppable(row, well, site, files, settings, indexed):
            if not settings.channels:
                _need_alike("channels", ids, tuple(sorted(files, key=str)), well, site)
            indexed.append(_index_field(row.plate, well, site, files, settings))
        if progress is not None:
            progress(done, len(fields))
    kinds = {"channels": "channel", "type of grey levels": "dtype"}
    readable = [field for field in indexed if field[0]["verdict"] != "broken"]
    common = {
        kind: _most_common(tuple(record[key] for record in field) for field in readable)
        for kind, key in kinds.items()
    }
    records: list[list[dict[str, Any]]] = []
    for field in indexed:
        well, site = field[0]["well"], field[0]["site"]
        with _droppable(row, well, site, fields[well, site], settings, records):
            if field[0]["verdict"] != "broken":
                for kind, key in kinds.items():
                    seen = tuple(record[key] for record in field)
                    _need_alike(kind, common[kind], seen, well, site)
            records.append(field)
    FIELDS.write(pd.DataFrame([r for field in records for r in field], columns=names), out)


def _most_common(values: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """What most fields of the plate have; () where there are none."""
    counted = Counter(values).most_common(1)
    return counted[0][0] if counted else ()


def _need_alike(
    what: str, common: tuple[Any, ...], seen: tuple[Any, ...], well: str, site: str
) -> None:
    """Raise `InputError` unless a field has what most of its plate's fields have."""
    if seen != common:
        expected, found = (", ".join(map(str, dict.fromkeys(v))) for v in (common, seen))
        raise InputError(
            required=f"the same {what} in every field of a plate, here {expected}",
            found=f"{found} in well {well}, site {site}",
            action="complete the images or export them alike, leave this field out (images: "
            "broken_fields: drop), or name the channels wanted in images: channels",
        )


@contextmanager
def _droppable(
    row: PlateRow,
    well: str,
    site: str,
    files: dict[str | None, Path],
    settings: ImagesSettings,
    fields: list[list[dict[str, Any]]],
) -> Iterator[None]:
    """An `InputError` in the block is the run's, or where the settings say so the field's: it is
    then added to `fields` as broken, with its files, the reason and no figures."""
    try:
        yield
    except InputError as error:
        if settings.broken_fields == "error":
            raise
        logger.warning("%s: field left out\n%s", row.plate, error)
        wanted = {number_or_text(key): name for key, name in settings.channels.items()}
        records = []
        for index, (channel, path) in enumerate(files.items()):
            stat = path.lstat()
            records.append(
                {
                    "plate": row.plate,
                    "well": well,
                    "site": site,
                    "channel": wanted.get(channel or "", channel or "all"),
                    "channel_index": index,
                    "path": str(path),
                    "page": 0,
                    "bytes": stat.st_size,
                    "mtime": stat.st_mtime,
                    "height": 0,
                    "width": 0,
                    "verdict": "broken",
                    "reason": error.found,
                }
            )
        fields.append(records)


def find_fields(row: PlateRow) -> dict[tuple[str, str], dict[str | None, Path]]:
    """(well, site) → channel id → file, in order of well and site; reads names alone.

    The channel id is None where one file holds all channels. Where file names tell of several
    plates only those of `row.plate` count. Raises `InputError` where no file is left or two files
    claim one place.
    """
    assert row.images is not None
    paths = _list_images(row.images)
    layout = Layout(row.layout)
    named: list[tuple[Path, Name]] = []
    for path in paths:
        name = layout.parse(path.name)
        if name is not None:
            named.append((path, name))
    if not named:
        raise InputError(
            required=f"file names that fit the layout '{row.layout}': {layout.pattern}",
            found=f"none of {len(paths)} in {row.images}; for example {paths[0].name}",
            action="name another layout in plates.tsv, or write a regular expression with the "
            "groups well, site and channel",
        )
    if len(named) < len(paths):
        odd = next(path for path in paths if layout.parse(path.name) is None)
        logger.warning(
            "%s: %d of %d files do not fit the layout and are left out, for example %s",
            row.plate,
            len(paths) - len(named),
            len(paths),
            odd.name,
        )
    named = _of_this_plate(named, row)
    fields: dict[tuple[str, str], dict[str | None, Path]] = defaultdict(dict)
    for path, name in named:
        files = fields[name.well, name.site]
        if name.channel in files:
            raise InputError(
                required="one file per well, site and channel",
                found=f"{files[name.channel]} and {path} (well {name.well}, site {name.site}, "
                f"channel {name.channel})",
                action="leave one out; z planes are projected first, time points are plates apart",
            )
        files[name.channel] = path
    return dict(sorted(fields.items(), key=lambda item: (item[0][0], _natural(item[0][1]))))


def _list_images(images: str) -> list[Path]:
    try:
        paths = [Path(file) for file in image_files(images)]
    except OSError as error:
        raise StorageError(
            required=f"to read the folder {images}",
            found=f"{error.strerror}: {error.filename}",
            action="see to the disk, the network or the permissions, and run again",
        ) from None
    if not paths:
        raise InputError(
            required="image files (.tif, .tiff)",
            found=f"none at {images}",
            action="check the column images of plates.tsv: a folder, or a glob such as "
            "'raw/plate1/**/*.tif' for folders inside it",
        )
    return paths


def _of_this_plate(named: list[tuple[Path, Name]], row: PlateRow) -> list[tuple[Path, Name]]:
    """Only files whose name tells this plate, where names tell of several.

    Where all tell the same, it need not be the plate's own name: microscopes write the name of
    the experiment there.
    """
    plates = sorted({name.plate or "" for _, name in named})
    if len(plates) == 1:
        return named
    kept = [(path, name) for path, name in named if name.plate == row.plate]
    if not kept:
        raise InputError(
            required=f"images of plate '{row.plate}'",
            found=f"file names of {', '.join(plates[:8])} in {row.images}",
            action="name the plate as the files do, or give a glob that fits this plate alone",
        )
    return kept


def _natural(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdigit() else (1 << 62, text)


def channel_names(ids: list[str], settings: ImagesSettings, source: str) -> dict[str, str]:
    """Channel id → name, in the order of channels in a tile.

    ids : what the files offer. Raises `InputError` for a channel of the settings that is not
    among them.
    """
    if not settings.channels:
        return {channel: channel for channel in sorted(ids, key=_natural)}
    wanted = {number_or_text(key): name for key, name in settings.channels.items()}
    missing = [channel for channel in wanted if channel not in ids]
    if missing:
        raise InputError(
            required=f"channels {', '.join(wanted)} (images: channels)",
            found=f"channels {', '.join(sorted(ids, key=_natural))} in {source}",
            action="complete the images, leave this field out (images: broken_fields: drop), or "
            "correct images: channels",
        )
    return wanted


def _index_field(
    plate: str, well: str, site: str, files: dict[str | None, Path], settings: ImagesSettings
) -> list[dict[str, Any]]:
    source = f"well {well}, site {site}: {', '.join(str(p) for p in files.values())}"
    planes: dict[str, tuple[Path, int, NDArray[Any], float | None]] = {}
    for channel, path in files.items():
        if channel is not None and settings.channels:
            wanted = {number_or_text(key) for key in settings.channels}
            if channel not in wanted:
                continue
        image, size = read_planes(path)
        if channel is not None and len(image) > 1:
            raise InputError(
                required="one channel per file, as the file names tell",
                found=f"{len(image)} in {path}",
                action="use a layout without the group channel",
            )
        for page, plane in enumerate(image):
            planes[channel or str(page + 1)] = (path, page, plane, size)
    names = channel_names(list(planes), settings, source)
    shapes = {channel: planes[channel][2].shape for channel in names}
    if len(set(shapes.values())) > 1:
        raise InputError(
            required="channels of one size in every field",
            found="; ".join(f"{planes[c][0]}: {s[0]} × {s[1]}" for c, s in shapes.items()),
            action="export all channels with the same binning, or leave this field out "
            "(images: broken_fields: drop)",
        )
    empty = any(planes[channel][2].min() == planes[channel][2].max() for channel in names)
    records = []
    for index, (channel, name) in enumerate(names.items()):
        path, page, plane, size = planes[channel]
        stat = path.stat()
        records.append(
            {
                "plate": plate,
                "well": well,
                "site": site,
                "channel": name,
                "channel_index": index,
                "path": str(path),
                "page": page,
                "bytes": stat.st_size,
                "mtime": stat.st_mtime,
                "height": plane.shape[0],
                "width": plane.shape[1],
                "dtype": str(plane.dtype),
                "pixel_size_um": settings.pixel_size_um or size,
                **_quality(plane),
                "verdict": "empty" if empty else "ok",
                "reason": None,
            }
        )
    return records


def _quality(plane: NDArray[Any]) -> dict[str, float]:
    """median, p99, saturated and focus of one plane (H, W)."""
    counts = np.bincount(plane.ravel())
    below = np.cumsum(counts)
    ceiling = camera_ceiling(len(counts) - 1)
    return {
        "median": float(np.searchsorted(below, 0.5 * plane.size)),
        "p99": float(np.searchsorted(below, 0.99 * plane.size)),
        "saturated": counts[ceiling] / plane.size if ceiling is not None else 0.0,
        "focus": float(focus(plane[None])[0]),
    }
