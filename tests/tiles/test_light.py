"""The light on tiles is the plate's flat field at their places, kept with the tiles."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vae_sci.errors import ContractError
from vae_sci.images.flat_field import FlatField
from vae_sci.tiles.crop import crop
from vae_sci.tiles.light import light_digest, open_light, write_light
from vae_sci.tiles.store import store_about, write_store

HEIGHT, WIDTH, SIZE = 203, 150, 24


def planted(used: bool = True) -> FlatField:
    """Two channels: light that falls by a third to one corner, and even light."""
    y, x = np.linspace(-1, 1, HEIGHT)[:, None], np.linspace(-1, 1, WIDTH)
    gain = np.ones((2, HEIGHT, WIDTH))
    gain[0] = 1 - 0.1 * y - 0.2 * x**2 - 0.05 * x * y
    gain[0] /= gain[0].mean()
    one = np.array([used, False])
    return FlatField(
        (gain if used else np.ones_like(gain)).astype(np.float32),
        np.where(one, 100.0, np.nan),
        one * 0.3,
        one * 0.01,
        one,
    )


def cells() -> pd.DataFrame:
    """Tiles at the corners of a field and at random places, in some rows of a store."""
    rng = np.random.default_rng(0)
    y0 = [0, 0, HEIGHT - SIZE, HEIGHT - SIZE, *rng.integers(0, HEIGHT - SIZE, 60)]
    x0 = [0, WIDTH - SIZE, 0, WIDTH - SIZE, *rng.integers(0, WIDTH - SIZE, 60)]
    return pd.DataFrame({"tile": 3 * rng.permutation(64) + 1, "y0": y0, "x0": x0})


def written(path: Path, flat: FlatField | None) -> Path:
    """A store of empty tiles that was cut with a flat field."""
    with write_store(
        path / "P.zarr",
        channels=["a", "b"],
        size=SIZE,
        dtype="uint16",
        masks=False,
        pixel_size_um=None,
        about={"plate": "P", "kind": "images"},
    ) as writer:
        if flat is not None:
            write_light(writer.group, flat)
        writer.append(np.zeros((192, 2, SIZE, SIZE), np.uint16))
    return path / "P.zarr"


def test_every_tile_has_the_light_of_its_place_whatever_the_order(tmp_path: Path):
    flat, table = planted(), cells()
    light = open_light(written(tmp_path, flat), table)
    assert light is not None
    gain = light.gain(table["tile"].to_numpy())
    exact = crop(flat.gain, table[["y0", "x0"]].to_numpy(), SIZE)
    assert gain.dtype == np.float32
    # A straight line between places h apart is off by h² / 8 times the curvature, here 7e-5.
    np.testing.assert_allclose(gain[:, 0], exact[:, 0], rtol=0, atol=7e-4)
    assert (gain[:, 1] == 1).all()
    assert light.offset.tolist() == [100, 0]


def test_light_counts_as_even_where_none_is_known_or_nothing_is_sure(tmp_path: Path):
    without, unsure = written(tmp_path / "a", None), written(tmp_path / "b", planted(used=False))
    assert open_light(without, cells()) is None
    assert open_light(unsure, cells()) is None
    assert light_digest(without) is None
    assert light_digest(unsure) is not None


def test_another_flat_field_has_another_digest_and_leaves_that_of_the_tiles(tmp_path: Path):
    one, other = planted(), planted()
    other.offset[0] += 1
    stores = [written(tmp_path / str(k), flat) for k, flat in enumerate((one, planted(), other))]
    digests = [light_digest(store) for store in stores]
    assert digests[0] == digests[1] != digests[2]
    assert len({store_about(store)["digest"] for store in stores}) == 1


def test_a_flat_field_that_was_lost_is_refused(tmp_path: Path):
    """Zarr gives 0 for a chunk that is not there."""
    store = written(tmp_path, planted())
    shutil.rmtree(store / "light" / "c")
    with pytest.raises(ContractError, match="array light"):
        open_light(store, cells())
