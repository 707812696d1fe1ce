"""Reading TIFF files: grey levels unchanged, pixel size where the file can be trusted."""

from __future__ import annotations

import errno
import math
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray

from vae_sci.errors import ContractError, InputError, StorageError

_UM = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "\\u00b5m": 1.0}
_LENGTHS = {**_UM, "nm": 1e-3, "mm": 1e3}
PLAUSIBLE_UM = (0.01, 20.0)  # a pixel of a light microscope; 72 dpi would be 353 µm


@contextmanager
def open_tiff(path: str | Path) -> Iterator[tifffile.TiffFile]:
    """The open file. Whatever cannot be decoded inside raises `InputError` naming it.

    Raises `StorageError` where the file may be good and the machine cannot read it now.
    """
    try:
        with tifffile.TiffFile(path) as tif:
            yield tif
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damaged files make tifffile and its codecs raise nearly anything
        number = error.errno if isinstance(error, OSError) else None
        if number not in (None, errno.ENOENT, errno.EINVAL):
            raise StorageError(
                required=f"to read {path}",
                found=os.strerror(number),
                action="see to the disk, the network or the permissions, and run again",
            ) from error
        size = Path(path).stat().st_size if Path(path).exists() else None
        found = "no such file" if size is None else f"{size} bytes; {error}"
        raise InputError(
            required="a TIFF file that can be read",
            found=f"{path}: {found}",
            action="copy or export the file again; if it opens elsewhere, save it uncompressed",
        ) from error


def check_counts(path: str | Path, series: tifffile.TiffPageSeries) -> None:
    """Raise `InputError` unless `series` holds whole uint8 or uint16 grey levels."""
    if series.dtype not in (np.uint8, np.uint16):
        raise InputError(
            required="raw counts, uint8 or uint16 (others are not supported yet)",
            found=f"{series.dtype} in {path}",
            action="use the camera's own images; images already scaled have lost their noise model",
        )
    if series.keyframe.photometric in (
        tifffile.PHOTOMETRIC.MINISWHITE,
        tifffile.PHOTOMETRIC.PALETTE,
    ):
        raise InputError(
            required="grey levels that rise with light",
            found=f"{tifffile.PHOTOMETRIC(series.keyframe.photometric).name} in {path}",
            action="export the image as greyscale, black is zero",
        )
    size = Path(path).stat().st_size
    for page in series.pages:
        if page is not None and any(
            offset + count > size
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        ):
            raise InputError(
                required="a whole TIFF file",
                found=f"{path} is truncated: {size} bytes",
                action="copy or export the file again",
            )


def pixel_size(tif: tifffile.TiffFile) -> float | None:
    """µm per pixel from OME, ImageJ, MetaMorph or resolution tags; None where none is believable.

    Resolution tags are often filled with a printer's 72 or 96 dpi: they count only where they
    give a size that a light microscope can have.
    """
    low, high = PLAUSIBLE_UM
    for size in _declared_sizes(tif):
        if size is not None and low <= size <= high:
            return float(size)
    return None


def _declared_sizes(tif: tifffile.TiffFile) -> Iterator[float | None]:
    if tif.is_ome and tif.ome_metadata:
        for element in ElementTree.fromstring(tif.ome_metadata).iter():
            if element.tag.endswith("}Pixels") and "PhysicalSizeX" in element.attrib:
                unit = element.attrib.get("PhysicalSizeXUnit", "µm")
                if unit in _LENGTHS:
                    yield float(element.attrib["PhysicalSizeX"]) * _LENGTHS[unit]
    if tif.is_stk:
        stk: dict[str, Any] = tif.stk_metadata or {}
        if stk.get("CalibrationUnits") in _LENGTHS:
            yield stk.get("XCalibration", 0.0) * _LENGTHS[stk["CalibrationUnits"]]
    if tif.is_metaseries:
        plane = (tif.metaseries_metadata or {}).get("PlaneInfo", {})
        if plane.get("spatial-calibration-units") in _LENGTHS:
            scale = _LENGTHS[plane["spatial-calibration-units"]]
            yield float(plane.get("spatial-calibration-x", 0.0)) * scale
    tags = tif.pages.first.tags
    if "XResolution" not in tags:
        return
    above, below = tags["XResolution"].value
    per_unit = above / below if below else 0.0
    if per_unit <= 0:
        return
    if tif.is_imagej:
        unit_name = (tif.imagej_metadata or {}).get("unit", "")
        if unit_name in _LENGTHS:
            yield _LENGTHS[unit_name] / per_unit
        return
    unit_tag = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 2
    yield {3: 1e4, 2: 25_400.0}.get(int(unit_tag), 0.0) / per_unit


def read_planes(path: str | Path) -> tuple[NDArray[Any], float | None]:
    """All channels of one field, (C, H, W) uint8 or uint16, unchanged; and µm per pixel or None.

    A file of one plane gives C = 1. Raises `InputError` for a file that cannot be read, for z
    stacks and time series, and for pixels that are not uint8 or uint16.
    """
    with open_tiff(path) as tif:
        series = tif.series[0]
        check_counts(path, series)
        axes, shape = series.axes, series.shape
        other = [i for i, axis in enumerate(axes) if axis not in "YX"]
        long = [i for i in other if shape[i] > 1]
        if len(long) > 1 or any(axes[i] in "TZ" for i in long) or not {"Y", "X"} <= set(axes):
            raise InputError(
                required="one plane per channel: YX, or channels with YX",
                found=f"axes {axes} of shape {tuple(shape)} in {path}",
                action="project z stacks and export time points apart",
            )
        image = series.asarray()
        keep = long[0] if long else None
        order = [keep] if keep is not None else []
        drop = tuple(i for i in other if i != keep)
        image = image.transpose(*drop, *order, axes.index("Y"), axes.index("X"))
        return image.reshape(-1, *image.shape[-2:]), pixel_size(tif)


def read_field(rows: pd.DataFrame) -> NDArray[Any]:
    """The field (C, H, W) that `rows` of the table of fields tell of, one row per channel.

    Raises `ContractError` where a file is no longer what was indexed.
    """
    records: list[dict[str, Any]] = rows.sort_values("channel_index").to_dict("records")  # type: ignore[assignment]
    files = {path: read_planes(path)[0] for path in rows["path"].unique()}
    planes = []
    for record in records:
        here, page = files[record["path"]], record["page"]
        expected = (record["height"], record["width"], record["dtype"])
        if page >= len(here) or expected != (*here.shape[1:], str(here.dtype)):
            raise ContractError(
                required=f"{record['path']} as it was indexed: {expected}",
                found=f"{len(here)} planes of {here.shape[1:]}, {here.dtype}",
                action="the file changed in between: run again, so that it is indexed anew",
            )
        planes.append(here[page])
    return np.stack(planes)


def read_frames(path: str | Path, repeated: bool = False) -> NDArray[Any]:
    """All planes of a file, (T, C, H, W) uint8 or uint16, unchanged.

    Axes called channels or samples in the file are C, times and depths T. Axes without a name are
    T where frames are `repeated`, else C. Raises `InputError` as `read_planes`.
    """
    with open_tiff(path) as tif:
        series = tif.series[0]
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
