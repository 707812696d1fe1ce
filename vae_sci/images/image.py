"""What every reader of images gives: sizes and metadata at once, grey levels plane by plane."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Window = tuple[slice, slice]  # rows and columns
WHOLE: Window = (slice(None), slice(None))


class Sizes(NamedTuple):
    """Numbers of times, channels and depths, and pixels down and right."""

    times: int
    channels: int
    depths: int
    height: int
    width: int


class Image(Protocol):
    """One image that is open: nothing is decoded before `plane` asks for it.

    path : file, or URI, for messages.
    channel_names : of all channels, in order; () where the metadata name none, or not all.
    pixel_size_um : µm per pixel; None where the metadata tell none that is believable.
    """

    @property
    def path(self) -> str: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def sizes(self) -> Sizes: ...

    @property
    def channel_names(self) -> tuple[str, ...]: ...

    @property
    def pixel_size_um(self) -> float | None: ...

    def plane(self, time: int, channel: int, depth: int, window: Window = WHOLE) -> NDArray[Any]:
        """Grey levels (H, W) of one plane, positions from 0, or of a window of it."""
        ...


def named(names: list[str | None]) -> tuple[str, ...]:
    """`names` where every channel has one of its own, else ()."""
    told = tuple(name.strip() for name in names if name and name.strip())
    return told if len(set(told)) == len(names) else ()
