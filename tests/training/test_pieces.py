"""Augmentation, schedules, averaging and scaling, from their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vae_sci.errors import InputError
from vae_sci.training import ema, schedule
from vae_sci.training.augment import augment, disc, draw_moves, turned_disc
from vae_sci.training.scaling import measure
from vae_sci.training.stream import TileStream


def drawn(n: int, shift: int) -> torch.Tensor:
    return draw_moves(n, shift, torch.Generator().manual_seed(0))


def test_without_shift_augmentation_gives_exactly_the_eight_symmetries():
    tile = torch.arange(25, dtype=torch.int32).reshape(1, 1, 5, 5)
    turns = [torch.rot90(tile, k, (2, 3)) for k in range(4)]
    expected = {tuple(t.flatten().tolist()) for t in (*turns, *(x.flip(3) for x in turns))}
    assert len(expected) == 8
    seen = augment(tile.expand(400, -1, -1, -1), drawn(400, 0))
    assert {tuple(t.flatten().tolist()) for t in seen} == expected


def test_a_shift_moves_whole_pixels_and_mirrors_the_edge():
    tile = torch.arange(16, dtype=torch.int32).reshape(1, 1, 1, 16).expand(-1, -1, 16, -1)
    seen = augment(tile.expand(500, -1, -1, -1), drawn(500, 2))
    rows = {tuple(r) for r in seen[:, 0, 8].tolist() + seen[:, 0, :, 8].tolist()}
    by_two = (2, *range(3, 16), 14, 13)
    assert by_two in rows
    assert by_two[::-1] in rows


def test_augmentation_keeps_counts_and_channels_together():
    torch.manual_seed(0)
    tiles = torch.randint(0, 60_000, (50, 1, 8, 8), dtype=torch.int32)
    both = augment(torch.cat([tiles, tiles + 1], 1), drawn(len(tiles), 3))
    assert torch.equal(both[:, 0] + 1, both[:, 1])
    assert set(both[0, 0].flatten().tolist()) <= set(tiles[0, 0].flatten().tolist())


def blob(size: tuple[int, int], y: float, x: float) -> torch.Tensor:
    """A smooth spot (1, 1, H, W) at (y, x), pixels from the centre."""
    rows, columns = (torch.arange(n) + 0.5 - n / 2 for n in size)
    return torch.exp(-((rows[:, None] - y) ** 2 + (columns - x) ** 2) / 18)[None, None]


@pytest.mark.parametrize("size", [(48, 48), (48, 64), (64, 48)])
@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, 3.0])
def test_a_disc_turns_about_its_centre_by_the_angle(size: tuple[int, int], angle: float):
    turned = turned_disc(blob(size, 3.0, 12.0), torch.tensor([angle]))
    cos, sin = np.cos(angle), np.sin(angle)
    expected = disc(blob(size, cos * 3 - sin * 12, sin * 3 + cos * 12))
    torch.testing.assert_close(turned, expected, atol=0.03, rtol=0)


def test_no_view_on_a_disc_tells_its_angle_by_its_corners():
    x = torch.ones(2, 3, 32, 32)
    turned = turned_disc(x, torch.tensor([0.0, 0.5]))
    inside = disc(x) > 0
    assert not turned[~inside].any()
    assert 0.75 < float(inside.float().mean()) < 0.8  # π/4
    torch.testing.assert_close(turned[inside], x[inside], atol=0.15, rtol=0)


def test_the_step_size_rises_to_its_peak_and_falls_to_a_hundredth():
    rates = [schedule.learning_rate(s, 1000, 0.1, 0.1) for s in range(1000)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) in (99, 100)
    assert rates[-1] == pytest.approx(0.001, rel=0.01)
    assert np.all(np.diff(rates[100:]) <= 0)


def test_beta_rises_linearly_from_zero_and_stays():
    assert schedule.beta(0, 100, 2.0, 0.5) == 0
    assert schedule.beta(25, 100, 2.0, 0.5) == 1
    assert schedule.beta(50, 100, 2.0, 0.5) == schedule.beta(99, 100, 2.0, 0.5) == 2
    assert schedule.beta(0, 100, 2.0, 0.0) == 2


def test_the_average_of_constant_weights_is_that_constant_and_follows_a_change():
    average, current = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(average.weight, 0.0)
    torch.nn.init.constant_(current.weight, 1.0)
    for step in range(2000):
        ema.update(average, current, 0.99, step)
    assert float(average.weight) == pytest.approx(1.0, abs=1e-6)
    torch.nn.init.constant_(current.weight, 2.0)
    ema.update(average, current, 0.99, 5000)
    assert float(average.weight) == pytest.approx(1.01, abs=1e-4)


def test_scaling_of_no_tiles_says_where_to_look():
    with pytest.raises(InputError, match="ledger"):
        measure(TileStream([]), TileStream([]))
