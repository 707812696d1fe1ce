"""The camera's line is found again, in simulated cells, in frames, and in what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import correlate1d, gaussian_filter

from vae_sci.errors import InputError
from vae_sci.images.calibrate import Calibration, calibrate
from vae_sci.images.patches import IMAGE, Evidence
from vae_sci.images.photon_transfer import dark_level, photon_transfer
from vae_sci.images.read import read_frames
from vae_sci.simulate.camera import expose
from vae_sci.simulate.optics import blur
from vae_sci.simulate.recipe import Camera, read_recipe
from vae_sci.simulate.screen import draw_field, generator, simulate_plate

RECIPES = Path(__file__).parents[2] / "resources" / "simulate"
CAMERAS = [  # gain, offset, read noise (electrons), bits
    (1.0, 100, 3, 12),
    (0.25, 10, 6, 12),
    (2.2, 400, 1.5, 16),
    (6.0, 100, 2, 12),  # saturates
    (0.1, 50, 10, 12),  # rounding is a tenth of the noise
    (1.0, 2, 3, 12),  # noise is cut at 0
]


def camera(gain: float, offset: float, read_noise: float, bits: int = 16) -> Camera:
    return Camera(gain=gain, offset=offset, read_noise=read_noise, bits=bits, dark_frames=0)


@pytest.fixture(scope="module")
def cells() -> np.ndarray:
    """Light of fields of simulated cells, (N, C, H, W) electrons."""
    recipe = read_recipe(RECIPES / "screen.yaml")
    fields = []
    for k in range(8):
        field = draw_field(generator(recipe, "plate1", f"field {k}"), recipe, "DMSO", 0)
        seen = [
            blur(field.light[c], recipe.optics, c, recipe.fields.pixel_size, field.in_focus)
            for c in range(3)
        ]
        fields.append(np.stack(seen) + recipe.brightness.background)
    return np.stack(fields)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """One scene with structure down to single pixels, (192, 192) electrons."""
    rng = np.random.default_rng(8)
    smooth = gaussian_filter(rng.standard_normal((192, 192)), 12)
    return 300 * np.exp(smooth / smooth.std() + 0.2 * rng.standard_normal((192, 192)))


def test_differences_see_noise_and_no_polynomial() -> None:
    y, x = np.mgrid[:64, :64]
    evidence = Evidence()
    evidence.add((y**2 + 3 * x * y + x)[None])
    smooth = evidence.patches()
    assert smooth is not None
    assert smooth.variance.max() < 1e-9
    evidence = Evidence()
    evidence.add(np.rint(np.random.default_rng(0).normal(5000, 40, (20, 128, 128))).astype(int))
    noise = evidence.patches()
    assert noise is not None
    for kind in range(len(IMAGE)):
        assert noise.variance[kind].mean() == pytest.approx(1600, rel=0.02)
        assert noise.check[kind].mean() == pytest.approx(1600, rel=0.02)
    assert (noise.lowest < noise.mean).all()
    assert (noise.highest > noise.mean).all()


def test_mean_and_variance_belong_together_on_a_gradient() -> None:
    """Where the variance of pixels is 2·mean, so is that of patches, however steep the edge."""
    y = np.arange(64.0)[:, None] * np.ones(64)
    steep = np.where(y < 32, 100.0, 3000.0) + 5 * y
    evidence = Evidence()
    noise = np.random.default_rng(0).standard_normal((400, 64, 64)) * np.sqrt(2 * steep)
    # Noise alone makes the difference; its mean is that of the light.
    evidence.add(np.rint(noise).astype(int))
    light = Evidence()
    light.add(np.rint(steep)[None].astype(int))
    found, expected = evidence.patches(), light.patches()
    assert found is not None
    assert expected is not None
    variance = found.variance[0].reshape(400, -1).mean(axis=0)
    np.testing.assert_allclose(variance, 2 * expected.mean, rtol=0.15)
    assert np.ptp(expected.mean) > 2500


@pytest.mark.parametrize("values", CAMERAS)
def test_the_gain_is_found_in_cells_alone(cells: np.ndarray, values: tuple) -> None:
    gain, offset, read_noise, bits = values
    grey = expose(np.random.default_rng(2), cells, camera(*values))
    constant = (gain * read_noise) ** 2 + 1 / 12 - gain * offset
    for line in photon_transfer(grey):
        assert line.along == "both axes"
        assert line.gain.value == pytest.approx(gain, rel=0.05)
        assert line.gain.low < line.gain.value < line.gain.high
        # At the dimmest patches, where the line is known best.
        dim = line.mean_range[0]
        assert line.gain.value * dim + line.constant.value == pytest.approx(
            gain * dim + constant, rel=0.05
        )
        assert line.step == 1
        assert line.ceiling in (None, 2**bits - 1)
        assert (line.saturated > 0) == (line.ceiling is not None)


def test_dim_areas_cut_at_zero_do_not_bend_the_line() -> None:
    light = np.repeat(np.geomspace(0.5, 200, 32), 16)[:, None] * np.ones(512)
    grey = expose(np.random.default_rng(2), light, camera(1, 0, 4))
    (line,) = photon_transfer(grey[None, None])
    assert line.at_zero > 0.05
    assert not line.zeros_kept
    assert line.gain.value == pytest.approx(1, rel=0.05)
    assert line.constant.low < 16 + 1 / 12 < line.constant.high
    (all_dim,) = photon_transfer(grey[None, None, :200])
    assert all_dim.zeros_kept


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("values", CAMERAS)
def test_dark_frames_tell_offset_and_read_noise(values: tuple, count: int) -> None:
    gain, offset, read_noise, _ = values
    frames = expose(np.random.default_rng(3), np.zeros((count, 256, 256)), camera(*values))
    dark = dark_level(frames)
    assert dark.offset.value == pytest.approx(offset, rel=0.05)
    found = np.sqrt(dark.variance.value - 1 / 12) / gain
    assert found == pytest.approx(read_noise, rel=0.05)
    assert dark.offset.low <= dark.offset.value <= dark.offset.high
    assert dark.variance.low <= dark.variance.value <= dark.variance.high


def test_a_simulated_plate_is_calibrated_from_its_files(tmp_path: Path) -> None:
    recipe = read_recipe(RECIPES / "tiny.yaml")
    simulate_plate(recipe, "tiny2", tmp_path / "tiny2")
    truth = json.loads((tmp_path / "tiny2" / "truth" / "camera.json").read_text())
    images = sorted((tmp_path / "tiny2" / "images").glob("*.tif"))
    dark = sorted((tmp_path / "tiny2" / "dark").glob("*.tif"))

    (alone,) = calibrate(images).channels
    assert alone.line.gain.value == pytest.approx(truth["gain"], rel=0.05)
    assert alone.read_noise is None
    assert "cannot be known without dark frames" in alone.unknown
    assert alone.least_offset is not None
    assert 0.7 * truth["offset"] < alone.least_offset.value < truth["offset"]

    seen: list[tuple[int, int]] = []
    found = calibrate(images, dark, progress=lambda done, total: seen.append((done, total)))
    (channel,) = found.channels
    assert seen[-1] == (len(images) + len(dark),) * 2
    assert channel.line.gain.value == pytest.approx(truth["gain"], rel=0.05)
    assert channel.offset is not None
    assert channel.offset.value == pytest.approx(truth["offset"], rel=0.05)
    assert channel.read_noise is not None
    grey = truth["gain"] * truth["read_noise"]
    assert channel.read_noise.value == pytest.approx(grey, rel=0.05)
    assert channel.read_noise.low <= channel.read_noise.value <= channel.read_noise.high
    # The line passes through the dark frames.
    there = channel.line.gain.value * channel.offset.value + channel.line.constant.value
    assert there == pytest.approx(channel.read_noise.value**2 + 1 / 12)
    # A narrower interval than from the images alone.
    width = [np.ptp(line[1:]) for line in (channel.line.gain, alone.line.gain)]
    assert width[0] < width[1]

    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))["channels"][0]
    for name in ("gain", "line_constant", "offset", "read_noise"):
        assert set(record[name]) == {"value", "low", "high"}
    unknown = calibrate(images).to_dict()["channels"][0]
    assert unknown["offset"] is None
    assert unknown["read_noise"] is None


def test_intervals_hold_the_truth(cells: np.ndarray) -> None:
    values = (1.3, 100, 3, 16)
    light = cells[:2, 2:, :256, :256]
    rng = np.random.default_rng(4)
    lines = [photon_transfer(expose(rng, light, camera(*values)))[0] for _ in range(40)]
    held = np.mean([line.gain.low <= 1.3 <= line.gain.high for line in lines])
    assert held >= 0.8
    spread = np.std([line.gain.value for line in lines])
    widths = [(line.gain.high - line.gain.low) / 3.92 for line in lines]
    assert 0.6 < spread / np.mean(widths) < 1.6


def test_same_seed_same_line(cells: np.ndarray) -> None:
    grey = expose(np.random.default_rng(5), cells[:2, :1], camera(1, 100, 3))
    first, second, other = (photon_transfer(grey, seed=seed)[0] for seed in (0, 0, 1))
    assert first.gain == second.gain
    assert first.gain.value == other.gain.value
    assert first.gain.low != other.gain.low


def test_shifted_counts_keep_their_unit(cells: np.ndarray) -> None:
    grey = expose(np.random.default_rng(6), cells[:3, :1], camera(0.5, 100, 3, 12))
    (plain,), (shifted,) = photon_transfer(grey), photon_transfer(grey * np.uint16(16))
    assert (plain.step, shifted.step) == (1, 16)
    assert shifted.gain.value == pytest.approx(16 * plain.gain.value)
    assert shifted.constant.value == pytest.approx(256 * plain.constant.value)


def test_repeated_frames_ignore_texture_lamp_and_hot_pixels(scene: np.ndarray) -> None:
    rng = np.random.default_rng(7)
    lamp = np.linspace(1.05, 0.95, 12)[:, None, None]
    grey = expose(rng, scene * lamp, camera(1.7, 100, 3))
    grey[:, ::40, ::40] = rng.integers(100, 60000, grey[:, ::40, ::40].shape)
    (line,) = photon_transfer(grey[:, None], repeated=True)
    assert line.gain.value == pytest.approx(1.7, rel=0.03)
    assert line.check is not None
    assert line.check.value == pytest.approx(1, abs=0.05)
    (single,) = photon_transfer(grey[:1, None])
    assert single.gain.value > 2 * 1.7  # texture of single pixels is noise to one image


def told(grey: np.ndarray, tmp_path: Path, repeated: bool) -> Calibration:
    tifffile.imwrite(tmp_path / "stack.ome.tif", grey, ome=True, metadata={"axes": "TYX"})
    return calibrate([tmp_path / "stack.ome.tif"], repeated=repeated)


def test_frames_that_are_not_independent_are_told(scene: np.ndarray, tmp_path: Path) -> None:
    grey = expose(np.random.default_rng(8), np.stack([scene] * 13), camera(2, 100, 3))
    (good,) = told(grey, tmp_path, repeated=True).channels
    assert any("noise is independent" in remark for remark in good.remarks)
    averaged = np.rint((grey[1:].astype(float) + grey[:-1]) / 2).astype(np.uint16)
    (bad,) = told(averaged, tmp_path, repeated=True).channels
    assert bad.line.check is not None
    assert bad.line.check.value == pytest.approx(2, rel=0.05)  # D(1) = σ²/2 · 1/2, D(2) = σ²/2
    assert any("not only by their common scene" in remark for remark in bad.remarks)
    moving = np.stack([np.roll(scene, k, axis=1) for k in range(13)])
    (moved,) = told(
        expose(np.random.default_rng(8), gaussian_filter(moving, (0, 3, 3)), camera(2, 100, 3)),
        tmp_path,
        repeated=True,
    ).channels
    assert moved.line.check is not None
    assert moved.line.check.value > 1.1


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("kernel", [(0.6, 0.4), (-0.1, 1.2, -0.1)])
def test_noise_correlated_along_one_axis(
    cells: np.ndarray, axis: int, kernel: tuple[float, ...]
) -> None:
    """Read-out that smooths or overshoots: the variance of pixels is g·Σk², along either axis."""
    rng = np.random.default_rng(9)
    light = gaussian_filter(cells[:, 0], (0, 2, 2))
    noise = rng.poisson(light) - light + 3 * rng.standard_normal(light.shape)
    grey = np.rint(100 + light + correlate1d(noise, kernel, axis=axis)).astype(np.uint16)
    (line,) = photon_transfer(grey[:, None])
    assert line.along == {1: "rows", 2: "columns"}[axis]
    expected = np.square(kernel).sum()
    assert line.gain.value == pytest.approx(expected, rel=0.08)
    assert abs(line.gains["both axes"] / expected - 1) > 0.15


def test_cells_of_other_gains_are_told(cells: np.ndarray, tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    paths = []
    for k, gain in enumerate((0.5, 1, 2, 0.7, 1.4)):
        grey = expose(rng, cells[k, 0], camera(gain, 20, 2))
        paths.append(tmp_path / f"{k}.tif")
        tifffile.imwrite(paths[-1], grey)
    (mixed,) = calibrate(paths).channels
    assert mixed.line.between_images is not None
    assert mixed.line.between_images > 0.2
    assert any("at equal brightness" in remark for remark in mixed.remarks)


def test_variance_that_falls_with_the_mean_is_told_not_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    mean = 200 + 800 * gaussian_filter(rng.random((512, 512)), 20) / 0.52
    mean = 100 + 900 * (mean - mean.min()) / np.ptp(mean)
    grey = np.rint(mean + rng.standard_normal(mean.shape) * np.sqrt(300 - 0.25 * mean))
    tifffile.imwrite(tmp_path / "x.tif", grey.astype(np.uint16))
    (channel,) = calibrate([tmp_path / "x.tif"]).channels
    assert channel.line.gain.value == pytest.approx(-0.25, rel=0.2)
    assert channel.line.gain.high < 0
    assert channel.least_offset is None
    assert "do not show a camera's line" in channel.unknown
    assert any("by the images alone the gain is" in remark for remark in channel.remarks)


def test_images_compressed_with_loss_are_told(cells: np.ndarray, tmp_path: Path) -> None:
    grey = expose(np.random.default_rng(12), cells[0, 0] / 6, camera(1, 20, 2, 8))
    tifffile.imwrite(
        tmp_path / "x.tif",
        np.clip(grey, 0, 255).astype(np.uint8),
        compression="jpeg",
        compressionargs={"level": 60},
    )
    (channel,) = calibrate([tmp_path / "x.tif"]).channels
    assert channel.remarks
    assert not channel.line.gain.low <= 1 <= channel.line.gain.high


def test_flat_images_do_not_pretend(tmp_path: Path) -> None:
    grey = expose(np.random.default_rng(13), np.full((256, 256), 500.0), camera(1, 100, 3))
    tifffile.imwrite(tmp_path / "x.tif", grey)
    (channel,) = calibrate([tmp_path / "x.tif"]).channels
    assert any("brightness hardly varies" in remark for remark in channel.remarks)


@pytest.mark.parametrize(
    "image",
    [
        np.full((64, 64), 7, np.uint16),
        np.full((64, 64), 4095, np.uint16),
        np.arange(144, dtype=np.uint16).reshape(12, 12),
        np.random.default_rng(0).poisson(50, (32, 32)).astype(np.uint16),
    ],
    ids=["constant", "saturated", "smaller than a patch", "few patches"],
)
def test_images_that_tell_too_little_are_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="40 patches"):
        photon_transfer(image[None, None])


def test_dark_frames_that_are_nearly_all_zero_are_refused() -> None:
    frames = expose(np.random.default_rng(0), np.zeros((3, 128, 128)), camera(1, 0, 0.3))
    with pytest.raises(InputError, match="not cut at zero"):
        dark_level(frames)


@pytest.mark.parametrize(
    ("shape", "axes", "repeated", "expected"),
    [
        ((20, 24), "YX", False, (1, 1, 20, 24)),
        ((3, 20, 24), "CYX", True, (1, 3, 20, 24)),
        ((5, 20, 24), "TYX", False, (5, 1, 20, 24)),
        ((5, 3, 20, 24), "TCYX", False, (5, 3, 20, 24)),
        ((3, 5, 20, 24), "CZYX", True, (5, 3, 20, 24)),
        ((5, 20, 24), None, True, (5, 1, 20, 24)),
        ((5, 20, 24), None, False, (1, 5, 20, 24)),
    ],
)
def test_axes_of_frames(
    tmp_path: Path, shape: tuple, axes: str | None, repeated: bool, expected: tuple
) -> None:
    pixels = np.random.default_rng(0).integers(0, 999, shape).astype(np.uint16)
    kind = {"metadata": None} if axes is None else {"ome": True, "metadata": {"axes": axes}}
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="minisblack", **kind)
    frames = read_frames(tmp_path / "x.tif", repeated)
    assert frames.shape == expected
    last = pixels if axes is None else pixels.reshape(-1, 20, 24)
    assert (frames[-1, -1] == last[-1]).all()


def test_files_of_one_frame_each_are_one_sequence(scene: np.ndarray, tmp_path: Path) -> None:
    grey = expose(np.random.default_rng(14), np.stack([scene] * 3), camera(1.2, 100, 3))
    paths = [tmp_path / f"{k}.tif" for k in range(3)]
    for path, frame in zip(paths, grey, strict=True):
        tifffile.imwrite(path, frame)
    (files,) = calibrate(paths, repeated=True).channels
    (stack,) = told(grey, tmp_path, repeated=True).channels
    assert files.line.gain == stack.line.gain
    with pytest.raises(InputError, match="one frame"):
        calibrate(paths[:1], repeated=True)


@pytest.mark.realdata
def test_real_frames_of_a_known_camera(real_data: Callable[[str], Path]) -> None:
    """A smooth disc and cells by one EMCCD: its row-wise read-out is found, and the lines agree."""
    folder = real_data("noise_frames")
    names = ("pn2v_20190726_wf_FD0000.tif", "convallaria_pn2v_20190520.tif")
    disc, cells = (calibrate([folder / name]).channels[0] for name in names)
    assert disc.line.along == cells.line.along == "columns"
    # By residuals of polynomials in patches of the disc, without any stencil: 52.
    assert disc.line.gain.value == pytest.approx(52, rel=0.03)
    assert cells.line.gain.value == pytest.approx(disc.line.gain.value, rel=0.1)
    for channel in (disc, cells):
        assert channel.line.gain.low < channel.line.gain.value < channel.line.gain.high
        assert "cannot be known without dark frames" in channel.unknown


@pytest.mark.realdata
def test_real_time_series(real_data: Callable[[str], Path]) -> None:
    path = real_data("noise_frames") / "eb3_scmos_stack.ome.tif"
    frames, single = (calibrate([path], repeated=r).channels[0] for r in (True, False))
    assert frames.frame_correlation == pytest.approx(0.33, abs=0.02)
    assert any("noise is independent" in remark for remark in frames.remarks)
    assert frames.line.gain.value == pytest.approx(single.line.gain.value, rel=0.05)


@pytest.mark.realdata
def test_real_images_that_were_scaled_one_by_one(real_data: Callable[[str], Path]) -> None:
    paths = sorted((real_data("w2s_filaments") / "noisy").glob("*.tif"))
    found = calibrate(paths)
    assert len(found.channels) == 3
    for channel in found.channels:
        assert channel.line.gain.low > 0
        assert any("at equal brightness" in remark for remark in channel.remarks)


@pytest.mark.realdata
def test_real_shifted_counts(real_data: Callable[[str], Path]) -> None:
    paths = sorted(real_data("bbbc021_fields").glob("*_w1*.tif"))
    (channel,) = calibrate(paths).channels
    assert channel.line.step == 16
    assert channel.line.along == "columns"
    assert any("steps of 16" in remark for remark in channel.remarks)
