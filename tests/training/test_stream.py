"""The stream gives every wanted tile once per epoch, in an order that the seed alone decides."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from vae_sci.tiles.store import write_store
from vae_sci.training import stream as stream_module
from vae_sci.training.scaling import measure
from vae_sci.training.stream import Source, TileStream


@pytest.fixture
def stream(tmp_path: Path) -> TileStream:
    """Two plates of tiles whose first value tells plate and row; a part of the rows is wanted."""
    random = np.random.default_rng(0)
    sources = []
    for plate, n in enumerate((2500, 90)):
        tiles = random.integers(100, 200, (n, 2, 4, 4)).astype(np.uint16)
        tiles[:, 0, 0, 0] = 10_000 * (plate + 1) + np.arange(n)
        masks = np.ones((n, 4, 4), np.uint8)
        masks[:, 0, 0] = 2
        path = tmp_path / f"p{plate}.zarr"
        with write_store(
            path,
            channels=["a", "b"],
            size=4,
            dtype="uint16",
            masks=True,
            pixel_size_um=None,
            about={"plate": f"p{plate}", "neighbours": "mask"},
        ) as writer:
            writer.append(tiles, masks)
        rows = np.flatnonzero(random.random(n) < 0.7)
        sources.append(Source(f"p{plate}", path, rows))
    return TileStream(sources)


def keys(batches) -> np.ndarray:
    return np.concatenate([batch.counts[:, 0, 0, 0] for batch in batches])


def wanted(stream: TileStream) -> np.ndarray:
    return np.concatenate([10_000 * (i + 1) + s.rows for i, s in enumerate(stream.sources)])


def test_in_order_gives_every_wanted_tile_once_in_order(stream: TileStream):
    np.testing.assert_array_equal(keys(stream.in_order(64)), wanted(stream))


def test_plate_and_tile_lead_back_to_the_counts(stream: TileStream):
    for batch in stream.shuffled(32, (0, 0)):
        np.testing.assert_array_equal(10_000 * (batch.plate + 1) + batch.tile,
                                      batch.counts[:, 0, 0, 0])  # fmt: skip


@pytest.mark.parametrize("window", [100, 1000, 100_000])
def test_an_epoch_gives_every_tile_at_most_once_and_all_but_the_last_batch(
    stream: TileStream, monkeypatch: pytest.MonkeyPatch, window: int
):
    monkeypatch.setattr(stream_module, "WINDOW_BYTES", window * 2 * 4 * 4 * 2)
    monkeypatch.setattr(stream_module, "BLOCK_BYTES", 32 * 2 * 4 * 4 * 2)
    batches = list(stream.shuffled(64, (0, 0)))
    assert len(batches) == stream.steps(64) == stream.n_tiles // 64
    seen = keys(batches)
    assert len(np.unique(seen)) == len(seen) == 64 * len(batches)
    assert set(seen) <= set(wanted(stream))
    one_by_one = keys(stream.shuffled(1, (0, 0)))
    np.testing.assert_array_equal(np.sort(one_by_one), wanted(stream))


def test_the_order_depends_on_the_seed_alone(stream: TileStream):
    first, again, other = (keys(stream.shuffled(64, s)) for s in ((0, 1), (0, 1), (0, 2)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # Shuffled over the whole window: neighbours in the store are rarely neighbours in a batch.
    assert np.mean(np.abs(np.diff(first)) == 1) < 0.01


def test_batches_are_equal_for_any_number_of_threads(
    stream: TileStream, monkeypatch: pytest.MonkeyPatch
):
    masked = TileStream(stream.sources, masked=True)
    monkeypatch.setattr(stream_module, "WINDOW_BYTES", 1000 * 2 * 4 * 4 * 2)
    monkeypatch.setattr(stream_module, "BLOCK_BYTES", 32 * 2 * 4 * 4 * 2)

    def everything(threads: int) -> list[bytes]:
        monkeypatch.setattr(stream_module, "DECODERS", threads)
        batches = [*masked.shuffled(64, (0, 0)), *masked.in_order(50)]
        return [part.tobytes() for b in batches for part in (b.counts, b.visible, b.plate, b.tile)]

    alone = everything(1)
    assert len(alone) > 4 * masked.steps(64)
    assert alone == everything(2) == everything(7)


def test_memory_is_bounded_by_the_window_and_the_blocks_decoded_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    block, window, n = 2**19, 2**23, 10_240
    random = np.random.default_rng(0)
    with write_store(
        tmp_path / "p.zarr",
        channels=["a", "b"],
        size=32,
        dtype="uint16",
        masks=False,
        pixel_size_um=None,
        about={},
    ) as writer:
        for _ in range(10):
            writer.append(random.integers(0, 2**16, (n // 10, 2, 32, 32), dtype=np.uint16))
    monkeypatch.setattr(stream_module, "WINDOW_BYTES", window)
    monkeypatch.setattr(stream_module, "BLOCK_BYTES", block)
    large = TileStream([Source("p", tmp_path / "p.zarr", np.arange(n))])
    tracemalloc.start()
    try:
        for number, _ in enumerate(large.shuffled(32, (0, 0))):
            if number == 0:
                time.sleep(1)  # for threads that read on whatever was taken
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # For two blocks decoded ahead: the files' bytes, what Zarr copies, the results; and batches.
    assert peak < window + 16 * block < n * 2 * 32 * 32 * 2 / 2


def test_two_processes_share_each_global_batch(stream: TileStream):
    alone = list(stream.shuffled(64, (0, 0)))
    parts = [list(stream.shuffled(64, (0, 0), rank, 2)) for rank in range(2)]
    for whole, one, two in zip(alone, *parts, strict=True):
        assert len(one.tile) == len(two.tile) == 32
        assert set(keys([one, two])) == set(keys([whole]))


def test_fewer_tiles_than_a_batch_make_one_small_batch(stream: TileStream):
    small = TileStream([Source("p1", stream.sources[1].store, np.array([3, 5]))])
    assert [len(batch.tile) for batch in small.shuffled(64, (0, 0))] == [2]
    assert small.steps(64) == 1


def test_a_masked_stream_tells_what_is_visible(stream: TileStream):
    masked = TileStream(stream.sources, masked=True)
    batch = next(masked.shuffled(8, (0, 0)))
    assert batch.visible is not None
    assert batch.visible.shape == (8, 1, 4, 4)
    assert not batch.visible[:, 0, 0, 0].any()
    assert batch.visible.sum() == 8 * 15


def test_an_error_in_the_reading_thread_is_raised_in_the_loop(stream: TileStream):
    (stream.sources[1].store / "tiles" / "zarr.json").unlink()
    with pytest.raises(Exception, match=r"missing|unfinished|cannot|tiles"):
        list(stream.in_order(64))


def test_scaling_is_that_of_the_tiles_streamed(stream: TileStream):
    levels, scaling = measure(stream, stream)
    everything = np.concatenate([batch.counts for batch in stream.in_order(1000)]).astype(float)
    assert levels.step == (1, 1)
    np.testing.assert_allclose(scaling.mean, everything.mean(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(scaling.sd, everything.std(axis=(0, 2, 3)), rtol=1e-6)
    roots = np.sqrt(everything)
    np.testing.assert_allclose(scaling.root_sd, roots.std(axis=(0, 2, 3)), rtol=1e-6)
