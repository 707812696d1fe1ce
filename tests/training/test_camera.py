"""The camera's noise in levels, from tiles and from a calibration's file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vae_sci.config import LikelihoodSettings
from vae_sci.errors import InputError
from vae_sci.likelihoods import GreyLevels
from vae_sci.tiles.store import write_store
from vae_sci.training.camera import camera_noise
from vae_sci.training.stream import Source, TileStream

LEVELS = GreyLevels((16, 0), (16, 1), (16 + 4095 * 16, 4095))
CAMERA = LikelihoodSettings(name="camera")


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> TileStream:
    """300 smooth, noisy tiles: gain 3 levels above an offset of 40; channel 0 in steps of 16."""
    random = np.random.default_rng(0)
    light = random.uniform(5, 200, (300, 2, 1, 1)) * np.ones((32, 32))
    steps = np.round(3 * random.poisson(light) + 40 + 2 * random.normal(size=light.shape))
    counts = np.stack([steps[:, 0] * 16 + 16, steps[:, 1]], axis=1)
    store = tmp_path_factory.mktemp("tiles") / "P.zarr"
    with write_store(
        store,
        channels=["a", "b"],
        size=32,
        dtype="uint16",
        masks=False,
        pixel_size_um=None,
        about={"plate": "P", "neighbours": "keep"},
    ) as writer:
        writer.append(counts.astype(np.uint16), None)
    return TileStream([Source("P", store, np.arange(300))])


def calibration(path: Path, **changes) -> LikelihoodSettings:
    """A file with gain 32, offset 656 and read noise 48 counts, in both channels."""
    one = {
        "gain": {"value": 32.0},
        "line_constant": {"value": 48.0**2 + 16**2 / 12 - 32 * 656},
        "offset": {"value": 656.0},
        "read_noise": {"value": 48.0},
    }
    path.write_text(json.dumps({"channels": [one | changes, one | changes]}))
    return LikelihoodSettings(name="camera", calibration=str(path))


def test_tiles_tell_gain_and_line_in_steps(stream: TileStream):
    found = camera_noise(CAMERA, LEVELS, stream, 0)
    assert found is not None
    np.testing.assert_allclose(found.gain, 3, rtol=0.05)
    # Variance 3 (m − 40) + 4: dark at 40 − 4/3.
    np.testing.assert_allclose(found.dark, 40 - 4 / 3, atol=6)


def test_a_calibration_is_brought_to_steps(tmp_path: Path, stream: TileStream):
    found = camera_noise(calibration(tmp_path / "c.json"), LEVELS, stream, 0)
    assert found is not None
    assert found.gain == (2.0, 32.0)
    assert found.offset == (40.0, 656.0)
    assert found.read_variance == (9.0, 48.0**2)


def test_where_only_the_line_is_known_it_is_the_same_line(tmp_path: Path, stream: TileStream):
    whole = camera_noise(calibration(tmp_path / "a.json"), LEVELS, stream, 0)
    line = calibration(tmp_path / "b.json", offset=None, read_noise=None)
    found = camera_noise(line, LEVELS, stream, 0)
    assert whole is not None
    assert found is not None
    assert found.gain == whole.gain
    # The second channel's step is 1: of the rounding in the line, 16²/12 was never its own.
    assert found.constant[0] == pytest.approx(whole.constant[0])


def test_other_likelihoods_ask_for_no_camera(stream: TileStream):
    assert camera_noise(LikelihoodSettings(), LEVELS, stream, 0) is None


def test_a_calibration_that_cannot_be_used_is_named(tmp_path: Path, stream: TileStream):
    for change, says in (({"gain": {"value": -1.0}}, "grows"), ({"gain": 3}, "calibration.json")):
        with pytest.raises(InputError, match=says):
            camera_noise(calibration(tmp_path / "c.json", **change), LEVELS, stream, 0)
    three = GreyLevels((0,) * 3, (1,) * 3, (255,) * 3)
    with pytest.raises(InputError, match="3 channels"):
        camera_noise(calibration(tmp_path / "c.json"), three, stream, 0)
