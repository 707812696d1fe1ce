"""The store: what goes in comes out, in whole shards, or it is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from vae_sci.errors import ContractError
from vae_sci.tiles.store import SHARD, open_store, write_store


def write(path: Path, tiles: np.ndarray, masks: np.ndarray | None, step: int) -> str:
    with write_store(
        path,
        channels=["a", "b"],
        size=tiles.shape[-1],
        dtype=str(tiles.dtype),
        masks=masks is not None,
        pixel_size_um=0.5,
        about={"plate": "p", "kind": "images"},
    ) as writer:
        for start in range(0, len(tiles), step):
            part = slice(start, start + step)
            writer.append(tiles[part], None if masks is None else masks[part])
    return writer.digest


@pytest.mark.parametrize("count", [1, SHARD, SHARD + 37])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_round_trip(tmp_path: Path, count: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (count, 2, 8, 8)).astype(dtype)
    masks = rng.integers(0, 3, (count, 8, 8)).astype(np.uint8)
    digest = write(tmp_path / "p.zarr", tiles, masks, step=100)
    group = open_store(tmp_path / "p.zarr")
    stored: Any = group["tiles"]
    assert stored.dtype == tiles.dtype
    np.testing.assert_array_equal(stored[:], tiles)
    np.testing.assert_array_equal(group["masks"][:], masks)  # type: ignore[index]
    about: Any = group.attrs["vae_sci"]
    assert about["n_tiles"] == count
    assert about["channels"] == ["a", "b"]
    expected = hashlib.blake2b(digest_size=16)
    for name, array in (("tiles", tiles), ("masks", masks)):
        expected.update(f"{name} {array.shape} {array.dtype.str}\n".encode())
        expected.update(hashlib.blake2b(array.tobytes(), digest_size=16).digest())
    assert about["digest"] == digest == expected.hexdigest()


def test_same_bytes_however_they_arrive(tmp_path: Path) -> None:
    tiles = np.random.default_rng(1).poisson(9, (SHARD + 50, 2, 8, 8)).astype(np.uint16)
    a, b = tmp_path / "a" / "p.zarr", tmp_path / "b" / "p.zarr"
    assert write(a, tiles, None, step=7) == write(b, tiles, None, step=5000)
    files = sorted(f.relative_to(a) for f in a.rglob("*") if f.is_file())
    assert files == sorted(f.relative_to(b) for f in b.rglob("*") if f.is_file())
    assert len([f for f in files if f.parts[:2] == ("tiles", "c")]) == 2
    for file in files:
        assert (a / file).read_bytes() == (b / file).read_bytes()


@pytest.mark.parametrize("count", [1, 64, SHARD, SHARD + 37])
def test_shards_are_those_of_zarr(tmp_path: Path, count: int) -> None:
    tiles = np.random.default_rng(2).poisson(9, (count, 2, 8, 8)).astype(np.uint16)
    write(tmp_path / "p.zarr", tiles, None, step=100)
    ours = zarr.open_array(tmp_path / "p.zarr" / "tiles", mode="r")
    theirs = zarr.create_array(
        tmp_path / "q.zarr",
        shape=ours.shape,
        chunks=ours.chunks,
        shards=ours.shards,
        dtype=ours.dtype,
        compressors=ours.compressors,
    )
    theirs[:] = tiles
    files = sorted(
        f.relative_to(tmp_path / "q.zarr") for f in (tmp_path / "q.zarr" / "c").rglob("*")
    )
    for file in [f for f in files if (tmp_path / "q.zarr" / f).is_file()]:
        assert (ours_at := tmp_path / "p.zarr" / "tiles" / file).is_file()
        assert ours_at.read_bytes() == (tmp_path / "q.zarr" / file).read_bytes()


def test_viewers_are_told_names_colours_and_contrast(tmp_path: Path) -> None:
    tiles = np.zeros((1000, 2, 8, 8), np.uint16)
    tiles[:, 1] = np.arange(1000)[:, None, None]
    write(tmp_path / "p.zarr", tiles, None, step=300)
    ome: Any = open_store(tmp_path / "p.zarr").attrs["ome"]
    first, second = ome["omero"]["channels"]
    assert (first["label"], second["label"]) == ("a", "b")
    assert first["color"] != second["color"]
    assert first["window"] == {"min": 0, "max": 65535, "start": 0, "end": 1}
    assert second["window"] == {"min": 0, "max": 65535, "start": 9, "end": 997}


def test_one_grey_level_changes_the_digest(tmp_path: Path) -> None:
    tiles = np.zeros((3, 2, 8, 8), np.uint16)
    before = write(tmp_path / "p.zarr", tiles, None, step=3)
    tiles[1, 1, 4, 4] = 1
    assert write(tmp_path / "p.zarr", tiles, None, step=3) != before


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        write_store(
            tmp_path / "p.zarr",
            channels=["a"],
            size=8,
            dtype="uint8",
            masks=False,
            pixel_size_um=None,
            about={},
        ),
    ):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_stores_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.zarr"
    with pytest.raises(ContractError, match=r"p\.zarr"):
        open_store(path)
    tiles = np.zeros((SHARD + 5, 2, 8, 8), np.uint16)
    write(path, tiles, None, step=5000)
    open_store(path)
    (path / "tiles" / "c" / "1" / "0" / "0" / "0").unlink()
    with pytest.raises(ContractError, match="1 of 2 shards of tiles"):
        open_store(path)
    write(path, tiles, None, step=5000)
    (path / "tiles" / "zarr.json").unlink()
    with pytest.raises(ContractError, match="tiles"):
        open_store(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(ContractError, match=r"p\.zarr"):
        open_store(path)
