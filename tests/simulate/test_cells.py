"""Cells and nuclei have the place, size and number that they are given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from vae_sci.simulate.cells import Outline, draw_nuclei, label_cells, place_centres, place_nuclei


def circle(y: float, x: float, radius: float) -> Outline:
    return Outline(np.array([y, x]), radius, np.zeros(3), np.zeros(3))


def test_centres_keep_their_distance_and_their_number() -> None:
    centres = place_centres(np.random.default_rng(0), 24, 512, 55)
    assert centres.shape == (24, 2)
    assert pdist(centres).min() >= 55
    assert centres.min() >= 0
    assert centres.max() < 512


def test_a_full_field_takes_no_more_cells() -> None:
    centres = place_centres(np.random.default_rng(0), 50, 100, 60)
    assert 1 <= len(centres) < 9


def test_cells_that_overlap_share_a_straight_border_between_equals() -> None:
    labels = label_cells([circle(50, 35, 20), circle(50, 65, 20)], 100)
    y, x = np.mgrid[:100, :100]
    left, right = np.hypot(y - 50, x - 35), np.hypot(y - 50, x - 65)
    nearer = np.where(left <= right, 1, 2)
    np.testing.assert_array_equal(labels, np.where(np.minimum(left, right) < 20, nearer, 0))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_nuclei_share_the_area_by_the_root_of_their_number(count: int) -> None:
    rng = np.random.default_rng(1)
    cell = np.ones((120, 120), np.uint16)
    areas = []
    for _ in range(20):
        nuclei = place_nuclei(rng, np.array([60.0, 60.0]), 460, count)
        mask, thickness = draw_nuclei([(1, n) for n in nuclei], cell)
        areas.append((mask > 0).sum())
        assert ((thickness > 0) == (mask > 0)).all()
        assert thickness.max() == pytest.approx(1, abs=0.02)
    assert np.mean(areas) == pytest.approx(460 * np.sqrt(count), rel=0.05)


def test_a_nucleus_does_not_leave_its_cell() -> None:
    cells = np.ones((60, 60), np.uint16)
    cells[:, 30:] = 2
    mask, thickness = draw_nuclei([(1, circle(30, 27, 10))], cells)
    assert mask[30, 29] == 1
    assert not mask[:, 30:].any()
    assert not thickness[:, 30:].any()
