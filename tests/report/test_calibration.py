"""The calibration's files: the plot shows the numbers, the words say what is not known."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import tifffile
from matplotlib.collections import FillBetweenPolyCollection
from PIL import Image
from scipy.ndimage import gaussian_filter

from vae_sci.images.calibrate import Calibration, calibrate
from vae_sci.report.calibration import calibration, report
from vae_sci.report.style import drawing
from vae_sci.simulate.camera import expose
from vae_sci.simulate.recipe import Camera

CAMERA = Camera(gain=2, offset=100, read_noise=3, bits=16, dark_frames=0)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """Four channels with dark frames, the last without a camera's line."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((256, 256)), 15)
    light = 200 * np.exp(smooth / smooth.std())
    grey = expose(rng, np.stack([light] * 4), CAMERA)
    grey[3] = 100 + light + np.rint(rng.normal(0, 1, light.shape) * (30 - light / 100))
    tifffile.imwrite(folder / "x.ome.tif", grey, ome=True, metadata={"axes": "CYX"})
    dark = expose(rng, np.zeros((5, 128, 128)), CAMERA)
    tifffile.imwrite(folder / "dark.ome.tif", dark, ome=True, metadata={"axes": "TYX"})
    return calibrate([folder / "x.ome.tif"], [folder / "dark.ome.tif"])


def test_the_plot_shows_the_line_its_points_and_the_dark_frames(found: Calibration) -> None:
    with drawing():
        figure = calibration(found).figure
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert len(panels) == 4
    for axis, channel in zip(panels, found.channels, strict=True):
        line = channel.line
        drawn = {len(item.get_xdata()): item for item in axis.lines}
        means, variances = np.array([point[:2] for point in line.points]).T
        np.testing.assert_allclose(drawn[len(means)].get_xydata().T, (means, variances))
        x, y = drawn[100].get_data()
        np.testing.assert_allclose(y, line.gain.value * x + line.constant.value)
        assert channel.dark is not None
        dark = [(channel.dark.offset.value, channel.dark.variance.value)]
        np.testing.assert_allclose(drawn[1].get_xydata(), dark)
        (band,) = [c for c in axis.collections if isinstance(c, FillBetweenPolyCollection)]
        top = band.get_paths()[0].vertices[:, 1].max()
        assert top > y.max()


def test_files_and_words(
    found: Calibration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found.write(tmp_path / "out")
    report(found, tmp_path / "out")
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "calibration.json").read_text())
    for channel in record["channels"]:
        assert channel["known"] in printed
        assert channel["unknown"] in printed
        assert all(remark in printed for remark in channel["remarks"])
    assert record["channels"][0]["gain"]["value"] == pytest.approx(2, rel=0.05)
    assert found.channels[3].alone.gain.high < 0
    assert record["channels"][3]["unknown"].startswith("the gain:")
    assert "no photon transfer line" in printed
    with Image.open(tmp_path / "out" / "calibration.png") as image:
        assert np.asarray(image.convert("L")).std() > 1
        assert image.text["Synthetic"] == "false"
    words = " ".join(ElementTree.parse(tmp_path / "out" / "calibration.svg").getroot().itertext())
    assert "channel 3: gain" in words
