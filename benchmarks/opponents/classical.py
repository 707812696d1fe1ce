"""CellProfiler's measurements of every tile (cp-measure): nucleus and cell, every channel.

    python benchmarks/opponents/classical.py --tiles FILE.npz --out FILE.parquet [--first N]

Each channel is divided by the 99.9 % of its training tiles and cut at 1, since textures are
counted on 256 grey levels between 0 and 1. Crops come without masks, so they are made here. Nuclei:
Otsu on the smoothed square root of the first channel, touching ones parted at the narrowest place.
Cells: Otsu on the sum of the other channels' smoothed square roots, each pixel given to the nearest
nucleus. The nucleus nearest to the middle of the tile is the one measured; where none is found, the
whole tile is. What tells only where in the tile the cell lies is left out, as are columns that
never change; a number that is not defined for a cell becomes the column's median.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cp_measure.featurizer import featurize, make_featurizer_config
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

Array = NDArray[np.float64]

OBJECTS = ["nucleus", "cell"]
NUCLEUS_RADIUS = 6  # pixels between the middles of two nuclei, at least
PLACE = re.compile("Location|Center_|BoundingBoxM|Orientation|SpatialMoment|Phase")


def masks(image: Array) -> NDArray[np.int32]:
    """Nucleus and cell (2, H, W), 1 inside, of `image` (C, H, W) from 0 to 1, nuclei first."""
    smooth = np.stack([gaussian(np.sqrt(channel), 1) for channel in image])
    bright = ndimage.binary_fill_holes(smooth[0] > threshold_otsu(smooth[0]))
    depth = gaussian(ndimage.distance_transform_edt(bright), 1)
    seeds = np.zeros(bright.shape, dtype=np.int32)
    for number, place in enumerate(peak_local_max(depth, min_distance=NUCLEUS_RADIUS), 1):
        seeds[tuple(place)] = number
    nuclei = watershed(-depth, seeds, mask=bright)
    middle = (np.array(nuclei.shape) - 1) / 2
    places = np.argwhere(nuclei > 0)
    if not len(places):
        return np.ones((2, *nuclei.shape), dtype=np.int32)
    nearest = places[((places - middle) ** 2).sum(axis=1).argmin()]
    chosen = nuclei[tuple(nearest)]
    body = smooth[1:].sum(axis=0) if len(image) > 1 else smooth[0]
    area = (body > threshold_otsu(body)) | (nuclei > 0)
    cells = watershed(ndimage.distance_transform_edt(nuclei == 0), nuclei, mask=area)
    return np.stack([nuclei == chosen, cells == chosen]).astype(np.int32)


def measure(tiles: NDArray[Any], train: NDArray[np.bool_], channels: list[str]) -> pd.DataFrame:
    """One row per tile of `tiles` (N, C, H, W), raw grey levels; all measurements of cp-measure."""
    top = np.quantile(tiles[train], 0.999, axis=(0, 2, 3))[:, None, None]
    config = make_featurizer_config(
        channels,
        objects=OBJECTS,
        granularity_params={"subsample_size": 1.0},  # meant for fields, not for 64 pixels
        correlation_costes_params={"scale_max": 255},
    )
    rows = []
    for tile in tiles:
        image = np.clip(tile / top, 0, 1)
        values, columns, _ = featurize(image[None], masks(image)[None], config)
        rows.append(values.ravel())
    names = [f"{thing}_{column}" for thing in OBJECTS for column in columns]
    return pd.DataFrame(rows, columns=names)


def clean(table: pd.DataFrame) -> pd.DataFrame:
    """Without columns of place and columns that never change; gaps filled with medians."""
    table = table[[name for name in table if not PLACE.search(name)]]
    table = table.replace([np.inf, -np.inf], np.nan)
    table = table.fillna(table.median())
    return table[[name for name in table if table[name].nunique() > 1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--tiles", type=Path, required=True, help="as written by make.py")
    parser.add_argument("--out", type=Path, required=True, help="table to write")
    parser.add_argument("--first", type=int, help="measure only so many tiles")
    given = parser.parse_args()
    data = np.load(given.tiles)
    some = slice(given.first)
    warnings.filterwarnings("ignore", module="cp_measure")
    start = time.perf_counter()
    table = measure(data["tiles"][some], data["split"][some] == "train", data["channels"].tolist())
    seconds = time.perf_counter() - start
    table = clean(table)
    table.insert(0, "cell_id", data["cell_id"][some])
    table.to_parquet(given.out, index=False)
    print(
        f"{table.shape[1] - 1} numbers of {len(table)} tiles, "
        f"{1000 * seconds / len(table):.0f} ms a tile"
    )


if __name__ == "__main__":
    main()
