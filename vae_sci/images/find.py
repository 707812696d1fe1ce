"""Which files show which field of a plate: told by their names, by the metadata of an OME-Zarr
plate, or by a LoadData table. No pixel is read."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vae_sci.config import ImagesSettings, PlateRow
from vae_sci.errors import InputError, StorageError
from vae_sci.images.layouts import Layout, Name, normalize_well, number_or_text
from vae_sci.images.loaddata import is_loaddata, read_loaddata
from vae_sci.images.omezarr import PlateField, plate_fields
from vae_sci.images.read import Depth
from vae_sci.images.remote import is_uri, list_remote
from vae_sci.images.watch import image_files, is_image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a channel of a field is, or all its channels, and what to read of it.

    paths : one file, or those of its depths, in order.
    page : the channel's position in the file, from 0; None: the file holds this channel alone,
    or all channels. z, time, own : as for `read.read_planes`.
    """

    paths: tuple[str, ...]
    page: int | None = None
    z: Depth = None
    time: int | None = None
    own: bool = False

    def __str__(self) -> str:
        more = len(self.paths) - 1
        return self.paths[0] + (f" and {more} more depths" if more else "")


# (well, site) → channel id → where it is. The id is None where one file holds all channels.
Fields = dict[tuple[str, str], dict[str | None, Source]]


def find_fields(row: PlateRow, settings: ImagesSettings) -> Fields:
    """The fields of a plate, in order of well and site.

    Where file names or a table tell of several plates only those of `row.plate` count. Raises
    `InputError` where no image is left, two claim one place, or there are several depths or times
    and the settings choose none.
    """
    assert row.images is not None
    if is_loaddata(row.images):
        fields = _by_table(row, settings)
    else:
        plate = plate_fields(row.images) if _is_store(row.images) else None
        fields = _by_name(row, settings) if plate is None else _by_metadata(plate, settings)
    return dict(sorted(fields.items(), key=lambda item: (item[0][0], natural(item[0][1]))))


def natural(text: str) -> tuple[int, str]:
    """Sorts numbers by value, before other text."""
    return (int(text), "") if text.isdigit() else (1 << 62, text)


def _is_store(images: str) -> bool:
    return images.rstrip("/").endswith(".zarr") and not set("*?[") & set(images)


def _well(name: str, path: str) -> str:
    try:
        return normalize_well(name)
    except ValueError as error:
        raise InputError(
            required="wells such as B/02 in the metadata of the plate",
            found=f"{error}: {path}",
            action="name rows by letters and columns by numbers",
        ) from None


def _by_metadata(plate: list[PlateField], settings: ImagesSettings) -> Fields:
    fields: Fields = {}
    for name, site, path in plate:
        place = _well(name, path), number_or_text(site)
        if place in fields:
            raise _twice(fields[place][None], path, *place, None)
        fields[place] = {None: Source((path,), z=settings.z, time=settings.time)}
    return fields


def _by_table(row: PlateRow, settings: ImagesSettings) -> Fields:
    fields: Fields = defaultdict(dict)
    for image in read_loaddata(row):
        files = fields[image.well, image.site]
        if image.channel in files:
            raise _twice(files[image.channel], image.path, image.well, image.site, image.channel)
        files[image.channel] = Source(
            (image.path,), image.page, settings.z, settings.time, own=image.page is None
        )
    return fields


def _by_name(row: PlateRow, settings: ImagesSettings) -> Fields:
    assert row.images is not None
    paths = _list_images(row.images)
    layout = Layout(row.layout)
    named = [(path, name) for path in paths if (name := layout.parse(path)) is not None]
    if not named:
        fits, rest = layout.nearest(paths[0])
        raise InputError(
            required=f"file names that fit the layout '{row.layout}': {layout.pattern}",
            found=f"none of {len(paths)} in {row.images}; for example "
            f"{paths[0].rsplit('/', 1)[-1]}, which fits as far as '{fits}', not {rest}",
            action="name another layout in plates.tsv, or write a regular expression with the "
            "groups well, site and channel; `vae-sci index --explain FILE` shows how it is read",
        )
    if len(named) < len(paths):
        fitting = {path for path, _ in named}
        logger.warning(
            "%s: %d of %d files do not fit the layout and are left out, for example %s",
            row.plate,
            len(paths) - len(named),
            len(paths),
            next(path for path in paths if path not in fitting).rsplit("/", 1)[-1],
        )
    named = _of_this_plate(named, row)
    named = _of_one(named, "time", settings.time)
    if not isinstance(settings.z, str):
        named = _of_one(named, "z", settings.z)
    depths: dict[tuple[str, str, str | None], dict[str | None, str]] = defaultdict(dict)
    for path, name in named:
        files = depths[name.well, name.site, name.channel]
        if name.z in files:
            raise _twice(files[name.z], path, name.well, name.site, name.channel)
        files[name.z] = path
    fields: Fields = defaultdict(dict)
    for (well, site, channel), files in depths.items():
        told = sorted(files, key=lambda z: natural(z or ""))
        # A number in the name has chosen among files: none is left to choose within one.
        number = isinstance(settings.z, int) and told != [None]
        time_told = any(name.time is not None for _, name in named)
        fields[well, site][channel] = Source(
            tuple(files[z] for z in told),
            z=None if number else settings.z,
            time=None if time_told else settings.time,
            own=channel is not None or told != [None],
        )
    return fields


def _of_one(named: list[tuple[str, Name]], key: str, chosen: int | None) -> list[tuple[str, Name]]:
    """Only files of the chosen depth or time, where names tell of several."""
    read: Callable[[Name], str | None] = lambda name: getattr(name, key)  # noqa: E731
    told = sorted({number for _, name in named if (number := read(name)) is not None}, key=natural)
    if not told or (len(told) == 1 and chosen is None):
        return named
    kept = [(path, name) for path, name in named if read(name) == str(chosen)]
    if not kept:
        what = {"z": "depth", "time": "time point"}[key]
        example = next(path for path, name in named if read(name) == told[-1])
        raise InputError(
            required=f"one {what} per field, or which of them to take (images: {key})",
            found=f"{what}s {', '.join(told[:8])}{' …' if len(told) > 8 else ''} in file names, "
            f"for example {example}"
            + (f"; images: {key} is {chosen}" if chosen is not None else ""),
            action=f"set images: {key} to one of them"
            + (", or to max or mean" if key == "z" else "; other time points are plates apart"),
        )
    return kept


def _twice(
    first: Source | str, second: str, well: str, site: str, channel: str | None
) -> InputError:
    return InputError(
        required="one file per well, site and channel",
        found=f"{first} and {second} (well {well}, site {site}, channel {channel})",
        action="leave one out, or tell depths and times by the groups z and time of the layout",
    )


def _list_images(images: str) -> list[str]:
    if is_uri(images):
        magic = set("*?[") & set(images)
        paths = [images] if is_image(images) and not magic else list_remote(images)
        paths = [path for path in paths if is_image(path)]
    else:
        try:
            paths = [str(Path(file)) for file in image_files(images)]
        except OSError as error:
            raise StorageError(
                required=f"to read the folder {images}",
                found=f"{error.strerror}: {error.filename}",
                action="see to the disk, the network or the permissions, and run again",
            ) from None
    if not paths:
        raise InputError(
            required="image files (.tif, .tiff, .zarr)",
            found=f"none at {images}",
            action="check the column images of plates.tsv: a folder, or a glob such as "
            "'raw/plate1/**/*.tif' for folders inside it",
        )
    return paths


def _of_this_plate(named: list[tuple[str, Name]], row: PlateRow) -> list[tuple[str, Name]]:
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


def channels_of(files: Iterable[str | None]) -> tuple[str | None, ...]:
    """Channel ids of a field, in order."""
    return tuple(sorted(files, key=str))
