"""The grid of counts: read off the data, kept in the model's file, and never left silently."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from vae_sci.errors import ContractError, InputError
from vae_sci.likelihoods import GreyLevels, detect_grey_levels
from vae_sci.likelihoods.grey_levels import need_step


def blocks(dtype: type, highest: list[int], shift: int = 1) -> Iterator[np.ndarray]:
    """Three blocks with one channel per entry of `highest`, which is reached once."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        block = rng.integers(0, np.array(highest)[:, None, None], size=(4, len(highest), 9, 9))
        block[1, :, 3, 3] = highest
        yield (block * shift).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "highest", "shift", "step", "ceiling"),
    [
        (np.uint8, 255, 1, 1, 255),
        (np.uint8, 90, 1, 1, 255),
        (np.uint16, 200, 1, 1, 255),
        (np.uint16, 900, 1, 1, 1023),
        (np.uint16, 3100, 1, 1, 4095),
        (np.uint16, 4095, 1, 1, 4095),
        (np.uint16, 4096, 1, 1, 16383),
        (np.uint16, 40000, 1, 1, 65535),
        (np.uint16, 4095, 16, 16, 65520),
        (np.uint16, 2100, 16, 16, 65520),
        (np.uint16, 255, 257, 257, 65535),
    ],
)
def test_detects_step_and_ceiling(
    dtype: type, highest: int, shift: int, step: int, ceiling: int
) -> None:
    found = detect_grey_levels(blocks(dtype, [highest], shift))
    assert found == GreyLevels((0,), (step,), (ceiling,))


def test_a_dim_channel_has_the_ceiling_of_its_camera() -> None:
    found = detect_grey_levels(blocks(np.uint16, [4000, 700], 16))
    assert found == GreyLevels((0, 0), (16, 16), (65520, 65520))
    assert found.n_levels == (4096, 4096)


def test_a_ceiling_never_exceeds_the_data_type() -> None:
    mixed = np.concatenate(
        [next(blocks(np.uint16, [60000])), next(blocks(np.uint16, [4000], 16))], axis=1
    )
    assert detect_grey_levels([mixed]).highest == (65535, 65520)


def test_constant_channels_have_step_one() -> None:
    block = np.zeros((2, 3, 4, 4), dtype=np.uint16)
    block[:, 1] = 48
    block[0, 2, 0, 0] = 700
    assert detect_grey_levels([block]).step == (1, 1, 700)
    assert detect_grey_levels([block[:, :2]]) == GreyLevels((0, 0), (1, 1), (255, 255))


def test_a_step_seen_only_between_blocks_counts() -> None:
    pair = [np.full((1, 1, 2, 2), value, dtype=np.uint16) for value in (32, 48)]
    assert detect_grey_levels(pair).step == (16,)
    assert detect_grey_levels([*pair, np.full((1, 1, 2, 2), 49, dtype=np.uint16)]).step == (1,)


def test_a_grid_need_not_pass_through_zero() -> None:
    shifted = [block + 5 for block in blocks(np.uint16, [1000], 16)]
    assert detect_grey_levels(shifted) == GreyLevels((5,), (16,), (5 + 16 * 1023,))


def test_negative_counts_have_a_floor() -> None:
    block = np.array([-300, 5, 900, 3], dtype=np.int16).reshape(1, 1, 2, 2)
    found = detect_grey_levels([block])
    assert found == GreyLevels((-1023,), (1,), (1023,))
    assert found.to_steps(block).flatten().tolist() == [723, 1028, 1923, 1026]


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [np.zeros((1, 1, 2, 2), dtype=np.float32)],
        [np.zeros((1, 2, 2), dtype=np.uint8)],
        [np.array([[[[0, 1, 70001]]]], dtype=np.uint32)],
    ],
)
def test_what_is_not_counts_is_refused(bad: list[np.ndarray]) -> None:
    with pytest.raises(InputError):
        detect_grey_levels(bad)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_steps_and_back_is_exact(dtype: type) -> None:
    step = 1 if dtype is np.uint8 else 7
    n_levels = min(4096, np.iinfo(dtype).max // step + 1)
    grid = GreyLevels((0,), (step,), ((n_levels - 1) * step,))
    counts = (np.arange(n_levels) * step).astype(dtype).reshape(1, 1, 1, -1)
    levels = grid.to_steps(counts)
    assert levels.dtype == torch.int32
    assert levels.flatten().tolist() == list(range(n_levels))
    np.testing.assert_array_equal(grid.to_counts(levels).numpy(), counts.astype(np.int64))


def test_all_16_bits_survive() -> None:
    counts = np.arange(65536, dtype=np.uint16).reshape(1, 1, 256, 256)
    grid = GreyLevels((0,), (1,), (65535,))
    levels = grid.to_steps(torch.from_numpy(counts))
    assert {257, 4095, 65535} <= set(levels.flatten().tolist())
    assert (grid.to_counts(levels).numpy() == counts).all()
    assert grid.to_counts(torch.tensor([[[256.5]]])).item() == 256.5


@pytest.mark.parametrize(("value", "count"), [(33, 1), (65536, 1), (-16, 1)])
def test_off_grid_says_which_channel_and_value(value: int, count: int) -> None:
    grid = GreyLevels((0, 0), (1, 16), (4095, 65520))
    counts = np.zeros((3, 2, 4, 4), dtype=np.int32)
    counts[2, 1, 3, 1] = value
    with pytest.raises(InputError) as caught:
        grid.to_steps(counts)
    assert caught.value.required == "channel 1: counts 0, 16, … 65520 (step 16)"
    assert caught.value.found.startswith(f"{value} in channel 1 of tile 2, at y 3, x 1 ({count} ")
    assert "to do: leave out the image" in str(caught.value)


def test_floats_and_wrong_shapes_are_refused() -> None:
    grid = GreyLevels((0,), (1,), (255,))
    with pytest.raises(InputError, match="float32"):
        grid.to_steps(torch.zeros(1, 1, 2, 2))
    with pytest.raises(InputError, match=r"\(1, 2, 2, 2\)"):
        grid.to_steps(np.zeros((1, 2, 2, 2), dtype=np.uint8))


def test_survives_json() -> None:
    grid = detect_grey_levels(blocks(np.uint16, [4000, 300], 16))
    assert GreyLevels.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid
    with pytest.raises(ContractError, match="lowest, step, highest"):
        GreyLevels.from_dict({"step": [1]})


@pytest.mark.parametrize(
    "numbers", [((), (), ()), ((0,), (0,), (255,)), ((0,), (16,), (255,)), ((0, 0), (1,), (255,))]
)
def test_no_grid_is_no_grid(numbers: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ContractError, match="a whole number of steps"):
        GreyLevels(*numbers)


def test_counts_of_a_coarser_camera_are_refused_though_they_lie_on_the_grid():
    levels = GreyLevels((0, 0), (1, 1), (65535, 65535))
    counts = np.random.default_rng(0).integers(0, 4096, (4, 2, 16, 16))
    need_step(levels, counts)
    counts[:, 1] *= 16
    levels.to_steps(counts)  # every value is a level
    with pytest.raises(InputError, match=r"channel 1: counts in steps of 1[\s\S]*steps of 16"):
        need_step(levels, counts)


def test_a_channel_of_few_distinct_counts_is_not_judged():
    need_step(GreyLevels((0,), (1,), (255,)), np.arange(0, 64, 2).reshape(1, 1, 4, 8))
