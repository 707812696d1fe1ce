"""The parts of the figures that can be told right from wrong by numbers."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest

from vae_sci.report import images
from vae_sci.report.doses import dose_response
from vae_sci.report.enrichment import enrichment
from vae_sci.report.plates import plate_effects
from vae_sci.report.style import CATEGORIES, VERMILLION, drawing, number, shorten
from vae_sci.report.umap import _apart


def test_contrast_comes_from_the_originals_and_is_shared() -> None:
    originals = np.arange(2000).reshape(1, 2, 10, 100)
    contrast = images.limits(originals)
    assert contrast[0] == pytest.approx(np.percentile(np.arange(1000), (1, 99.8)))
    assert contrast[1] == pytest.approx(contrast[0] + 1000)
    assert (np.diff(images.limits(np.full((3, 1, 4, 4), 7))) > 0).all()  # flat: no division by 0


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 7])
def test_composites_are_black_without_light_and_brighter_with_every_channel(channels: int) -> None:
    contrast = np.tile([100.0, 200.0], (channels, 1))
    dark = np.full((1, channels, 2, 2), 50)
    assert images.composite(dark, contrast).max() == 0
    before = images.composite(dark, contrast)
    for channel in range(min(channels, len(images.COLOURS))):
        dark[:, channel] = 150
        after = images.composite(dark, contrast)
        assert after.sum() > before.sum()
        assert after.max() <= 1
        before = after


def test_one_channel_is_grey() -> None:
    shown = images.composite(np.full((1, 1, 2, 2), 150), np.array([[100.0, 200.0]]))
    assert shown == pytest.approx(np.full((1, 2, 2, 3), 0.5))


def test_mosaic_puts_tiles_where_it_says_and_leaves_white_between() -> None:
    tiles: list[list[np.ndarray | None]] = [
        [np.full((10, 20, 3), 0.1 * (3 * r + c)) for c in range(3)] for r in range(2)
    ]
    tiles[1][2] = None
    picture = images.mosaic(tiles, column_breaks=[2])
    for r, y in enumerate(picture.y):
        for c, x in enumerate(picture.x):
            expected = 1.0 if (r, c) == (1, 2) else 0.1 * (3 * r + c)
            assert picture.image[y : y + 10, x : x + 20] == pytest.approx(expected)
    assert picture.x[2] - picture.x[1] > picture.x[1] - picture.x[0]
    assert (picture.image[:, picture.x[0] + 20 : picture.x[1]] == 1).all()


def test_names_keep_both_ends() -> None:
    assert shorten("short", 10) == "short"
    long = "camptothecin hydrochloride (S)"
    assert len(shorten(long, 16)) == 16
    assert shorten(long, 16).startswith("campt")
    assert shorten(long, 16).endswith("(S)")


def test_numbers_are_written_for_people() -> None:
    assert [number(v) for v in (0.001, 12.34, 12345.6, -2)] == ["0.001", "12.3", "12,346", "−2"]


def test_labels_are_pushed_apart() -> None:
    places = np.array([[0.0, 0.0], [0.01, 0.0], [5.0, 5.0]])
    moved = _apart(places, 1.0)
    assert np.linalg.norm(moved[0] - moved[1]) > 0.99
    assert moved[2] == pytest.approx(places[2])


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    before = matplotlib.rcParams["font.size"]
    with matplotlib.rc_context({"font.size": 31}):
        with drawing():
            assert matplotlib.rcParams["font.size"] == 7
        assert matplotlib.rcParams["font.size"] == 31
    assert matplotlib.rcParams["font.size"] == before


def test_heat_map_keeps_treatments_together_with_concentrations_rising() -> None:
    treatments = pd.DataFrame(
        {
            "treatment": ["b", "a", "b", "a", "c"],
            "concentration": [10.0, 1.0, 1.0, 10.0, np.nan],
            "control": [False, False, False, False, True],
            "n_cells": 10,
            "n_wells": 2,
            "distance": 1.0,
        }
    )
    table = treatments[["treatment", "concentration", "control"]].merge(
        pd.DataFrame({"cluster": ["0", "1", "10", "2"]}), "cross"
    )
    peak = {"a": "2", "b": "0", "c": "1"}
    table["log2_enrichment"] = [
        3.0 if peak[name] == cluster else -1.0
        for name, cluster in zip(table["treatment"], table["cluster"], strict=True)
    ]
    table["q_value"] = 1.0
    clusters = pd.DataFrame({"cluster": ["0", "1", "2", "10"], "stable": [True, True, False, True]})
    with drawing():
        picture = enrichment(table, treatments, clusters)
    axis = picture.figure.axes[0]
    rows = [label.get_text() for label in axis.get_yticklabels()]
    assert rows == ["c (control)", "b  1", "b  10", "a  1", "a  10"]
    assert [label.get_text() for label in axis.get_xticklabels()][:4] == ["0", "1", "2", "10"]
    for labels in zip(*((t.label1, t.label2) for t in axis.xaxis.get_major_ticks()), strict=True):
        styles = [label.get_fontstyle() for label in labels]
        assert styles == ["normal", "normal", "italic", "normal"]
    assert "unstable" in picture.note
    values = axis.collections[0].get_array().reshape(5, 4)
    assert values[1:].argmax(axis=1).tolist() == [0, 0, 2, 2]


def test_no_treatment_is_said_in_words() -> None:
    nothing = pd.DataFrame(columns=["treatment", "concentration", "cluster"])
    with drawing():
        axis = enrichment(nothing, nothing, nothing).figure.axes[0]
    assert "no treatment" in axis.texts[0].get_text()


def test_category_colours_can_be_told_apart_by_dichromats() -> None:
    """Simulated after Viénot, Brettel & Mollon 1999: no two colours fall together."""
    linear = np.array([matplotlib.colors.to_rgb(colour) for colour in CATEGORIES]) ** 2.2
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    for matrix in (np.eye(3), protan, deutan):
        seen = np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.2)
        gap = np.linalg.norm(seen[:, None] - seen[None], axis=2)
        assert gap[~np.eye(len(seen), dtype=bool)].min() > 0.1


def test_dose_response_marks_what_is_significant_and_tells_the_controls() -> None:
    wells = pd.DataFrame(
        {
            "plate": "P",
            "well": [f"B{k:02d}" for k in range(2, 12)],
            "treatment": ["DMSO"] * 4 + ["far"] * 4 + ["near"] * 2,
            "concentration": [np.nan] * 4 + [1.0, 1.0, 10.0, 10.0, 5.0, 5.0],
            "control": [True] * 4 + [False] * 6,
            "n_cells": 10,
            "distance": [1.0, 1.2, 1.4, 1.6, 2.0, 3.0, 7.0, 9.0, 1.1, 1.3],
        }
    )
    treatments = pd.DataFrame(
        {
            "treatment": ["far", "far", "near"],
            "concentration": [1.0, 10.0, 5.0],
            "distance": [2.0, 8.0, 1.2],
            "q_value": [0.2, 0.01, np.nan],
        }
    )
    doses = pd.DataFrame({"treatment": ["far"], "trend": [0.9], "p_value": [0.004]})
    with drawing():
        picture = dose_response(wells, treatments, doses, most=20)
    far, near = picture.figure.axes
    assert far.get_title(loc="left").splitlines() == ["far", "ρ = 0.9, p = 0.004"]
    assert near.get_title(loc="left").splitlines() == ["near", "no trend tested"]
    marked = {
        str(line.get_markerfacecolor()): line.get_xydata().tolist()
        for line in far.get_lines()
        if line.get_markersize() == 4.5
    }
    assert marked == {VERMILLION: [[10.0, 8.0]], "white": [[1.0, 2.5]]}
    assert far.patches[0].get_height() == pytest.approx(1.57 - 1.03, abs=1e-6)
    pd.testing.assert_frame_equal(picture.table, wells.iloc[4:])


def test_plates_lie_as_they_are_and_controls_are_framed() -> None:
    wells = pd.DataFrame(
        {
            "plate": "P",
            "well": ["B03", "C05", "D04"],
            "control": [True, False, True],
            "distance": [1.0, 5.0, 2.0],
        }
    )
    steps = pd.DataFrame({"step": ["raw"], "target": "treatment", "accuracy": 0.7, "chance": 0.5})
    with drawing():
        axes = plate_effects(wells, steps).figure.subfigs[1].axes
    values = axes[0].collections[0].get_array().reshape(3, 3)
    expected = np.full((3, 3), np.nan)
    expected[[0, 1, 2], [0, 2, 1]] = [1, 5, 2]
    np.testing.assert_array_equal(np.asarray(values), expected)
    frames = sorted(patch.get_xy() for patch in axes[0].patches)
    assert np.floor(frames).tolist() == [[0, 0], [1, 2]]
    assert [text.get_text() for text in axes[0].get_yticklabels()] == ["B", "C", "D"]
    assert [text.get_text() for text in axes[0].get_xticklabels()] == ["3", "4", "5"]
