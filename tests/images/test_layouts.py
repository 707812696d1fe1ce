"""File names and wells."""

from __future__ import annotations

import pytest

from vae_sci.errors import InputError, SettingsError
from vae_sci.images.layouts import Layout, Name, normalize_well

GUID = "48EE446-12C2-4D22-B14B-6EC688B0744A"


@pytest.mark.parametrize(
    ("layout", "file", "expected"),
    [
        ("imagexpress", "plate1_B02_s1_w1.tif", Name("plate1", "B02", "1", "1")),
        ("imagexpress", f"Week2_180_B02_s1_w16{GUID}.tif", Name("Week2_180", "B02", "1", "1")),
        ("imagexpress", f"Week2_180_g11_s04_w2B{GUID}.tif", Name("Week2_180", "G11", "4", "2")),
        ("imagexpress", "exp_C5_w2.TIF", Name("exp", "C05", "1", "2")),
        ("imagexpress", "Plate_2_B7_s3.ome.tif", Name("Plate_2", "B07", "3", None)),
        ("imagexpress", "B02_s1_w12.tiff", Name(None, "B02", "1", "12")),
        ("imagexpress", "exp_AF48_s1_w1.tif", Name("exp", "AF48", "1", "1")),
        ("opera", "r02c03f04p01-ch1sk1fk1fl1.tiff", Name(None, "B03", "4", "1", "1", "1")),
        ("opera", "r27c12f10p07-ch2.tiff", Name(None, "AA12", "10", "2", "7")),
        ("imagexpress", "raw/TimePoint_1/ZStep_3/exp_B02_s1_w1.tif",
         Name("exp", "B02", "1", "1", "3", "1")),
        ("imagexpress", "raw_A01_s1_w1/exp_B02_s1_w1.tif", Name("exp", "B02", "1", "1")),
        ("imagexpress", "Plate_2_B7_s3.ome.zarr", Name("Plate_2", "B07", "3", None)),
        ("bbbc021", f"Week2_180607_B02_s1_w16{GUID}.tif", Name("Week2_180607", "B02", "1", "1")),
        ("operetta", "002003-4-001005002.tif", Name(None, "B03", "4", "2", "5", "1")),
        ("cellvoyager", "AssayPlate_Greiner_#655090_B03_T0001F002L01A01Z03C04.tif",
         Name("AssayPlate_Greiner_#655090", "B03", "2", "4", "3", "1")),
        (r"(?P<well>[A-H]\d+)-(?P<site>\w+)-(?P<channel>\w+)", "x_D4-f2-DAPI.tif",
         Name(None, "D04", "f2", "DAPI")),
        (r"(?P<row>\w)x(?P<col>\d+)", "cx07.tif", Name(None, "C07", "1", None)),
    ],
)  # fmt: skip
def test_names(layout: str, file: str, expected: Name) -> None:
    assert Layout(layout).parse(file) == expected


@pytest.mark.parametrize(
    "file", [f"exp_B02_s1_w1_thumb6{GUID}.tif", "notes.txt", "exp_s1_w1.tif", "exp_B02_s1_w1.csv"]
)
def test_other_files_do_not_fit(file: str) -> None:
    assert Layout("imagexpress").parse(file) is None


def test_wells() -> None:
    assert [normalize_well(w) for w in ("b2", "B02", "B002", "af7", "P24")] == [
        "B02",
        "B02",
        "B02",
        "AF07",
        "P24",
    ]
    for wrong in ("", "B", "2B", "B0", "B49", "BZ1", "AG1"):
        with pytest.raises(ValueError, match="not a well"):
            normalize_well(wrong)


def test_a_layout_that_tells_no_well_is_refused() -> None:
    with pytest.raises(SettingsError, match="groups site"):
        Layout(r"s(?P<site>\d)")
    with pytest.raises(SettingsError, match="unterminated"):
        Layout(r"(?P<well>[A-H]\d")


def test_a_well_that_is_none_is_named() -> None:
    with pytest.raises(InputError, match="'Z99' is not a well"):
        Layout(r"(?P<well>\w+)_").parse("Z99_1.tif")
