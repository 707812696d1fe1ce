"""The flat field: on fields of known light, what was planted comes back, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from vae_sci.config import ImagesSettings, PlateRow
from vae_sci.errors import ContractError, InputError
from vae_sci.images.flat_field import (
    FEWEST,
    FlatField,
    block_means,
    estimate_flat_field,
    fields_wanted,
    plate_flat_field,
    read_flat_field,
)
from vae_sci.images.index import index_plate
from vae_sci.report.flat_field import flat_field

SIZE = 192
OFFSET = 100.0


def vignette(loss: float, centre: tuple[float, float] = (0.1, -0.15)) -> NDArray[np.float64]:
    """Light (SIZE, SIZE), mean 1, that falls to 1 − loss in the corners."""
    axis = np.linspace(-1, 1, SIZE)
    far = (axis[:, None] - centre[0]) ** 2 + (axis[None, :] - centre[1]) ** 2
    light = 1 - loss * far / 2
    return light / light.mean()


def fields(
    flat: NDArray[np.float64], count: int = 60, seed: int = 0, cells: int = 12
) -> list[NDArray[np.uint16]]:
    """Fields (1, SIZE, SIZE) of discs, mostly in the middle, on 12 electrons of background."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    made = []
    for _ in range(count):
        light = np.zeros((SIZE, SIZE))
        for middle in SIZE * rng.beta(2, 2, (cells, 2)):
            far = np.hypot(y - middle[0], x - middle[1])
            if not light[far < 24].any():
                light[far < rng.uniform(8, 12)] = 150 * np.exp(rng.normal(0, 0.1))
        light = flat * (gaussian_filter(light, 1.0) + 12)
        made.append(np.rint(OFFSET + rng.poisson(light)[None]).astype(np.uint16))
    return made


def median_error(gain: NDArray[np.floating], flat: NDArray[np.float64]) -> float:
    return float(np.median(np.abs(gain / flat - 1)))


@pytest.mark.parametrize("seed", [1, 2])
def test_vignetting_is_recovered_though_cells_keep_to_the_middle(seed: int):
    flat = vignette(0.3)
    found = estimate_flat_field(fields(flat, seed=seed))
    assert found.used.all()
    assert median_error(found.gain[0], flat) < 0.02
    assert found.strength[0] == pytest.approx(np.ptp(flat), abs=3 * found.uncertainty[0])
    assert found.offset[0] == pytest.approx(OFFSET, abs=4)


def test_a_known_offset_needs_no_cells():
    flat = vignette(0.3)
    found = estimate_flat_field(fields(flat, cells=0), offset=[OFFSET])
    assert median_error(found.gain[0], flat) < 0.005
    assert found.offset.tolist() == [OFFSET]


def test_a_channel_that_is_sure_of_the_offset_helps_one_that_is_not():
    flat = vignette(0.3)
    sure = fields(flat, seed=1)
    poor = fields(flat, seed=2, cells=3)
    alone = estimate_flat_field(poor)
    both = estimate_flat_field([np.concatenate(pair) for pair in zip(sure, poor, strict=True)])
    assert both.uncertainty[1] < alone.uncertainty[0] / 1.5
    assert median_error(both.gain[1], flat) < 0.02
    assert both.offset[1] == pytest.approx(both.offset[0], abs=0.5)


def test_cameras_of_two_offsets_are_told_apart():
    flat = vignette(0.3)
    pairs = zip(fields(flat, seed=1), fields(flat, seed=2), strict=True)
    found = estimate_flat_field([np.concatenate([a, b + np.uint16(200)]) for a, b in pairs])
    np.testing.assert_allclose(found.offset, [OFFSET, OFFSET + 200], atol=4)


def test_shapes_other_than_round_are_recovered():
    axis = np.linspace(-1, 1, SIZE)
    flat = (1 + 0.15 * axis)[:, None] * np.cos(0.5 * axis)[None, :] ** 4
    found = estimate_flat_field(fields(flat / flat.mean(), seed=3))
    assert median_error(found.gain[0], flat / flat.mean()) < 0.02


@pytest.mark.parametrize("seed", [1, 2])
def test_even_light_is_left_as_it_is(seed: int):
    found = estimate_flat_field(fields(np.ones((SIZE, SIZE)), seed=seed))
    assert not found.used.any()
    assert (found.gain == 1).all()
    image = fields(np.ones((SIZE, SIZE)), count=1)[0]
    np.testing.assert_array_equal(found.correct(image), image)


def test_too_few_fields_and_fields_without_anything_change_nothing():
    few = estimate_flat_field(fields(vignette(0.3), count=FEWEST - 1))
    empty = estimate_flat_field([np.full((2, 40, 40), 7, np.uint16)] * FEWEST)
    known = estimate_flat_field([np.full((2, 40, 40), 7, np.uint16)] * FEWEST, [7.0, 3.0])
    for found in (few, empty, known):
        assert not found.used.any()
        assert (found.gain == 1).all()


def test_correction_undoes_the_light_and_keeps_the_offset():
    flat = vignette(0.4)
    one = np.array([True])
    field = FlatField(flat[None].astype(np.float32), np.array([OFFSET]), one * 0.4, one * 0.0, one)
    light = np.full((SIZE, SIZE), 50.0)
    np.testing.assert_allclose(field.correct((OFFSET + flat * light)[None]), OFFSET + 50, rtol=1e-5)


def test_blocks_average_every_pixel_once():
    field = np.random.default_rng(0).integers(0, 4096, (2, 30, 41)).astype(np.uint16)
    means = block_means(field)
    assert means.shape == (2, 3, 5)
    assert means[1, 1, 4] == pytest.approx(field[1, 10:20, 32:41].mean(), rel=1e-6)
    whole = block_means(field[:, :5, :5])
    np.testing.assert_allclose(whole[:, 0, 0], field[:, :5, :5].mean((1, 2)), rtol=1e-6)


def test_larger_fields_need_fewer_of_them():
    assert fields_wanted(512, 512) == 4 * fields_wanted(1024, 1024)
    assert fields_wanted(10**5, 10**5) == FEWEST


def test_a_plate_keeps_its_flat_field(tmp_path: Path):
    flat = estimate_flat_field(fields(vignette(0.3)))
    flat.write(tmp_path / "P.npz")
    read = read_flat_field(tmp_path / "P.npz", (1, SIZE, SIZE))
    for name in ("gain", "offset", "strength", "uncertainty", "used"):
        np.testing.assert_array_equal(getattr(read, name), getattr(flat, name))
    with pytest.raises(ContractError, match=r"P\.npz"):
        read_flat_field(tmp_path / "P.npz", (1, SIZE, SIZE + 1))
    (tmp_path / "P.npz").write_bytes(b"not an archive")
    with pytest.raises(ContractError, match=r"P\.npz"):
        read_flat_field(tmp_path / "P.npz", (1, SIZE, SIZE))


def index_of(folder: Path, sizes: list[int]) -> Path:
    """The table of a plate with a field of 2 channels and of each size, under `folder`."""
    for k, size in enumerate(sizes):
        for channel in (1, 2):
            image = np.random.default_rng(k).integers(90, 110, (size, size)).astype(np.uint16)
            tifffile.imwrite(folder / f"P_B02_s{k + 1}_w{channel}.tif", image)
    (folder / "platemap.csv").write_text("well,treatment,concentration,control\nB02,x,0,true\n")
    row = PlateRow(plate="P", images=str(folder), platemap=str(folder / "platemap.csv"))
    index_plate(row, ImagesSettings(pixel_size_um=1.0), folder / "P.parquet")
    return folder / "P.parquet"


def test_a_plate_is_read_field_by_field(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    index = index_of(tmp_path, [40, 40, 40])
    found, channels = plate_flat_field(
        "P", index, ImagesSettings(), progress=lambda *at: seen.append(at)
    )
    assert (found.gain.shape, channels) == ((2, 40, 40), ["1", "2"])
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert "not corrected" in flat_field("P", found, channels).note
    known, _ = plate_flat_field("P", index, ImagesSettings(offset=90))
    assert known.offset.tolist() == [90, 90]


def test_fields_of_two_sizes_have_no_flat_field(tmp_path: Path):
    with pytest.raises(InputError, match="40 × 40 and 48 × 48"):
        plate_flat_field("P", index_of(tmp_path, [40, 48]), ImagesSettings())
