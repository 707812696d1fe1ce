"""Wells into training, validation and test."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from vae_sci.config import SplitSettings
from vae_sci.tiles.split import split_wells

SHARES = SplitSettings(train=0.7, validation=0.2, test=0.1)


def plate_of(n_wells: int, seed: int = 0) -> dict[str, int]:
    """Wells whose numbers of cells differ a hundredfold."""
    counts = np.random.default_rng(seed).lognormal(5, 1.5, n_wells).astype(int) + 1
    return {f"{'ABCDEFGHIJKLMNOP'[i // 24]}{i % 24 + 1:02d}": int(n) for i, n in enumerate(counts)}


@pytest.mark.parametrize("n_wells", [44, 96, 384])
def test_shares_of_one_plate(n_wells: int) -> None:
    parts = Counter(split_wells(plate_of(n_wells), "p", 3, SHARES).values())
    for part in ("train", "validation", "test"):
        assert abs(parts[part] - getattr(SHARES, part) * n_wells) <= 2


def test_shares_within_each_size_class() -> None:
    """Small, middle and large wells are shared out alike, over many plates."""
    classes = [Counter[str]() for _ in range(3)]
    for plate in range(40):
        cells = plate_of(48, seed=plate)
        parts = split_wells(cells, f"plate{plate}", 0, SHARES)
        for rank, well in enumerate(sorted(cells, key=lambda w: (cells[w], w))):
            classes[rank // 16][parts[well]] += 1
    for counts in classes:
        for part in ("train", "validation", "test"):
            assert counts[part] / 640 == pytest.approx(getattr(SHARES, part), abs=0.02)


def test_shares_of_plates_with_one_well() -> None:
    parts = Counter(split_wells({"B02": 5}, f"p{i}", 0, SHARES)["B02"] for i in range(3000))
    for part in ("train", "validation", "test"):
        assert parts[part] / 3000 == pytest.approx(getattr(SHARES, part), abs=0.03)


def test_deterministic_whatever_the_order_and_different_by_seed() -> None:
    cells = plate_of(96)
    once = split_wells(cells, "p", 1, SHARES)
    assert once == split_wells(dict(reversed(cells.items())), "p", 1, SHARES)
    assert set(once) == set(cells)
    assert once != split_wells(cells, "p", 2, SHARES)
    assert once != split_wells(cells, "q", 1, SHARES)


def test_a_share_of_zero_stays_empty() -> None:
    settings = SplitSettings(train=1.0, validation=0.0, test=0.0)
    assert set(split_wells(plate_of(96), "p", 0, settings).values()) == {"train"}
