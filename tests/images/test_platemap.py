"""What was done to each well: read, renamed, or refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from vae_sci.config import PlateRow
from vae_sci.errors import InputError
from vae_sci.images.platemap import need_wells, read_platemap


def row_of(path: Path, text: str, **columns: str) -> PlateRow:
    path.write_text(text, encoding="utf-8")
    return PlateRow(plate="p1", images="x", platemap=str(path), columns=columns)


def test_reads_renames_and_filters(tmp_path: Path) -> None:
    row = row_of(
        tmp_path / "map.tsv",
        "\ufeffplate\twell\tcompound\tdose\tcontrol\tmoa\n"
        "p1\tb2\tNA\t0.5\tFALSE\tx\n"
        "p1\tB03\tDMSO\t\t1\t\n"
        "\t\t\t\t\t\n"
        "p2\tB02\tother\t1\t0\t\n",
        compound="treatment",
        dose="concentration",
    )
    table = read_platemap(row)
    assert list(table.columns) == ["well", "treatment", "concentration", "control", "moa"]
    assert list(table["well"]) == ["B02", "B03"]
    assert list(table["treatment"]) == ["NA", "DMSO"]
    assert table["concentration"][0] == 0.5
    assert pd.isna(table["concentration"][1])
    assert list(table["control"]) == [False, True]
    assert table["moa"].isna().tolist() == [False, True]


def test_treatment_may_be_absent(tmp_path: Path) -> None:
    table = read_platemap(row_of(tmp_path / "m.csv", "well,control\nB02,true\n"))
    assert table["treatment"].isna().all()
    assert table["concentration"].isna().all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("well,treatment\nB02,x\n", "column 'control'"),
        ("control,treatment\n1,x\n", "column 'well'"),
        ("well,control\nB02,1\nB2,0\n", r"B02 again in line 3 of .*m\.csv"),
        ("well,control\nB02,1\nB03,maybe\n", r"'maybe' in line 3 of .*m\.csv"),
        ("well,control\nB02,1\nB03,\n", r"none in line 3 of .*m\.csv"),
        ("well,control\n\nB2x,1\n", r"'B2x' is not a well.*line 3"),
        ("well,control,concentration\nB02,1,3 uM\n", "'3 uM' in line 2"),
        ("plate,well,control\np2,B02,1\n", "only p2"),
        ("", "No columns"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    row = row_of(tmp_path / "m.csv", text)
    with pytest.raises(InputError, match=message):
        read_platemap(row)


def test_a_rename_may_not_double_a_column(tmp_path: Path) -> None:
    row = row_of(tmp_path / "m.csv", "well,control,position\nB02,1,B02\n", position="well")
    with pytest.raises(InputError, match="column 'well' more than once"):
        read_platemap(row)


def test_missing_file(tmp_path: Path) -> None:
    row = PlateRow(plate="p1", images="x", platemap=str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match=r"none\.csv"):
        read_platemap(row)


def test_wells_beyond_the_platemap_are_named(tmp_path: Path) -> None:
    row = row_of(tmp_path / "m.csv", "well,control\nB02,1\n")
    platemap = read_platemap(row)
    need_wells(row, ["B02"], platemap)
    with pytest.raises(InputError, match=r"2 not listed in .*: C03, D04"):
        need_wells(row, ["D04", "B02", "C03"], platemap)
