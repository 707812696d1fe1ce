"""benchmarks/filaments.py: its pieces by hand, and the whole on made-up fields of lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import filaments
import numpy as np
import pandas as pd
import pytest
import tifffile
from filaments import LADDER, NOISY, Row, Tiles

from vae_sci.config import ModelSettings
from vae_sci.contracts import TILES
from vae_sci.errors import InputError
from vae_sci.training.stream import open_stream

SMALL = ModelSettings(latent_dim=4, widths=(8, 8, 8))


def write_fields(folder: Path, count: int, size: int = 128) -> Path:
    """Noisy and clean fields of straight lines, in the layout of the real ones."""
    rng = np.random.default_rng(0)
    rows = []
    for fov in range(1, count + 1):
        y, x = np.mgrid[:size, :size]
        phase = rng.uniform(0, 10, (3, 1, 1))
        clean = (100 + 80 * np.sin((x * rng.uniform(-1, 1) + y) / 1.2 + phase)).astype(np.uint8)
        noisy = np.clip(rng.poisson(clean / 5) * 5 + fov, 0, 255).astype(np.uint8)
        row: dict[str, Any] = {"fov": fov}
        for name, image in (("noisy", noisy), ("clean", clean)):
            row[f"{name}_file"] = f"{name}{fov}.tif"
            tifffile.imwrite(folder / row[f"{name}_file"], image, photometric="minisblack")
        rows.append(row)
    pd.DataFrame(rows).sample(frac=1, random_state=1).to_csv(folder / "fields.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fields(tmp_path_factory.mktemp("fields"), 5)


def test_a_quarter_of_the_fields_is_for_testing_and_every_twelfth_for_validation():
    parts = [filaments.part_of(rank) for rank in range(24)]
    assert [parts.count(part) for part in ("train", "validation", "test")] == [16, 2, 6]
    assert [n for n, part in enumerate(parts) if part == "test"] == [3, 7, 11, 15, 19, 23]


def test_tiles_and_their_corners():
    field = np.arange(2 * 128 * 192).reshape(2, 128, 192)
    tiles, corners = filaments.cut(field, 32)
    assert tiles.shape == (3 * 5, 2, 64, 64)
    for tile, (y, x) in zip(tiles, corners, strict=True):
        np.testing.assert_array_equal(tile, field[:, y : y + 64, x : x + 64])
    assert len(filaments.cut(field, 64)[0]) == 6


def test_clean_is_brought_to_the_scale_of_noisy_channel_by_channel():
    rng = np.random.default_rng(0)
    clean = rng.uniform(0, 255, (2, 64, 64))
    noisy = np.array([0.5, 2.0])[:, None, None] * clean + 7 + rng.normal(0, 1, clean.shape)
    found = filaments.on_scale_of(noisy, clean)
    np.testing.assert_allclose(found[0], 0.5 * clean[0] + 7, atol=0.3)
    np.testing.assert_allclose(found[1], 2 * clean[1] + 7, atol=0.3)


def test_fields_become_a_plate_split_by_field(data: Path, tmp_path: Path):
    tiles = filaments.prepare(data, tmp_path)
    parts = tiles.table.groupby("site")["split"].unique()
    assert {int(fov): list(found) for fov, found in parts.items()} == {
        1: ["validation"], 2: ["train"], 3: ["train"], 4: ["test"], 5: ["train"]
    }  # fmt: skip
    assert open_stream(tmp_path, ["filaments"], "test").n_tiles == 4
    assert open_stream(tmp_path, ["filaments"], "train").n_tiles == 3 * 9
    # Tile by tile the same place of the same field, noisy and clean.
    for n in (0, 5, len(tiles.table) - 1):
        row = tiles.table.iloc[n]
        y, x = int(row["y0"]), int(row["x0"])
        noisy, clean = (
            tifffile.imread(data / f"{kind}{row['site']}.tif") for kind in ("noisy", "clean")
        )
        place = (slice(None), slice(y, y + 64), slice(x, x + 64))
        np.testing.assert_array_equal(tiles.noisy[n], noisy[place])
        for channel in range(3):
            match = np.corrcoef(tiles.clean[n, channel].ravel(), clean[place][channel].ravel())
            assert match[0, 1] > 0.999
    assert (TILES.read(tmp_path / "tiles" / "filaments.parquet")["split"] == "test").sum() == 4


def test_wrong_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--data", str(tmp_path), "--json", str(tmp_path / "never.json")]
    assert filaments.main(arguments) == 1
    assert "fields.csv" in capsys.readouterr().err
    (tmp_path / "fields.csv").write_text("fov,noisy_file\n1,a.tif\n")
    with pytest.raises(InputError, match="clean_file"):
        filaments.read_fields(tmp_path)


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        ([(1.0, 400.0)], 4.0),  # one pair: rate as 1/beta
        ([(1.0, 400.0), (4.0, 200.0)], 16.0),  # rate as 1/√beta
        ([(1.0, 400.0), (4.0, 50.0)], 2.5),  # between: 2.52 by the line in logarithms
        ([(1.0, 400.0), (4.0, 400.0)], 4.0),  # a slope of nothing: as one pair
        ([(1.0, 1e5)], 10.0),  # no more than tenfold at once
        ([(1.0, 50.0)], 0.5),
    ],
)
def test_the_next_weight_follows_the_line_in_logarithms(
    tried: list[tuple[float, float]], expected: float
):
    assert filaments.next_beta(tried, 100.0) == pytest.approx(expected)


def test_pca_keeps_what_varies_in_training_and_nothing_else():
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(2, 3, 8, 8))
    train, test = (rng.normal(size=(n, 2)) for n in (50, 10))
    offset = rng.uniform(5, 6, (3, 8, 8))
    tiles = offset + np.tensordot(test, patterns, 1)
    found = filaments.principal_components(
        offset + np.tensordot(train, patterns, 1), tiles + 0.1 * rng.normal(size=tiles.shape), 2, 0
    )
    assert np.abs(found - tiles).std() < 0.03


def test_crops_are_whole_squares_with_detail():
    places = [(y, x) for y in (0, 64, 128) for x in (0, 64)]
    table = pd.DataFrame(places * 2, columns=["y0", "x0"])
    table["site"], table["split"] = ["1"] * 6 + ["2"] * 6, "test"
    clean = np.zeros((12, 1, 64, 64), np.float32)
    clean[9, 0, ::2, ::2] = 1  # field 2, y 64, x 64: in both of its squares
    [(square, zoom)] = filaments.crops(Tiles(table, clean, clean))
    assert square.tolist() in ([[6, 7], [8, 9]], [[8, 9], [10, 11]])
    assert zoom == 9
    image = filaments.stitched(np.arange(12)[:, None, None] * np.ones((12, 2, 2)), square)
    assert image[:, 0].tolist() == np.repeat(square[:, 0], 2).tolist()
    assert image[0].tolist() == np.repeat(square[0], 2).tolist()


def test_rows_and_folders_are_named_apart():
    heavier = Row("logistic_mixture", "ladder", 2.5)
    assert heavier.name == "logistic_mixture + ladder, beta_skips 2.5"
    names = {row.folder for row in (*filaments.ROWS, heavier, Row("gaussian", "ladder", 25))}
    assert len(names) == len(filaments.ROWS) + 2
    assert all(ModelSettings(name=name) for name in names)


@pytest.mark.slow
def test_a_small_comparison_from_end_to_end(data: Path, tmp_path: Path):
    rows = (filaments.CLASSIC, LADDER)
    said: list[str] = []
    saved: list[int] = []
    options: dict[str, Any] = {
        "rows": rows,
        "settings": SMALL,
        "say": said.append,
        "keep": lambda report: saved.append(len(report["models"])),
    }
    report, comparison = filaments.compare(data, tmp_path / "work", 0.005, 0, **options)
    assert [row["model"] for row in report["models"]] == [
        NOISY, "PCA-4", "gaussian_fixed + none", "logistic_mixture + ladder"
    ]  # fmt: skip
    assert saved == [3, 4, 4]
    noisy, _, classic, ladder = report["models"]
    assert noisy["band_frc"] > 0.3
    assert classic["rate_skips_nats_per_tile"] == []
    assert len(ladder["rate_skips_nats_per_tile"]) == 3
    for row in (classic, ladder):
        nats = row["distortion_nats_per_tile"] + row["rate_nats_per_tile"]
        bits = nats / (3 * 64 * 64 * np.log(2))
        assert row["bits_per_pixel_and_channel"] == pytest.approx(bits, rel=1e-5)
        split = row["rate_z_nats_per_tile"] + sum(row["rate_skips_nats_per_tile"])
        assert row["rate_nats_per_tile"] == pytest.approx(split, rel=1e-4)
    # Without skips z alone is all there is; with them it is another image.
    z_classic, z_ladder = report["z_only"]
    assert z_classic["frc_per_ring"] == classic["frc_per_ring"]
    assert z_ladder["frc_per_ring"] != ladder["frc_per_ring"]
    assert report["matched_rate"][0] == classic
    assert report["matched_rate"][-1]["model"].startswith("logistic_mixture + ladder")
    json.dumps(report, allow_nan=False)

    filaments.draw(report, comparison, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 50_000
    printed = filaments.markdown(report)
    assert printed.count("| logistic_mixture + ladder |") == 2 + sum(
        row["model"] == LADDER.name for row in report["matched_rate"]
    )

    # Once more: nothing is trained again, and the figures are the same.
    models = tmp_path / "work" / "models"
    before = {p: p.stat().st_mtime_ns for p in models.rglob("*.safetensors")}
    again, _ = filaments.compare(data, tmp_path / "work", 0.005, 0, **options)
    assert {p: p.stat().st_mtime_ns for p in models.rglob("*.safetensors")} == before
    assert again == report
    # With other minutes, it is.
    one, _ = filaments.compare(data, tmp_path / "work", 0.01, 0, **options | {"rows": rows[:1]})
    assert one["matched_rate"] == []
    classic_weights = models / rows[0].folder / "model.safetensors"
    assert classic_weights.stat().st_mtime_ns != before[classic_weights]
