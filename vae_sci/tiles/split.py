"""Which wells train, validate and test: per plate, by number of cells, never a well in two."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vae_sci.config import SplitSettings

if TYPE_CHECKING:
    import pandas as pd

GOLDEN = 0.6180339887498949  # (√5 − 1) / 2


def split_wells(
    cells: Mapping[str, int], plate: str, seed: int, settings: SplitSettings
) -> dict[str, str]:
    """Well → train, validation or test, for the wells of one plate.

    cells : number of cells per well.

    Wells are ordered by their number of cells; the one of rank r falls at (u + r·φ) mod 1 on a
    line cut into the three shares. Steps of the golden ratio φ spread evenly over the line
    (Knuth, The Art of Computer Programming 3, 6.4: the three-distance theorem), so that any run
    of wells of like size holds the shares as closely as their number allows. u comes from seed
    and plate alone, so that plates of one well have the shares on average, and adding a plate
    changes no other.
    """
    digest = hashlib.blake2b(f"{seed}/{plate}".encode(), digest_size=8).digest()
    start = int.from_bytes(digest, "big") / 2**64
    parts = {}
    for rank, well in enumerate(sorted(cells, key=lambda w: (cells[w], w))):
        place = (start + rank * GOLDEN) % 1
        if place < settings.validation:
            parts[well] = "validation"
        elif place < settings.validation + settings.test:
            parts[well] = "test"
        else:
            parts[well] = "train"
    return parts


def most_held_out(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """The part that a model has learned least from, of those that have tiles, and its rows.

    table : contract TILES, not empty. Test before validation before train.
    """
    part = next(p for p in ("test", "validation", "train") if (table["split"] == p).any())
    return part, table[table["split"] == part]
