"""Fields found by names with depths and times, by LoadData tables; names explained."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from vae_sci.config import ImagesSettings, PlateRow
from vae_sci.contracts import FIELDS
from vae_sci.errors import InputError
from vae_sci.images.explain import explain
from vae_sci.images.index import index_plate
from vae_sci.images.read import read_field
from vae_sci.images.watch import digest

rng = np.random.default_rng(4)


def write(path: Path) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 4000, (24, 32)).astype(np.uint16)
    tifffile.imwrite(path, image)
    return image


@pytest.fixture
def index(tmp_path: Path) -> Callable[..., pd.DataFrame]:
    (tmp_path / "map.csv").write_text("well,control\nB02,1\nB03,0\n")

    def run(images: Path, layout: str = "imagexpress", **settings: Any) -> pd.DataFrame:
        row = PlateRow(
            plate="P", images=str(images), layout=layout, platemap=str(tmp_path / "map.csv")
        )
        index_plate(row, ImagesSettings(**settings), tmp_path / "fields.parquet")
        return FIELDS.read(tmp_path / "fields.parquet")

    return run


def test_depths_in_files_of_their_own(tmp_path: Path, index: Callable[..., pd.DataFrame]) -> None:
    raw = tmp_path / "raw"
    image = {
        (c, z): write(raw / f"r02c03f01p{z:02d}-ch{c}sk1fk1fl1.tiff")
        for c in (1, 2)
        for z in (1, 2, 10)
    }
    with pytest.raises(InputError, match=r"depths 1, 2, 10 in file names.*p10-ch1"):
        index(raw, "opera")
    for name, combine in (("max", np.max), ("mean", np.mean)):
        table = index(raw, "opera", z=name)
        assert len(table) == 2
        assert table["path"][0].count("\n") == 2
        assert list(table["z"]) == [name, name]
        planes = [combine([image[c, z] for z in (1, 2, 10)], axis=0) for c in (1, 2)]
        np.testing.assert_array_equal(read_field(table), np.rint(planes))
    table = index(raw, "opera", z=10)
    assert table["path"][1].endswith("p10-ch2sk1fk1fl1.tiff")
    np.testing.assert_array_equal(read_field(table), [image[1, 10], image[2, 10]])
    with pytest.raises(InputError, match=r"depths 1, 2, 10 .*images: z is 3"):
        index(raw, "opera", z=3)


def test_depths_in_folders(tmp_path: Path, index: Callable[..., pd.DataFrame]) -> None:
    raw = tmp_path / "raw"
    image = [write(raw / f"TimePoint_1/ZStep_{z}/exp_B02_s1_w1.tif") for z in (1, 2)]
    table = index(raw / "TimePoint_1" / "**" / "*.tif", z="max")
    np.testing.assert_array_equal(read_field(table)[0], np.max(image, axis=0))


def test_times_in_files_of_their_own(tmp_path: Path, index: Callable[..., pd.DataFrame]) -> None:
    raw = tmp_path / "raw"
    image = [write(raw / f"P_B02_T000{t}F001L01A01Z01C01.tif") for t in (1, 2)]
    with pytest.raises(InputError, match="time points 1, 2 in file names"):
        index(raw, "cellvoyager")
    table = index(raw, "cellvoyager", time=2)
    np.testing.assert_array_equal(read_field(table)[0], image[1])


@pytest.fixture
def loaddata(tmp_path: Path) -> tuple[Path, dict[tuple[str, str], np.ndarray]]:
    """A table of three fields of two wells, and of another plate; its images."""
    image = {
        (name, channel): write(tmp_path / "raw" / f"{name}_{channel}.tif")
        for name in ("a", "b", "c")
        for channel in ("dna", "er")
    }
    rows = [
        "FileName_OrigDNA,PathName_OrigDNA,FileName_OrigER,PathName_OrigER,"
        "FileName_IllumDNA,PathName_IllumDNA,Metadata_Plate,Metadata_Well,Metadata_Site",
        f"a_dna.tif,raw,a_er.tif,{tmp_path}/raw,f.npy,raw,P,B02,1",
        "b_dna.tif,raw,b_er.tif,raw,f.npy,raw,P,B02,02",
        "c_dna.tif,raw,c_er.tif,raw,f.npy,raw,P,b3,1",
        "gone.tif,raw,gone.tif,raw,f.npy,raw,Q,B02,1",
    ]
    table = tmp_path / "load_data.csv"
    table.write_text("\n".join(rows) + "\n")
    return table, image


def test_a_loaddata_table_is_an_index(
    loaddata: tuple[Path, dict[tuple[str, str], np.ndarray]], index: Callable[..., pd.DataFrame]
) -> None:
    path, image = loaddata
    table = index(path, channels={"OrigER": "er", "OrigDNA": "dna"})
    assert list(zip(table["well"][::2], table["site"][::2], strict=True)) == [
        ("B02", "1"),
        ("B02", "2"),
        ("B03", "1"),
    ]
    for name, start in (("a", 0), ("b", 2), ("c", 4)):
        field = read_field(table[start : start + 2])
        np.testing.assert_array_equal(field, [image[name, "er"], image[name, "dna"]])
    assert set(index(path)["channel"]) == {"OrigDNA", "OrigER"}


def test_a_table_without_sites_counts_them_and_frames_pick_planes(
    tmp_path: Path, index: Callable[..., pd.DataFrame]
) -> None:
    """As of CellProfiler's database, such as the image table of BBBC021."""
    stack = rng.integers(0, 99, (2, 24, 32)).astype(np.uint16)
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, photometric="minisblack")
    (tmp_path / "image.csv").write_text(
        "Image_FileName_DAPI,Image_PathName_DAPI,Image_Frame_DAPI,Image_FileName_Actin,"
        "Image_Frame_Actin,Image_Metadata_Plate_DAPI,Image_Metadata_Well_DAPI\n"
        "a.tif,,1,a.tif,0,P,B02\nb.tif,,1,b.tif,0,P,B02\n"
    )
    table = index(tmp_path / "image.csv", channels={"DAPI": "dna", "Actin": "actin"})
    assert list(table["site"]) == ["1", "1", "2", "2"]
    np.testing.assert_array_equal(read_field(table[:2]), stack[::-1])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Metadata_Well", "Well2", "columns Metadata_Well"),
        ("b3,1", "Z99,1", "'Z99' is not a well.*line 4"),
        ("b_dna.tif,raw", ",raw", "none in line 3"),
        ("B02,02", "B02,1", r"a_dna\.tif and .*b_dna\.tif \(well B02, site 1"),
        (",P,", ",R,", "none in .*load_data"),
        ("b_dna.tif", "d_dna.tif", r"d_dna\.tif: no such file"),
    ],
)
def test_what_a_table_gets_wrong_is_named(
    loaddata: tuple[Path, dict[tuple[str, str], np.ndarray]],
    index: Callable[..., pd.DataFrame],
    old: str,
    new: str,
    message: str,
) -> None:
    path, _ = loaddata
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        index(path)


def test_the_images_of_a_table_are_watched(
    loaddata: tuple[Path, dict[tuple[str, str], np.ndarray]],
) -> None:
    path, _ = loaddata
    row = PlateRow(plate="P", images=str(path), platemap="map.csv")
    seen = [digest(row)]
    os.utime(path.parent / "raw" / "c_er.tif", ns=(0, 1))
    seen.append(digest(row))
    path.write_text(path.read_text() + "\n")
    seen.append(digest(row))
    assert len(set(seen)) == 3


def test_a_name_that_fits_is_explained(tmp_path: Path) -> None:
    write(tmp_path / "exp_B02_s1_w2.tif")
    told = "\n".join(explain(str(tmp_path / "exp_B02_s1_w2.tif")))
    assert "layout 'imagexpress' fits: plate exp, well B02, site 1, channel 2" in told
    assert "uint16: 1 times, 1 channels, 1 depths, 24 height, 32 width" in told
    assert "opera" not in told


def test_a_name_that_fits_none_tells_the_nearest() -> None:
    told = explain("r02c03f01p01-dapi.tiff")
    assert told[0] == "no layout fits 'r02c03f01p01-dapi.tiff'"
    assert told[1].startswith("nearest: 'opera' fits as far as 'r02c03f01p01-'; then it needs ")
    assert "ch" in told[1]
    assert "the file is not there" in told[-1]
    told = explain("x_B02.tif", r"(?P<well>[A-H]\d\d)_(?P<channel>\w+)\.tif")
    assert "fits as far as 'B02'; then it needs _" in told[1]
    assert "is not a well" in explain("Z99_1.tif", r"(?P<well>\w+)_")[0]
