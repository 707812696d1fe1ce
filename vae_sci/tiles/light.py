"""The flat field of a plate, kept with its tiles, at the places of the tiles."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from vae_sci.errors import ContractError
from vae_sci.images.flat_field import FlatField
from vae_sci.tiles.crop import crop
from vae_sci.tiles.store import open_store, store_about, store_array

# Pixels between the places at which a flat field is kept, and between which it is linear: a screen
# has many plates, and light changes slowly (docs/decisions.md).
STEP = 8


@dataclass(frozen=True, eq=False)
class TileLight:
    """The light on a plate's tiles. Make it with `open_light`.

    Parameters
    ----------
    coarse : (C, h, w), share of the light at every `STEP`th pixel of a field, and beyond its end.
    offset : (C,), grey level without light; 0 in a channel whose light counts as even.
    rows : (M,), rows of the store, rising, whose place is known.
    corners : (M, 2), first row and column of each in its field.
    size : edge of a tile, pixels.
    """

    coarse: NDArray[np.float32]
    offset: NDArray[np.float64]
    rows: NDArray[np.int64]
    corners: NDArray[np.int64]
    size: int

    def gain(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Share of the light (n, C, size, size) on the tiles in these rows of the store."""
        first = self.corners[np.searchsorted(self.rows, rows)]
        count = (self.size + STEP - 2) // STEP + 2  # places that a tile lies between
        pixels = (np.arange(STEP)[:, None] + np.arange(self.size)) / STEP
        weights = np.maximum(0, 1 - np.abs(pixels[..., None] - np.arange(count)))
        down, across = weights.astype(np.float32)[(first % STEP).T]
        around = crop(self.coarse, first // STEP, count)
        return down[:, None] @ around @ across[:, None].transpose(0, 1, 3, 2)


def write_light(store: zarr.Group, flat: FlatField) -> None:
    """Keep a plate's flat field in a store that is being written, as the array `light`."""
    # Beyond its end it goes on as it came, but not to 0: the last pixels lie between two places.
    beyond = ((0, 0), (0, 3 * STEP), (0, 3 * STEP))
    whole = np.pad(flat.gain, beyond, mode="reflect", reflect_type="odd")
    coarse = np.maximum(whole[:, ::STEP, ::STEP], flat.gain.min() / 2)
    offset = np.where(flat.used, flat.offset, 0.0)
    array = store.create_array("light", data=coarse, chunks="auto", dimension_names=["c", "y", "x"])
    array.attrs.update(
        {
            "step": STEP,
            "offset": offset.tolist(),
            "used": flat.used.tolist(),
            "digest": hashlib.blake2b(coarse.tobytes() + offset.tobytes()).hexdigest(),
        }
    )


def light_digest(store: Path) -> str | None:
    """Digest of the flat field that a store was cut with; None: without one."""
    group = open_store(store)
    return str(group["light"].attrs["digest"]) if "light" in group else None


def open_light(store: Path, table: pd.DataFrame) -> TileLight | None:
    """The light on the tiles of a store; None where it counts as even in all channels.

    table : rows of the store (contract TILES), with their places. Raises `ContractError` as
    `open_store`, and where the flat field is damaged.
    """
    group = open_store(store)
    if "light" not in group:
        return None
    array = store_array(store, "light")
    coarse, about = np.asarray(array[:]), cast("dict[str, Any]", array.attrs.asdict())
    if not (coarse > 0).all():
        raise ContractError(
            required="a share of the light above 0 everywhere",
            found=f"{coarse.min():g} in the array light of {store}",
            action="delete the store and run again: the workflow makes it anew",
        )
    if not any(about["used"]):
        return None
    table = table.sort_values("tile")
    return TileLight(
        coarse,
        np.array(about["offset"], dtype=np.float64),
        table["tile"].to_numpy(np.int64),
        table[["y0", "x0"]].to_numpy(np.int64),
        int(store_about(store)["size"]),
    )
