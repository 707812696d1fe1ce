"""Masks of the user's own: which one outlines the cells of which field, and its labels as they are.

Within OME-Zarr images they lie under `labels/` (https://ngff.openmicroscopy.org/0.5/#labels-md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.config import ImagesSettings, PlateRow
from vae_sci.errors import InputError
from vae_sci.images.find import find_fields
from vae_sci.images.read import is_zarr, open_image

INSIDE = "labels/"


def find_masks(
    row: PlateRow, fields: pd.DataFrame, settings: ImagesSettings
) -> dict[tuple[str, str], str]:
    """(well, site) → path of its mask, for every field in `fields`, rows of contract FIELDS.

    Raises `InputError` for a field that has no mask, or several.
    """
    assert row.masks is not None
    images = {
        (str(field.well), str(field.site)): str(field.path).splitlines()[0]
        for field in fields.itertuples()
    }
    if row.masks.startswith(INSIDE):
        return {place: _inside(path, row.masks) for place, path in images.items()}
    layout = row.masks_layout or row.layout
    masks = row.model_copy(update={"images": row.masks, "layout": layout})
    found: dict[tuple[str, str], str] = {}
    for (well, site), sources in find_fields(masks, settings).items():
        paths = [path for source in sources.values() for path in source.paths]
        if len(paths) > 1:
            raise InputError(
                required="one mask per field",
                found=f"{paths[0]} and {paths[1]} (well {well}, site {site})",
                action="give masks as a glob that fits one of them, such as 'masks/*_cells.tif'",
            )
        found[well, site] = paths[0]
    lacking = sorted(set(images) - set(found))
    if lacking:
        well, site = lacking[0]
        raise InputError(
            required="a mask for every field",
            found=f"none for {len(lacking)} of {len(images)}, the first well {well}, site {site}, "
            f"at {row.masks}",
            action="add them, all 0 where a field has no cell, or name well and site as the images "
            "do (masks_layout in plates.tsv)",
        )
    return {place: found[place] for place in images}


def _inside(path: str, name: str) -> str:
    if not is_zarr(path):
        raise InputError(
            required=f"OME-Zarr images, since masks is {name}",
            found=path,
            action="give masks as a folder, glob or URI of label images",
        )
    return f"{path.rstrip('/')}/{name}"


def read_labels(path: str, shape: tuple[int, int]) -> NDArray[np.integer]:
    """The labels (H, W) of one mask, as they are: a number from 1 per cell, 0 outside.

    shape : H and W of the field. Raises `InputError` where they do not fit it or are no labels.
    """
    with open_image(path, own=True) as image:
        count, size = image.sizes[:3], image.sizes[3:]
        if count != (1, 1, 1):
            raise _unfit(path, shape, "{} times, {} channels and {} depths".format(*count))
        if size != shape:
            raise _unfit(path, shape, "{} × {} pixels".format(*size))
        if image.dtype.kind not in "iu":
            raise _unfit(path, shape, f"{image.dtype}")
        labels: NDArray[Any] = image.plane(0, 0, 0)
    if labels.min() < 0:
        raise _unfit(path, shape, f"negative numbers, down to {labels.min()}")
    # What is written as black and white tells where cells are, not where one ends.
    white = np.iinfo(labels.dtype).max
    if labels.max() == white and set(np.unique(labels)) == {0, white}:
        raise _unfit(path, shape, f"0 and {labels.max()} alone, black and white")
    return labels


def _unfit(path: str, shape: tuple[int, int], found: str) -> InputError:
    height, width = shape
    return InputError(
        required=f"labels as large as their field, {height} × {width} pixels in one plane: a whole "
        "number from 1 for each cell, 0 outside",
        found=f"{found} in {path}",
        action="export labels, not probabilities or a black-and-white mask, without scaling",
    )
