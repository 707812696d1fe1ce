"""The index of a plate: which files show which well, site and channel, and how good they are."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.config import ImagesSettings, PlateRow
from vae_sci.contracts import FIELDS
from vae_sci.errors import InputError
from vae_sci.images.find import Source, channels_of, find_fields, natural
from vae_sci.images.layouts import number_or_text
from vae_sci.images.platemap import need_wells, read_platemap
from vae_sci.images.quality import camera_ceiling, focus
from vae_sci.images.read import is_zarr, read_planes

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
    fields = find_fields(row, settings)
    need_wells(row, (well for well, _ in fields), platemap)
    ids = _most_common(channels_of(files) for files in fields.values())
    indexed: list[list[dict[str, Any]]] = []
    for done, ((well, site), files) in enumerate(fields.items(), start=1):
        with _droppable(row, well, site, files, settings, indexed):
            if not settings.channels:
                _need_alike("channels", ids, channels_of(files), well, site)
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
    files: dict[str | None, Source],
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
        for index, (channel, source) in enumerate(files.items()):
            records.append(
                {
                    "plate": row.plate,
                    "well": well,
                    "site": site,
                    "channel": wanted.get(channel or "", channel or "all"),
                    "channel_index": index,
                    "page": 0,
                    **_record(source),
                    "height": 0,
                    "width": 0,
                    "verdict": "broken",
                    "reason": error.found,
                }
            )
        fields.append(records)


def channel_names(
    ids: list[str],
    settings: ImagesSettings,
    source: str,
    labels: dict[str, str] | None = None,
) -> dict[str, str]:
    """Channel id → name, in the order of channels in a tile.

    ids : what the files offer. labels : names in the image metadata → id. Raises `InputError` for
    a channel of the settings that is neither.
    """
    labels = labels or {}
    if not settings.channels:
        own = {channel: name for name, channel in labels.items()}
        return {channel: own.get(channel, channel) for channel in sorted(ids, key=natural)}
    wanted = {labels.get(key, number_or_text(key)): name for key, name in settings.channels.items()}
    missing = [channel for channel in wanted if channel not in ids]
    if missing:
        known = ", ".join([*sorted(ids, key=natural), *labels])
        raise InputError(
            required=f"channels {', '.join(settings.channels)} (images: channels)",
            found=f"channels {known} in {source}",
            action="complete the images, leave this field out (images: broken_fields: drop), or "
            "correct images: channels",
        )
    return wanted


def _index_field(
    plate: str, well: str, site: str, files: dict[str | None, Source], settings: ImagesSettings
) -> list[dict[str, Any]]:
    source = f"well {well}, site {site}: {', '.join(map(str, files.values()))}"
    wanted = {number_or_text(key) for key in settings.channels}
    planes: dict[str, tuple[Source, int, NDArray[Any], float | None]] = {}
    labels: dict[str, str] = {}
    for channel, file in files.items():
        if channel is not None and wanted and channel not in wanted:
            continue
        image, size, names = read_planes(file.paths, file.z, file.time, file.own)
        if channel is not None and file.page is None and len(image) > 1:
            raise InputError(
                required="one channel per file, as the file names tell",
                found=f"{len(image)} in {file}",
                action="use a layout without the group channel",
            )
        if file.page is not None and file.page >= len(image):
            raise InputError(
                required=f"plane {file.page} (counted from 0)",
                found=f"{len(image)} planes in {file}",
                action="correct the frames of the LoadData table",
            )
        if channel is not None:
            page = file.page or 0
            planes[channel] = (file, page, image[page], size)
        else:
            planes = {str(k + 1): (file, k, plane, size) for k, plane in enumerate(image)}
            labels = {name: str(k + 1) for k, name in enumerate(names)}
    chosen = channel_names(list(planes), settings, source, labels)
    shapes = {channel: planes[channel][2].shape for channel in chosen}
    if len(set(shapes.values())) > 1:
        raise InputError(
            required="channels of one size in every field",
            found="; ".join(f"{planes[c][0]}: {s[0]} × {s[1]}" for c, s in shapes.items()),
            action="export all channels with the same binning, or leave this field out "
            "(images: broken_fields: drop)",
        )
    empty = any(planes[channel][2].min() == planes[channel][2].max() for channel in chosen)
    records = []
    for index, (channel, name) in enumerate(chosen.items()):
        file, page, plane, size = planes[channel]
        records.append(
            {
                "plate": plate,
                "well": well,
                "site": site,
                "channel": name,
                "channel_index": index,
                "page": page,
                **_record(file),
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


def _record(file: Source) -> dict[str, Any]:
    """What the table of fields tells of the files themselves."""
    local = [Path(path).lstat() for path in file.paths if os.path.lexists(path)]
    whole = len(local) == len(file.paths) and not any(map(is_zarr, file.paths))
    return {
        "path": "\n".join(file.paths),
        "own": file.own,
        "z": None if file.z is None else str(file.z),
        "time": file.time,
        "bytes": sum(stat.st_size for stat in local) if whole else None,
        "mtime": max(stat.st_mtime for stat in local) if whole else None,
    }


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
