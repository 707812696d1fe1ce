"""Reading images: any format behind one door, grey levels unchanged, depths as the settings say."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.errors import ContractError, InputError
from vae_sci.images.image import WHOLE, Image, Window
from vae_sci.images.omezarr import ZarrImage, reading_zarr
from vae_sci.images.remote import is_uri, open_remote
from vae_sci.images.tiff import check_counts, first_series, open_tiff
from vae_sci.images.tiff_image import TiffImage

Depth = str | int | None  # max, mean, the number of a plane from 1, or only where there is one


def is_zarr(path: str | Path) -> bool:
    """Whether `path` names (a part of) a Zarr store, not a TIFF file."""
    inside = any(part.endswith(".zarr") for part in PurePath(path).parts)
    return inside or os.path.isdir(path)


@contextmanager
def open_image(path: str | Path, own: bool = False) -> Iterator[Image]:
    """The image at a path or URI, TIFF or OME-Zarr, open for reading.

    own : of an OME-TIFF in several files, only the planes in this one.
    Raises `InputError` naming the file where it cannot be read, here and in the block.
    """
    name = str(path)
    with ExitStack() as stack:
        if is_zarr(name):
            stack.enter_context(reading_zarr(name))
            yield ZarrImage(name)
        else:
            stream = stack.enter_context(open_remote(name)) if is_uri(name) else None
            yield TiffImage(name, stack.enter_context(open_tiff(name, stream)), own)


def read_plane(
    images: Sequence[Image],
    channel: int,
    z: Depth = None,
    time: int | None = None,
    window: Window = WHOLE,
) -> NDArray[Any]:
    """One channel (H, W) of an image, or a window of it, as uint8 or uint16.

    images : files that hold its depths, in order.
    z : the depths' `max` or `mean` (rounded), or the number of one of them, from 1; None where
    there is one. time : number of a time point, from 1; None where there is one.
    Raises `InputError` where there are several and none is chosen, where the chosen one is not
    there, and for grey levels that are no counts.
    """
    times = images[0].sizes.times
    if (time or 1) > times or (time is None and times > 1):
        raise _choose("time", "time point", times, images, time)
    places = [(image, depth) for image in images for depth in range(image.sizes.depths)]
    if z is None and len(places) > 1:
        raise _choose("z", "depth", len(places), images, None)
    if isinstance(z, int):
        if z > len(places):
            raise _choose("z", "depth", len(places), images, z)
        places = [places[z - 1]]
    planes = (
        _counts(image.plane((time or 1) - 1, channel, depth, window), image.path)
        for image, depth in places
    )
    result = next(planes)
    if z == "mean" and len(places) > 1:
        total = result.astype(np.uint64)
        for plane in planes:
            total += plane
        return np.rint(total / len(places)).astype(result.dtype)
    for plane in planes:
        result = np.maximum(result, plane)
    return result


def _choose(
    key: str, what: str, count: int, images: Sequence[Image], asked: int | None
) -> InputError:
    choice = "max, mean, or the number of a plane" if key == "z" else "the number of a time point"
    several = f"{count} {what}s" if count > 1 else f"one {what}"
    return InputError(
        required=f"one {what} per field, or which of them to take (images: {key})",
        found=f"{several} in {images[0].path}"
        + (f"; number {asked} is asked for" if asked else ""),
        action=f"set images: {key} to {choice}; other time points are plates apart"
        if key == "time"
        else f"set images: {key} to {choice}",
    )


def _counts(plane: NDArray[Any], path: str) -> NDArray[Any]:
    """`plane` as uint8 or uint16, each grey level as it was; `InputError` where it is none."""
    if plane.dtype in (np.uint8, np.uint16):
        return plane
    found = None
    if plane.dtype.kind not in "iu":
        found = f"{plane.dtype}"
    elif plane.size and (plane.min() < 0 or plane.max() > 65535):
        found = f"{plane.dtype} from {plane.min()} to {plane.max()}"
    if found:
        raise InputError(
            required="raw counts: whole numbers from 0 to 65535",
            found=f"{found} in {path}",
            action="use the camera's own images; images already scaled have lost their noise model",
        )
    return plane.astype(np.uint16)


class Planes(NamedTuple):
    """Channels (C, H, W) uint8 or uint16 of a field, and what metadata tell of them."""

    counts: NDArray[Any]
    pixel_size_um: float | None
    channel_names: tuple[str, ...]


def read_planes(
    path: str | Path | Sequence[str | Path],
    z: Depth = None,
    time: int | None = None,
    own: bool = False,
) -> Planes:
    """All channels of one field, grey levels unchanged but for a projection of depths.

    path : a file, or those that hold its depths, in order; `z`, `time`: as for `read_plane`;
    `own`: as for `open_image`. A file of one plane gives C = 1. Raises `InputError` for a file
    that cannot be read or used.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    with ExitStack() as stack:
        images = [stack.enter_context(open_image(one, own or len(paths) > 1)) for one in paths]
        first = images[0]
        for other in images[1:]:
            if other.sizes._replace(depths=0) != first.sizes._replace(depths=0):
                raise InputError(
                    required="depths of one size, with the same channels",
                    found=f"{first.path}: {first.sizes}; {other.path}: {other.sizes}",
                    action="export all depths alike",
                )
        planes = [read_plane(images, c, z, time) for c in range(first.sizes.channels)]
        return Planes(np.stack(planes), first.pixel_size_um, first.channel_names)


def read_field(rows: pd.DataFrame) -> NDArray[Any]:
    """The field (C, H, W) that `rows` of the table of fields tell of, one row per channel.

    Raises `ContractError` where a file is no longer what was indexed.
    """
    # By columns, and sorted only where need be: pandas is slow on a few rows at a time.
    if not rows["channel_index"].is_monotonic_increasing:
        rows = rows.sort_values("channel_index")
    names = ("path", "page", "height", "width", "dtype", "z", "time", "own")
    files: dict[str, NDArray[Any]] = {}
    planes = []
    for path, page, height, width, dtype, z, time, own in zip(
        *(rows[name].tolist() for name in names), strict=True
    ):
        if path not in files:
            files[path] = read_planes(path.splitlines(), *_choice(z, time), bool(own)).counts
        here = files[path]
        expected = (height, width, dtype)
        if page >= len(here) or expected != (*here.shape[1:], str(here.dtype)):
            raise ContractError(
                required=f"{path} as it was indexed: {expected}",
                found=f"{len(here)} planes of {here.shape[1:]}, {here.dtype}",
                action="the file changed in between: run again, so that it is indexed anew",
            )
        planes.append(here[page])
    return np.stack(planes)


def _choice(z: Any, time: Any) -> tuple[Depth, int | None]:
    """z and time, as `read_planes` takes them, from a row of the table of fields."""
    depth: Depth = None if pd.isna(z) else int(z) if str(z).isdigit() else str(z)
    return depth, None if pd.isna(time) else int(time)


def read_frames(path: str | Path, repeated: bool = False) -> NDArray[Any]:
    """All planes of a file, (T, C, H, W) uint8 or uint16, unchanged.

    Axes called channels or samples in the file are C, times and depths T. Axes without a name are
    T where frames are `repeated`, else C. Raises `InputError` as `read_planes`.
    """
    with open_tiff(path) as tif:
        series = first_series(path, tif)
        check_counts(path, series)
        axes, shape = series.axes, series.shape
        if not {"Y", "X"} <= set(axes):
            raise InputError(
                required="images with axes Y and X",
                found=f"axes {axes} of shape {tuple(shape)} in {path}",
                action="export the images as planes",
            )
        named = "CS" if repeated else "CSQI"
        channels = [i for i, axis in enumerate(axes) if axis in named]
        times = [i for i, axis in enumerate(axes) if axis not in named + "YX"]
        order = (*times, *channels, axes.index("Y"), axes.index("X"))
        count = math.prod(shape[i] for i in channels)
        stack = series.asarray().transpose(order)
        return stack.reshape(-1, count, *stack.shape[-2:])
