"""TIFF files: what they claim is checked against what they hold before a pixel is decoded.

A header can claim any size in a few bytes. Memory is asked for only where the claim is within
`LIMIT` and within what the stored bytes can unpack to.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC

from vae_sci.errors import InputError, StorageError

# It logs a line for every damaged tag and for missing data; both are errors here.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

LIMIT = 1 << 32  # bytes of one plane: 46,000 × 46,000 pixels of 16 bits
MOST_PLANES = 1_000_000  # of one image, over channels, depths and times
# Bytes that a stored byte can stand for, rounded up: runs of 128 in two bytes (PackBits), strings
# that grow by one per code of at most 12 bits (LZW), 258 in two bits (Deflate), blocks of 128 KiB
# in four bytes (Zstandard). Transform and fax codes have no bound below the size that they write.
MOST_UNPACKED = {
    COMPRESSION.NONE: 1,
    COMPRESSION.PACKBITS: 64,
    COMPRESSION.LZW: 1400,
    COMPRESSION.DEFLATE: 1032,
    COMPRESSION.ADOBE_DEFLATE: 1032,
    COMPRESSION.ZSTD: 1 << 15,
    COMPRESSION.LZMA: 8192,
}
_UM = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "\\u00b5m": 1.0}
LENGTHS = {**_UM, "micrometer": 1.0, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3}
PLAUSIBLE_UM = (0.01, 20.0)  # a pixel of a light microscope; 72 dpi would be 353 µm


@contextmanager
def open_tiff(path: str | Path, stream: BinaryIO | None = None) -> Iterator[tifffile.TiffFile]:
    """The open file. Whatever cannot be decoded inside raises `InputError` naming it.

    stream : where the bytes come from, if not from the file `path`.
    Raises `StorageError` where the file may be good and the machine cannot read it now.
    """
    part = "its header or first image directory is damaged"
    try:
        with tifffile.TiffFile(stream or path) as tif:
            _need_finite_chain(path, tif)
            part = "it cannot be decoded"
            yield tif
    except (InputError, StorageError):
        raise
    except Exception as error:  # damaged files make tifffile and its codecs raise nearly anything
        raise unreadable(path, error, part) from error


def unreadable(path: str | Path, error: Exception, part: str) -> InputError | StorageError:
    """The error to raise for `error`, met in reading `path`; `part` says what was being read."""
    number = error.errno if isinstance(error, OSError) else None
    if number not in (None, errno.ENOENT, errno.EINVAL):
        return StorageError(
            required=f"to read {path}",
            found=os.strerror(number),
            action="see to the disk, the network or the permissions, and run again",
        )
    codec = re.match(r"<COMPRESSION\.(\w+): \d+> not supported", str(error))
    local = Path(path)
    if number == errno.ENOENT:
        found = "no such file"
    elif codec:
        found = f"its compression, {codec[1]}, is not supported"
    elif isinstance(error, MemoryError):
        found = "decoding it needs more memory than there is"
    else:
        found = f"{part} ({type(error).__name__}: {str(error)[:200]})"
        if local.is_file():
            found = f"{local.stat().st_size} bytes; {found}"
    return InputError(
        required="a TIFF file that can be read",
        found=f"{path}: {found}",
        action="copy or export the file again; if it opens elsewhere, save it uncompressed",
    )


def _refused(path: str | Path, found: str) -> InputError:
    return InputError(
        required="a whole TIFF file, whose pixels are in it",
        found=f"{path}: {found}",
        action="copy or export the file again",
    )


def _need_finite_chain(path: str | Path, tif: tifffile.TiffFile) -> None:
    """Raise `InputError` where the image directories lead in a circle or are beyond counting."""
    kind, stream = tif.tiff, tif.filehandle
    seen: set[int] = set()
    offset = tif.pages.first.offset
    while 0 < offset < stream.size:
        if offset in seen or len(seen) > MOST_PLANES:
            raise _refused(path, "its image directories lead in a circle or are too many")
        seen.add(offset)
        stream.seek(offset)
        head = stream.read(kind.tagnosize)
        if len(head) < kind.tagnosize:
            return
        stream.seek(offset + kind.tagnosize + kind.tagsize * _unpack(kind.tagnoformat, head))
        link = stream.read(kind.offsetsize)
        offset = _unpack(kind.offsetformat, link) if len(link) == kind.offsetsize else 0


def _unpack(layout: str, data: bytes) -> int:
    return int.from_bytes(data, "little" if layout.startswith("<") else "big")


def check_page(path: str | Path, page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    """Raise `InputError` unless the file can hold the pixels that the page claims."""
    key = page.keyframe
    if key is None or key.dtype is None or 0 in key.shaped:
        raise _refused(path, f"a page of shape {page.shape} that no type of pixels fits")
    size = page.parent.filehandle.size
    if key.nbytes > LIMIT:
        raise _refused(path, f"it claims {_pixels(key)}, {key.nbytes / 2**30:,.0f} GiB a plane")
    segments = 1 if len(page.dataoffsets) == 1 and key.is_contiguous else math.prod(key.chunked)
    if len(page.dataoffsets) < segments:
        raise _refused(path, f"{len(page.dataoffsets)} of {segments} strips or tiles are listed")
    stored = 0
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if offset + count > size:
            raise _refused(path, f"it is truncated: {size} bytes, {offset + count} are needed")
        if not (offset and count):
            raise _refused(path, "a strip or tile has no data")
        stored += count
    unpacked = math.prod(key.shaped) * key.bitspersample / 8
    most = MOST_UNPACKED.get(COMPRESSION(key.compression))
    # Strips may share bytes; the file as a whole bounds what they can tell.
    if most is not None and unpacked > most * min(stored, size):
        raise _refused(
            path,
            f"it claims {_pixels(key)}, {unpacked:,.0f} bytes, and stores {stored:,} bytes "
            f"({COMPRESSION(key.compression).name})",
        )


def _pixels(page: tifffile.TiffPage) -> str:
    return f"{page.imagelength:,} × {page.imagewidth:,} pixels"


def check_series(path: str | Path, series: tifffile.TiffPageSeries) -> None:
    """`check_page` for all pages; raises `InputError` also where some are missing."""
    if series.is_truncated or math.prod(series.shape) != len(series) * series.keyframe.size:
        end = (series.dataoffset or math.inf) + series.nbytes
        size = series.keyframe.parent.filehandle.size
        if end > size:
            raise _refused(path, f"it is truncated: {size} bytes, its planes need {end}")
    for number, page in enumerate(series.pages):
        if page is None:
            raise _refused(path, f"its metadata tell of {len(series)} planes; none is number "
                           f"{number + 1}")  # fmt: skip
        check_page(path, page)


def first_series(path: str | Path, tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """The image in the file: of several, the first whose planes lie in this very file.

    Checked by `check_series`. Raises `InputError` where OME metadata do not describe the pages,
    or tell of several images of one size in the file.
    """
    if tif.is_ome:
        _need_countable(path, tif.ome_metadata or "")
    here = [
        series
        for series in tif.series
        if any(page is not None and page.parent is tif for page in series.pages)
    ]
    if not here:
        raise _refused(path, "no image")
    series = here[0]
    if tif.is_ome and series.kind != "ome":
        raise _refused(path, "its OME metadata do not describe its pages")
    alike = [other for other in here if other.shape == series.shape]
    if tif.is_ome and len(alike) > 1:
        raise InputError(
            required="one image per file",
            found=f"{len(alike)} of shape {series.shape} in {path}",
            action="export every field to a file of its own",
        )
    check_series(path, series)
    return series


def _need_countable(path: str | Path, xml: str) -> None:
    """Raise `InputError` where OME metadata tell of more planes than an image can have."""
    try:
        elements = list(ElementTree.fromstring(xml).iter())
    except ElementTree.ParseError as error:
        raise _refused(path, f"its OME metadata are no XML ({error})") from None
    for element in elements:
        told = element.attrib
        sizes = [int(told.get(f"Size{axis}", 1)) for axis in "CZT"]
        counts = [int(told.get(key, 0)) for key in ("PlaneCount", "NumPlanes", "IFD")]
        most = max(math.prod(sizes), *counts)
        if min(sizes) < 1 or min(counts) < 0 or most > MOST_PLANES:
            raise _refused(path, f"its OME metadata tell of {most} planes, sizes {sizes}")


def check_counts(path: str | Path, series: tifffile.TiffPageSeries) -> None:
    """Raise `InputError` unless `series` holds whole uint8 or uint16 grey levels."""
    if series.dtype not in (np.uint8, np.uint16):
        raise InputError(
            required="raw counts, uint8 or uint16 (others are not supported yet)",
            found=f"{series.dtype} in {path}",
            action="use the camera's own images; images already scaled have lost their noise model",
        )
    check_light(path, series.keyframe)
    check_series(path, series)


def check_light(path: str | Path, page: tifffile.TiffPage) -> None:
    """Raise `InputError` unless the grey levels of `page` rise with light."""
    if page.photometric in (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.PALETTE):
        raise InputError(
            required="grey levels that rise with light",
            found=f"{PHOTOMETRIC(page.photometric).name} in {path}",
            action="export the image as greyscale, black is zero",
        )


def read_page(path: str | Path, number: int = 0) -> NDArray[Any]:
    """One page of a TIFF file as it is stored, of any type, in its own order of axes.

    Raises `InputError` where it cannot be read.
    """
    with open_tiff(path) as tif:
        page = tif.pages[number]
        check_page(path, page)
        return page.asarray()


def pixel_size(tif: tifffile.TiffFile) -> float | None:
    """µm per pixel from OME, ImageJ, MetaMorph or resolution tags; None where none is believable.

    Resolution tags are often filled with a printer's 72 or 96 dpi: they count only where they
    give a size that a light microscope can have.
    """
    return believable(_declared_sizes(tif))


def believable(sizes: Iterator[float | None]) -> float | None:
    """The first of `sizes`, µm, that a pixel of a light microscope can have; None: none."""
    low, high = PLAUSIBLE_UM
    return next((float(size) for size in sizes if size is not None and low <= size <= high), None)


def _declared_sizes(tif: tifffile.TiffFile) -> Iterator[float | None]:
    if tif.is_ome and tif.ome_metadata:
        for element in ElementTree.fromstring(tif.ome_metadata).iter():
            if element.tag.endswith("}Pixels") and "PhysicalSizeX" in element.attrib:
                unit = element.attrib.get("PhysicalSizeXUnit", "µm")
                if unit in LENGTHS:
                    yield float(element.attrib["PhysicalSizeX"]) * LENGTHS[unit]
    if tif.is_stk:
        stk: dict[str, Any] = tif.stk_metadata or {}
        if stk.get("CalibrationUnits") in LENGTHS:
            yield stk.get("XCalibration", 0.0) * LENGTHS[stk["CalibrationUnits"]]
    if tif.is_metaseries:
        plane = (tif.metaseries_metadata or {}).get("PlaneInfo", {})
        if plane.get("spatial-calibration-units") in LENGTHS:
            scale = LENGTHS[plane["spatial-calibration-units"]]
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
        if unit_name in LENGTHS:
            yield LENGTHS[unit_name] / per_unit
        return
    unit_tag = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 2
    yield {3: 1e4, 2: 25_400.0}.get(int(unit_tag), 0.0) / per_unit
