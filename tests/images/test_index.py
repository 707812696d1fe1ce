"""The index of a plate, from real TIFF files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from vae_sci.config import ImagesSettings, PlateRow
from vae_sci.contracts import FIELDS
from vae_sci.errors import ContractError, InputError
from vae_sci.images.index import index_plate
from vae_sci.images.read import read_field, read_planes
from vae_sci.images.tiff import read_page


def image(seed: int = 0, shape: tuple[int, ...] = (40, 50)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(100 + 20 * gaussian_filter(rng.normal(size=shape), 2)).astype(np.uint16)


@pytest.fixture
def plate(tmp_path: Path) -> Callable[..., Path]:
    """A folder of 2 wells × 2 sites × 2 channels, with its platemap."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for i, well in enumerate(("B02", "B10")):
        for site in (1, 2):
            for channel in (1, 2):
                name = f"p1_{well}_s{site}_w{channel}.tif"
                tifffile.imwrite(folder / name, image(8 * i + 2 * site + channel))
    (tmp_path / "map.csv").write_text("well,control\nB02,1\nB10,0\n")
    return folder


def index(folder: Path | str, tmp_path: Path, **changes: Any) -> pd.DataFrame:
    values = {"plate": "p1", "images": str(folder), "platemap": str(tmp_path / "map.csv")}
    settings = changes.pop("settings", ImagesSettings())
    index_plate(PlateRow(**(values | changes)), settings, tmp_path / "fields.parquet")
    return FIELDS.read(tmp_path / "fields.parquet")


def test_every_field_and_channel_once(plate: Path, tmp_path: Path) -> None:
    settings = ImagesSettings(channels={"2": "actin", "1": "dna"}, pixel_size_um=0.5)
    table = index(plate, tmp_path, settings=settings)
    assert len(table) == 8
    assert list(table["channel"][:2]) == ["actin", "dna"]
    assert list(table["channel_index"][:2]) == [0, 1]
    assert table["path"][0].endswith("p1_B02_s1_w2.tif")
    assert (table["verdict"] == "ok").all()
    assert (table["pixel_size_um"] == 0.5).all()
    field = read_field(table[:2])
    np.testing.assert_array_equal(field[0], tifffile.imread(plate / "p1_B02_s1_w2.tif"))
    assert table["median"][0] == pytest.approx(np.median(field[0]), abs=1)
    assert table["p99"][0] == pytest.approx(np.percentile(field[0], 99), abs=1)


def test_a_channel_can_be_left_out(plate: Path, tmp_path: Path) -> None:
    table = index(plate, tmp_path, settings=ImagesSettings(channels={"2": "actin"}))
    assert len(table) == 4
    assert (table["channel"] == "actin").all()


def test_channels_in_one_file(tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("well,control\nB02,1\n")
    stack = np.stack([image(1), image(2), image(3)])
    tifffile.imwrite(
        tmp_path / "p_B02_s1.ome.tif",
        stack,
        metadata={"axes": "CYX", "PhysicalSizeX": 650, "PhysicalSizeXUnit": "nm"},
    )
    settings = ImagesSettings(channels={"3": "c", "1": "a"})
    table = index(tmp_path / "*.tif", tmp_path, settings=settings)
    assert list(table["page"]) == [2, 0]
    assert table["pixel_size_um"].tolist() == pytest.approx([0.65, 0.65])
    np.testing.assert_array_equal(read_field(table), stack[[2, 0]])


def test_saturation_and_empty_fields(plate: Path, tmp_path: Path) -> None:
    bright = image(5)
    bright[:4] = 4095
    tifffile.imwrite(plate / "p1_B02_s1_w1.tif", bright)
    tifffile.imwrite(plate / "p1_B02_s2_w2.tif", np.full((40, 50), 100, np.uint16))
    table = index(plate, tmp_path).set_index(["well", "site", "channel"])
    assert table.loc[("B02", "1", "1"), "saturated"] == pytest.approx(0.1)
    assert table.loc[("B02", "1", "2"), "saturated"] == 0
    assert (table.loc[("B02", "2"), "verdict"] == "empty").all()
    assert (table.loc[("B02", "1"), "verdict"] == "ok").all()


def test_only_this_plate_where_names_tell_of_several(plate: Path, tmp_path: Path) -> None:
    tifffile.imwrite(plate / "p2_B02_s1_w1.tif", image())
    assert len(index(plate, tmp_path)) == 8
    with pytest.raises(InputError, match="file names of p1, p2"):
        index(plate, tmp_path, plate="p3")
    (plate / "p2_B02_s1_w1.tif").unlink()
    assert len(index(plate, tmp_path, plate="p3")) == 8  # one name: that of the experiment


def test_kind_tiles_has_no_fields(tmp_path: Path) -> None:
    row = PlateRow(plate="p", kind="tiles", table="cells.csv")
    index_plate(row, ImagesSettings(), tmp_path / "fields.parquet")
    assert FIELDS.read(tmp_path / "fields.parquet").empty


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


BROKEN: list[tuple[Callable[[Path], Any], str]] = [
    (lambda p: (p / "p1_B02_s1_w2.tif").unlink(), r"well B02, site 1"),
    (lambda p: (p / "p1_B02_s1_w2.tif").write_bytes(b""), r"p1_B02_s1_w2\.tif: 0 bytes"),
    (lambda p: (p / "p1_B02_s1_w2.tif").write_text("no image"), r"p1_B02_s1_w2\.tif"),
    (lambda p: truncate(p / "p1_B02_s1_w2.tif"), r"p1_B02_s1_w2\.tif: it is truncated"),
    (
        lambda p: tifffile.imwrite(p / "p1_B02_s1_w2.tif", image(shape=(20, 50))),
        r"w1\.tif: 40 × 50; .*w2\.tif: 20 × 50",
    ),
    (
        lambda p: tifffile.imwrite(p / "p1_B02_s1_w2.tif", image().astype(np.float32)),
        r"float32 in .*p1_B02_s1_w2\.tif",
    ),
    (
        lambda p: tifffile.imwrite(p / "p1_B02_s1_w2.tif", image().astype(np.uint8)),
        r"type of grey levels.*uint16[^.]*uint8",
    ),
    (
        lambda p: tifffile.imwrite(
            p / "p1_B02_s1_w2.tif", image(shape=(3, 40, 50)), imagej=True, metadata={"axes": "ZYX"}
        ),
        "3 depths in .*p1_B02_s1_w2",
    ),
    (
        lambda p: tifffile.imwrite(p / "p1_B02_s1_w2.tif", image(), photometric="miniswhite"),
        "MINISWHITE",
    ),
    (lambda p: (p / "p1_B10_s1_w1.tif").rename(p / "p1_C05_s1_w1.tif"), "C05"),
    (
        lambda p: tifffile.imwrite(p / "p1_B2_s1_w1.tif", image()),
        r"p1_B02_s1_w1\.tif and .*p1_B2_s1_w1\.tif",
    ),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN, ids=[m for _, m in BROKEN])
def test_what_cannot_be_used_is_named(
    plate: Path, tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(plate)
    settings = ImagesSettings(channels={"1": "dna", "2": "actin"})
    with pytest.raises(InputError, match=message):
        index(plate, tmp_path, settings=settings)
    assert not (tmp_path / "fields.parquet").exists()


def test_no_files_and_no_names(plate: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none at .*nowhere"):
        index(tmp_path / "nowhere", tmp_path)
    with pytest.raises(InputError, match=r"none of 8 .*p1_B02_s1_w1\.tif"):
        index(plate, tmp_path, layout="opera")


def test_a_file_changed_after_indexing_is_noticed(plate: Path, tmp_path: Path) -> None:
    table = index(plate, tmp_path)
    tifffile.imwrite(plate / "p1_B02_s1_w1.tif", image(shape=(10, 10)))
    with pytest.raises(ContractError, match="run again"):
        read_field(table[:2])


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ({"resolution": (1e4 / 0.5, 1e4 / 0.5), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({}, None),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25),
        ({"imagej": True, "resolution": (4, 4)}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.325}}, 0.325),
    ],
)
def test_pixel_size(tmp_path: Path, written: dict[str, Any], size: float | None) -> None:
    tifffile.imwrite(tmp_path / "x.tif", image(), **written)
    found = read_planes(tmp_path / "x.tif")[1]
    assert found == (size if size is None else pytest.approx(size))


@pytest.mark.realdata
def test_bbbc021_fields(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = real_data("bbbc021_fields")
    (tmp_path / "map.csv").write_text("well,control\nB02,1\n")
    settings = ImagesSettings(channels={"1": "dna", "4": "actin", "2": "tubulin"})
    table = index(folder / "*_s[12]_*.tif", tmp_path, plate="Week2_24381", settings=settings)
    assert len(table) == 6
    assert table["pixel_size_um"][0] == pytest.approx(0.496296)
    known = pd.read_csv(folder / "fields.csv").set_index("image_file")
    for row in table.itertuples():
        assert known.loc[Path(str(row.path)).name, "channel"].lower() in ("dapi", row.channel)
    with pytest.raises(InputError, match="site 3"):
        index(folder, tmp_path, settings=settings)


@pytest.mark.realdata
def test_every_reader_case_is_read_or_refused(real_data: Callable[[str], Path]) -> None:
    folder = real_data("reader_cases")
    cases = pd.read_csv(folder / "manifest.csv").query("kind != 'zarr'")
    used = 0
    for case in cases.itertuples():
        path = folder / str(case.file)
        if case.kind != "valid":
            with pytest.raises(InputError, match=path.name):
                read_page(path)
            continue
        page = read_page(path)
        assert "x".join(map(str, page.shape)) == case.shape
        assert str(page.dtype) == case.dtype
        total = page.sum(dtype=np.float64 if page.dtype.kind == "f" else object)
        assert float(total) == pytest.approx(float(str(case.pixel_sum)), rel=1e-6)
        try:
            counts = read_planes(path).counts
        except InputError as error:
            named = path.name in error.found
            assert named, error.found  # noqa: PT017
            continue
        assert counts.dtype in (np.uint8, np.uint16)
        assert int(counts.sum(dtype=np.uint64)) == int(total)
        used += 1
    assert used >= 16
