"""Organelles carry the phenotype that their parameter names, and the mass they are given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, sobel

from vae_sci.simulate.optics import blur, vignette
from vae_sci.simulate.organelles import fibres, fragment, grow, mitochondria, splat
from vae_sci.simulate.recipe import Optics

SIZE = 128
CENTRES = np.array([[64.0, 36.0], [64.0, 92.0]])
MASS = np.array([2e5, 5e4])
OPTICS = Optics(
    numerical_aperture=0.5,
    wavelengths=(460, 600, 520),
    scatter=0.2,
    scatter_sigma=3,
    defocus_sigma=2.5,
    vignetting=(0.25, 0.2, 0.3),
)


@pytest.fixture
def cells() -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), np.uint16)
    for number, (cy, cx) in enumerate(CENTRES, start=1):
        labels[np.hypot(y - cy, x - cx) < 27] = number
    return labels


@pytest.fixture
def cytoplasm(cells: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = cells.copy()
    for cy, cx in CENTRES:
        labels[np.hypot(y - cy, x - cx) < 11] = 0
    return labels


def draw(cytoplasm: np.ndarray, fragmentation: float, seed: int = 0) -> np.ndarray:
    depth = distance_transform_edt(cytoplasm > 0)
    rng = np.random.default_rng(seed)
    return mitochondria(rng, cytoplasm, depth, CENTRES, np.full(2, fragmentation), MASS)


def test_fragmentation_keeps_each_cells_mass_and_makes_more_pieces(cytoplasm: np.ndarray) -> None:
    pieces, spread = [], []
    for amount in (0.0, 0.5, 1.0):
        image = draw(cytoplasm, amount)
        assert image.sum() == pytest.approx(MASS.sum())
        left = image[:, :64].sum()
        assert left == pytest.approx(MASS[0], rel=1e-3)
        seen = gaussian_filter(image[:, :64], 0.8)
        pieces.append(label(seen > 0.5 * np.quantile(seen[cytoplasm[:, :64] > 0], 0.9))[1])
        spread.append(image.sum() ** 2 / (image**2).sum())  # pixels that share the mass
    assert spread[2] < spread[0]
    assert pieces[0] < pieces[1] < pieces[2]
    assert pieces[2] > 2 * pieces[0]


def test_mitochondria_stay_in_the_cytoplasm(cytoplasm: np.ndarray) -> None:
    image = draw(cytoplasm, 0.0)
    beyond = distance_transform_edt(cytoplasm == 0) > np.sqrt(2)  # a splat's reach
    assert image[beyond].sum() == 0


def test_whole_curves_are_left_as_they_are_and_broken_ones_lose_no_point(
    cytoplasm: np.ndarray,
) -> None:
    rng = np.random.default_rng(2)
    start = np.tile([64.0, 52.0], (30, 1))
    curves = grow(rng, cytoplasm, start, rng.uniform(0, 6.28, 30), 30, 0.03)
    whole = fragment(np.random.default_rng(3), curves, np.zeros(30))
    broken = fragment(np.random.default_rng(3), curves, np.ones(30))
    np.testing.assert_allclose(whole.dots()[0], curves.dots()[0], atol=1e-9)
    assert broken.dots()[0].shape == curves.dots()[0].shape
    pixel = np.rint(curves.dots()[0]).astype(int)
    assert (cytoplasm[pixel[:, 0], pixel[:, 1]] == curves.dots()[1]).all()


def test_a_splatted_point_keeps_its_place_to_a_fraction_of_a_pixel() -> None:
    image = splat(np.array([[10.3, 20.75]]), np.array([1]), 32, np.array([6.0]))
    y, x = np.mgrid[:32, :32]
    assert image.sum() == pytest.approx(6)
    assert (image * y).sum() / 6 == pytest.approx(10.3)
    assert (image * x).sum() / 6 == pytest.approx(20.75)


def coherence(image: np.ndarray) -> float:
    """|λ1 - λ2| / (λ1 + λ2) of the structure tensor summed over the image, 0 to 1."""
    smooth = gaussian_filter(image, 1)
    gy, gx = sobel(smooth, 0), sobel(smooth, 1)
    return float(np.hypot((gx**2 - gy**2).sum(), 2 * (gx * gy).sum()) / (gx**2 + gy**2).sum())


def test_alignment_raises_the_coherence_of_fibres_and_keeps_their_mass(cells: np.ndarray) -> None:
    means = []
    for order in (0.0, 0.5, 0.95):
        drawn = [
            fibres(np.random.default_rng(s), cells, CENTRES, np.full(2, order), MASS)
            for s in range(6)
        ]
        assert all(image.sum() == pytest.approx(MASS.sum()) for image in drawn)
        means.append(np.mean([coherence(image[36:92, 8:64]) for image in drawn]))
    assert means[0] < 0.35
    assert means[0] < means[1] < means[2]
    assert means[2] > 0.7


def test_fibres_have_no_common_direction_between_cells(cells: np.ndarray) -> None:
    angles = []
    for seed in range(24):
        image = fibres(np.random.default_rng(seed), cells, CENTRES, np.full(2, 0.95), MASS)
        gy, gx = sobel(image[36:92, 8:64], 0), sobel(image[36:92, 8:64], 1)
        angles.append(np.arctan2(2 * (gx * gy).sum(), (gx**2 - gy**2).sum()))
    # The mean resultant of 24 random directions exceeds 0.55 with probability exp(-7).
    assert abs(np.mean(np.exp(1j * np.array(angles)))) < 0.55


def test_blur_keeps_the_sum_and_defocus_widens_it() -> None:
    point = np.zeros((101, 101))
    point[50, 50] = 1000
    sharp, wide = (blur(point, OPTICS, 1, 0.5, focus) for focus in (True, False))
    assert sharp.sum() == pytest.approx(1000, rel=1e-3)
    assert wide.sum() == pytest.approx(1000, rel=1e-3)
    assert wide.max() < 0.3 * sharp.max()


def test_vignetting_is_at_most_one_and_falls_by_the_recipes_fraction_in_the_corners() -> None:
    fields = vignette(np.random.default_rng(0), OPTICS, 65)
    assert fields.shape == (3, 65, 65)
    assert fields.max() <= 1
    corners = fields[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=1)
    np.testing.assert_allclose(1 - corners, OPTICS.vignetting, rtol=0.05)
