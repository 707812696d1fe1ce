"""Which cells a field has: those that segmentation finds, or those of the user's own masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.config import ImagesSettings, PlateRow, SegmentationSettings
from vae_sci.errors import InputError, SettingsError
from vae_sci.images.masks import find_masks, read_labels
from vae_sci.tiles import plugin
from vae_sci.tiles.segment import Segmentation, from_labels, segment

CellFinder = Callable[[str, str, NDArray[Any]], Segmentation]


def cell_finder(
    row: PlateRow,
    fields: pd.DataFrame,
    settings: SegmentationSettings,
    images: ImagesSettings,
    pixel: float | None,
) -> CellFinder:
    """A function that takes well, site and a field (C, H, W) and returns the field's cells.

    fields : the plate's usable rows of contract FIELDS. pixel : µm per pixel. Raises `InputError`
    or `SettingsError` where masks, the size of a pixel or a channel is missing.
    """
    if row.masks is not None:
        masks = find_masks(row, fields, images)
        return lambda well, site, field: from_labels(
            read_labels(masks[well, site], field.shape[1:])
        )
    channels = list(fields.sort_values("channel_index")["channel"].unique())
    find = _Segmenter(settings, channels, pixel)
    return lambda well, site, field: find(field)


class _Segmenter:
    """`segment` with its settings in pixels, for the fields of one plate."""

    def __init__(
        self, settings: SegmentationSettings, channels: list[str], pixel: float | None
    ) -> None:
        if pixel is None:
            raise InputError(
                required="the size of a pixel, since cells are sought by their size in µm",
                found="none in the image files",
                action="set images: pixel_size_um",
            )
        for key in ("nucleus_channel", "cell_channel"):
            name = getattr(settings, key)
            if name is not None and name not in channels:
                raise SettingsError(
                    required=f"as {key} a channel: {', '.join(channels)}",
                    found=f"'{name}'",
                    action=f"correct tiles: segmentation: {key}",
                )
        nucleus, cell = settings.nucleus_channel, settings.cell_channel
        self._nucleus = channels.index(nucleus) if nucleus else 0
        self._cell = channels.index(cell) if cell else None
        self._sizes = (
            settings.nucleus_diameter_um and settings.nucleus_diameter_um / pixel,
            settings.cell_diameter_um / pixel,
            settings.merge_gap_um / pixel,
        )
        self._find = None if settings.nuclei == "classical" else plugin.load(settings.nuclei)

    def __call__(self, field: NDArray[Any]) -> Segmentation:
        """Cells of a field (C, H, W)."""
        if self._cell is not None:
            cell = field[self._cell].astype(np.float32)
        else:
            # Not a matrix product: its library would start threads beside those of tiling.
            weights = (1 / np.maximum(field.std(axis=(1, 2)), 1e-6)).astype(np.float32)
            cell = np.einsum("c,cyx->yx", weights, field.astype(np.float32))
        return segment(field[self._nucleus], cell, *self._sizes, self._find)
