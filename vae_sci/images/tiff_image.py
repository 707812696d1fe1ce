"""A TIFF file of any kind (OME, ImageJ, BigTIFF, pyramids, several files) as an `Image`."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from vae_sci.errors import InputError
from vae_sci.images.image import WHOLE, Sizes, Window, named
from vae_sci.images.tiff import check_light, first_series, pixel_size

# tifffile's letters: channels, samples, and pages that no metadata name
_CHANNELS = "CSIQ"


class TiffImage:
    """The image of an open TIFF file, at full resolution. See `image.Image`.

    own : of an image that lies in several files, only the planes in this one.
    Raises `InputError` where its axes are not those of an image, or its pixels no grey levels.
    """

    def __init__(self, path: str, tif: tifffile.TiffFile, own: bool = False) -> None:
        self.path = path
        self._series = series = first_series(path, tif)
        check_light(path, series.keyframe)
        self.dtype: np.dtype[Any] = series.dtype
        self.pixel_size_um = pixel_size(tif)
        self._axes = series.axes
        key = series.keyframe
        self._paged = (
            not series.is_truncated
            and math.prod(series.shape) == len(series) * key.size
            and series.shape[len(series.shape) - len(key.shape) :] == key.shape
        )
        # `first_series` has seen that none is missing.
        self._pages = [page for page in series.pages if page is not None]
        lead = len(series.shape) - len(key.shape) if self._paged else 0
        self._lead = series.shape[:lead]
        self._taken = [np.arange(n) for n in series.shape]
        if own and self._lead:
            self._taken[:lead] = self._in(tif)
        long = [
            (axis, len(taken))
            for axis, taken in zip(self._axes, self._taken, strict=True)
            if axis in _CHANNELS and len(taken) > 1
        ]
        odd = [axis for axis, n in zip(self._axes, series.shape, strict=True)
               if axis not in "TZYX" + _CHANNELS and n > 1]  # fmt: skip
        if len(long) > 1 or odd or not {"Y", "X"} <= set(self._axes):
            raise InputError(
                required="an image with axes Y and X, and at most times T, channels C and depths Z",
                found=f"axes {self._axes} of shape {tuple(series.shape)} in {path}",
                action="export fields as OME-TIFF, one image a file",
            )
        self._channel = long[0][0] if long else "C"
        self.sizes = Sizes(*(self._length(axis) for axis in ("T", self._channel, "Z", "Y", "X")))
        names = _channel_names(tif)
        if self._channel == "C" and "C" in self._axes:
            taken = self._taken[self._axes.index("C")]
            names = [names[k] for k in taken if k < len(names)]
        self.channel_names = named(names) if len(names) == self.sizes.channels else ()
        self._last: tuple[int, NDArray[Any]] | None = None

    def _in(self, tif: tifffile.TiffFile) -> list[NDArray[np.int64]]:
        """Positions, along the axes of pages, of the planes that lie in `tif`."""
        here = [k for k, page in enumerate(self._pages) if page.parent is tif]
        taken = [np.unique(axis) for axis in np.unravel_index(here, self._lead)]
        if math.prod(map(len, taken)) != len(here):
            raise InputError(
                required="in each file of an image the same depths and times of its channels",
                found=f"planes without order in {self.path}",
                action="name the channels' files alike, or export every field to one file",
            )
        return taken

    def _length(self, axis: str) -> int:
        return len(self._taken[self._axes.index(axis)]) if axis in self._axes else 1

    def plane(self, time: int, channel: int, depth: int, window: Window = WHOLE) -> NDArray[Any]:
        """Grey levels (H, W) of one plane, or of a window of it."""
        asked = {"T": time, self._channel: channel, "Z": depth}
        index: list[Any] = [
            int(taken[asked.get(axis, 0)]) if axis not in "YX" else slice(None)
            for axis, taken in zip(self._axes, self._taken, strict=True)
        ]
        if self._paged and window == WHOLE:
            lead = len(self._lead)
            number = int(np.ravel_multi_index(index[:lead], self._lead)) if lead else 0
            plane = self._page(number)[tuple(index[lead:])]
        else:
            y, x = self._axes.index("Y"), self._axes.index("X")
            index[y], index[x] = window
            # A page at a time, unless part of one is wanted.
            mode = tifffile.CHUNKMODE.PAGE if window == WHOLE else None
            store = self._series.aszarr(level=0, chunkmode=mode)
            plane = np.asarray(zarr.open_array(store, mode="r")[tuple(index)])
        return plane if self._axes.index("Y") < self._axes.index("X") else plane.T

    def _page(self, number: int) -> NDArray[Any]:
        if self._last is None or self._last[0] != number:
            page = self._pages[number]
            stream = page.parent.filehandle
            closed = stream.closed  # as other files of the same image are
            if closed:
                stream.open()
            try:
                self._last = number, page.asarray()
            finally:
                if closed:
                    stream.close()
        return self._last[1]


def _channel_names(tif: tifffile.TiffFile) -> list[str | None]:
    """As OME or ImageJ metadata name the channels of the (first) image; [] where they do not."""
    if tif.is_ome and tif.ome_metadata:
        for pixels in ElementTree.fromstring(tif.ome_metadata).iter():
            if pixels.tag.endswith("}Pixels"):
                return [
                    element.attrib.get("Name")
                    for element in pixels
                    if element.tag.endswith("}Channel")
                ]
    return []
