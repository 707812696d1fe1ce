"""OME-Zarr 0.4 and 0.5: an image as an `Image`, and the wells and fields of a plate.

Local folders, or URIs. https://ngff.openmicroscopy.org
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray
from obstore.exceptions import BaseError
from zarr.core.sync import sync
from zarr.storage import ObjectStore

from vae_sci.errors import InputError, StorageError, VaeSciError
from vae_sci.images.image import WHOLE, Sizes, Window, named
from vae_sci.images.remote import cause, is_uri, store_of, unreached
from vae_sci.images.tiff import LENGTHS, LIMIT, believable

# Seconds that a failure waits for what is under way beside it.
LONGEST_WAIT, LAST_WORD = 10.0, 0.1


class PlateField(NamedTuple):
    """A field of a plate: well as the metadata name it (row and column), name, and where it is."""

    well: str
    site: str
    path: str


@contextmanager
def reading_zarr(path: str) -> Iterator[None]:
    """Whatever cannot be read in the block raises `InputError` naming `path`.

    Raises `StorageError` where the data may be good and cannot be reached now.
    """
    try:
        yield
    except VaeSciError:
        raise
    except Exception as error:
        if is_uri(path):
            sync(_others_end())
        raise _told(path, error) from error


def _told(path: str, error: Exception) -> VaeSciError:
    """What a failure to read `path` is called."""
    if isinstance(error, (FileNotFoundError, KeyError)):
        return _no_image(path, f"no such image or part of it: {cause(error)}")
    if isinstance(error, BaseError):
        return unreached(path, error)
    if isinstance(error, OSError):
        return StorageError(
            required=f"to read {path}",
            found=f"{type(error).__name__}: {error}",
            action="see to the disk, the network or the permissions, and run again",
        )
    # Damaged metadata and chunks make zarr raise nearly anything.
    return _no_image(path, f"it cannot be decoded ({type(error).__name__}: {error})")


async def _others_end() -> None:
    """Wait for the requests that were under way beside one that failed.

    Zarr asks for several files at once and gives up at the first failure. An answer that comes
    when Python is ending aborts it: the error would be told, but the exit status be another.
    """
    own = asyncio.current_task()
    assert own is not None
    own.set_name(_others_end.__name__)  # two that fail at once do not wait for each other
    others = {t for t in asyncio.all_tasks() - {own} if t.get_name() != own.get_name()}
    if others:
        await asyncio.wait(others, timeout=LONGEST_WAIT)
    # The thread that brought the last answer needs Python's lock once more.
    await asyncio.sleep(LAST_WORD)


def _place(path: str) -> dict[str, Any]:
    """What zarr opens for `path`."""
    if not is_uri(path):
        return {"store": path}
    store, inside = store_of(path)
    return {"store": ObjectStore(store, read_only=True), "path": inside}


def _no_image(path: str, found: str) -> InputError:
    return InputError(
        required="an OME-Zarr image or plate (0.4 or 0.5) that can be read",
        found=f"{path}: {found}",
        action="check the path, and write the image again",
    )


def _metadata(group: zarr.Group) -> Mapping[str, Any]:
    """What OME-NGFF keeps: under `ome` since 0.5, at the top before."""
    attributes: dict[str, Any] = dict(group.attrs.asdict())
    return attributes.get("ome", attributes)


def check_array(path: str, array: zarr.Array) -> None:
    """Raise `InputError` where a plane or a chunk of the array is beyond `LIMIT`."""
    plane = math.prod(array.shape[-2:]) * array.dtype.itemsize
    chunk = math.prod(array.chunks) * array.dtype.itemsize
    if max(plane, chunk) > LIMIT:
        raise _no_image(
            path,
            f"it claims a shape of {array.shape} in chunks of {array.chunks}: more than "
            f"{LIMIT / 2**30:.0f} GiB at once",
        )


def read_array(path: str) -> NDArray[Any]:
    """A whole array of a Zarr store as it is. Raises `InputError` where it cannot be read."""
    with reading_zarr(path):
        array = zarr.open_array(**_place(path), mode="r")
        check_array(path, array)
        return np.asarray(array[...])


class ZarrImage:
    """An OME-Zarr image at full resolution. See `image.Image`."""

    def __init__(self, path: str) -> None:
        self.path = path
        group = zarr.open_group(**_place(path), mode="r")
        told = _metadata(group)
        if not told.get("multiscales"):
            kind = "a plate or well" if {"plate", "well"} & set(told) else "no image"
            raise _no_image(path, f"metadata of {kind}, without multiscales")
        scales = told["multiscales"][0]
        level = scales["datasets"][0]
        array = group[str(level["path"])]
        if not isinstance(array, zarr.Array):
            raise _no_image(path, f"{level['path']}, its first resolution, is no array")
        self._array = array
        check_array(path, array)
        axes = scales.get("axes", "tczyx"[-array.ndim :])
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
        self._axes = "".join(axis["name"] for axis in axes)
        if len(self._axes) != array.ndim or not set(self._axes) <= set("tczyx"):
            raise _no_image(path, f"axes {self._axes} of an array of shape {array.shape}")
        if {"y", "x"} - set(self._axes):
            raise _no_image(path, f"axes {self._axes}, without y and x")
        self.dtype: np.dtype[Any] = array.dtype
        length = dict(zip(self._axes, array.shape, strict=True))
        self.sizes = Sizes(*(length.get(axis, 1) for axis in "tczyx"))
        labels = [channel.get("label") for channel in told.get("omero", {}).get("channels", [])]
        self.channel_names = named(labels) if len(labels) == self.sizes.channels else ()
        x = self._axes.index("x")
        scale = _scale(level, x) * _scale(scales, x)
        self.pixel_size_um = believable(iter([scale * LENGTHS.get(axes[x].get("unit"), math.nan)]))

    def plane(self, time: int, channel: int, depth: int, window: Window = WHOLE) -> NDArray[Any]:
        """Grey levels (H, W) of one plane, or of a window of it."""
        at: dict[str, Any] = {"t": time, "c": channel, "z": depth, "y": window[0], "x": window[1]}
        plane = np.asarray(self._array[tuple(at[axis] for axis in self._axes)])
        return plane if self._axes.index("y") < self._axes.index("x") else plane.T


def _scale(told: Mapping[str, Any], axis: int) -> float:
    for transformation in told.get("coordinateTransformations", []):
        if transformation.get("type") == "scale":
            return float(transformation["scale"][axis])
    return 1.0


def plate_fields(path: str) -> list[PlateField] | None:
    """The fields of a plate, as its metadata list them; None where `path` is an image.

    Raises `InputError` where it is neither, or a well's metadata list no field.
    """
    with reading_zarr(path):
        group = zarr.open_group(**_place(path), mode="r")
        told = _metadata(group)
        if "plate" not in told:
            if told.get("multiscales"):
                return None
            raise InputError(
                required="an OME-Zarr plate or image: metadata `plate` or `multiscales`",
                found=f"{path}: a Zarr group with {', '.join(sorted(told)) or 'no metadata'}",
                action="name the group that holds the plate in the column images of plates.tsv",
            )
        rows = [row["name"] for row in told["plate"]["rows"]]
        columns = [column["name"] for column in told["plate"]["columns"]]
        fields = []
        for well in told["plate"]["wells"]:
            where = str(well["path"])
            name = (
                str(rows[well["rowIndex"]]) + str(columns[well["columnIndex"]])
                if {"rowIndex", "columnIndex"} <= set(well)
                else where.replace("/", "")
            )
            inside = group[where]
            if not isinstance(inside, zarr.Group):
                raise _no_image(path, f"well {where} is no group")
            listed = _metadata(inside).get("well", {}).get("images", [])
            if len({image.get("acquisition") for image in listed}) > 1:
                raise InputError(
                    required="one acquisition per plate",
                    found=f"several in well {where} of {path}",
                    action="save every acquisition as a plate of its own",
                )
            # Writers forget a well's metadata: its groups are then its fields.
            sites = [str(image["path"]) for image in listed] or sorted(inside.group_keys())
            if not sites:
                raise _no_image(path, f"well {where}: no field")
            fields += [
                PlateField(name, site, f"{path.rstrip('/')}/{where}/{site}") for site in sites
            ]
        return fields
