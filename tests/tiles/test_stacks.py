"""Cells already cropped: OME and ImageJ stacks in any order of axes, and their table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from vae_sci.config import ImagesSettings, PlateRow, TilesSettings
from vae_sci.contracts import MEASURED_CELLS
from vae_sci.errors import InputError
from vae_sci.tiles import stacks
from vae_sci.tiles.make import make_tiles
from vae_sci.tiles.store import open_store

CELLS = np.random.default_rng(0).poisson(200, (7, 3, 12, 12)).astype(np.uint16)  # N C H W
SETTINGS = TilesSettings(size=12)
NAMES = ImagesSettings(channels={"1": "dna", "2": "actin", "3": "tubulin"})

WAYS: dict[str, Callable[[Path], Any]] = {
    "OME TCYX": lambda p: tifffile.imwrite(p, CELLS, ome=True, metadata={"axes": "TCYX"}),
    "OME ZCYX, deflate": lambda p: tifffile.imwrite(
        p, CELLS, ome=True, metadata={"axes": "ZCYX"}, compression="zlib", predictor=True
    ),
    "OME CTYX": lambda p: tifffile.imwrite(
        p, CELLS.swapaxes(0, 1), ome=True, metadata={"axes": "CTYX"}
    ),
    "ImageJ TCYX": lambda p: tifffile.imwrite(p, CELLS, imagej=True, metadata={"axes": "TCYX"}),
    "ImageJ ZCYX": lambda p: tifffile.imwrite(p, CELLS, imagej=True, metadata={"axes": "ZCYX"}),
    "RGB samples": lambda p: tifffile.imwrite(
        p, CELLS.transpose(0, 2, 3, 1), photometric="rgb", metadata={"axes": "TYXS"}
    ),
    "no axes": lambda p: tifffile.imwrite(p, CELLS, photometric="minisblack"),
}


def write(tmp_path: Path, table: str, columns: dict[str, str] | None = None) -> PlateRow:
    (tmp_path / "cells.csv").write_text(table)
    if not (tmp_path / "a.tif").exists():
        WAYS["OME TCYX"](tmp_path / "a.tif")
    return PlateRow(
        plate="p1", kind="tiles", table=str(tmp_path / "cells.csv"), columns=columns or {}
    )


def make(row: PlateRow, out: Path, **changes: Any) -> tuple[pd.DataFrame, Any]:
    settings = SETTINGS.model_copy(update=changes)
    make_tiles(row, out / "none.parquet", settings, NAMES, 0, out)
    tiles: Any = open_store(out / "tiles" / "p1.zarr")["tiles"]
    return MEASURED_CELLS.read(out / "measured" / "cells" / "p1.parquet"), tiles[:]


@pytest.mark.parametrize("way", WAYS)
def test_round_trip_whatever_the_axes(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "BLOCK", 2)
    WAYS[way](tmp_path / "a.tif")
    text = "stack,index,well\na.tif,6,B02\na.tif,0,B02\na.tif,3,C03\na.tif,4,C03\n"
    table, tiles = make(write(tmp_path, text), tmp_path / "out")
    np.testing.assert_array_equal(tiles, CELLS[[0, 3, 4, 6]])
    assert list(table["well"]) == ["B02", "C03", "C03", "B02"]
    assert list(table["cell_id"])[:2] == ["p1/B02/-/a-0", "p1/C03/-/a-3"]
    assert table[["y", "x", "y0", "area"]].isna().all().all()


def test_one_channel_and_one_cell(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", CELLS[:, 0], ome=True, metadata={"axes": "TYX"})
    row = write(tmp_path, "stack,index,well\na.tif,2,B02\n")
    make_tiles(row, tmp_path, SETTINGS, ImagesSettings(), 0, tmp_path / "out")
    tiles: Any = open_store(tmp_path / "out" / "tiles" / "p1.zarr")["tiles"]
    np.testing.assert_array_equal(tiles[:], CELLS[2:3, :1])
    tifffile.imwrite(tmp_path / "a.tif", CELLS[0], ome=True, metadata={"axes": "CYX"})
    _, tiles = make(write(tmp_path, "stack,index,well\na.tif,0,B02\n"), tmp_path / "out")
    np.testing.assert_array_equal(tiles, CELLS[:1])


def test_columns_are_renamed_and_carried_and_never_overwrite_ours(tmp_path: Path) -> None:
    text = (
        "plate,file,at,well,site,cell,compound,control,split,moa,area,focus_score,y0\n"
        "p1,a.tif,0,b2,2,17,NA,true,mine,,90.5,1.5,100\n"
        "p2,a.tif,1,B02,2,18,x,false,mine,,1,1,1\n"
        "p1,a.tif,5,B2,02,18,x,false,mine,Eg5,80,2,200\n"
    )
    row = write(tmp_path, text, {"file": "stack", "at": "index", "compound": "treatment"})
    table, tiles = make(row, tmp_path / "out", size=8)
    np.testing.assert_array_equal(tiles, CELLS[[0, 5], :, 2:10, 2:10])
    assert list(table["cell_id"]) == ["p1/B02/2/17", "p1/B02/2/18"]
    assert list(table["treatment"]) == ["NA", "x"]
    assert list(table["control"]) == [True, False]
    assert list(table["given_split"]) == ["mine", "mine"]
    assert set(table["split"]) <= {"train", "validation", "test"}
    assert list(table["area"]) == [90.5, 80]
    assert list(table["y0"]) == [102, 202]
    assert list(table["focus_score"]) == [1.5, 2]
    assert "stack" not in table
    ledger = json.loads((tmp_path / "out" / "measured" / "ledger" / "p1.json").read_text())
    assert ledger["steps"] == [
        {"step": "cells", "unit": "cell", "found": 2, "kept": 2, "dropped": {}}
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stack,well\na.tif,B02\n", "column 'index'"),
        ("stack,index,well\na.tif,0,B02\na.tif,,B02\n", r"none in line 3 of .*cells\.csv"),
        ("stack,index,well\na.tif,1.5,B02\n", "'1.5' in line 2"),
        ("stack,index,well\na.tif,-1,B02\n", "'-1' in line 2"),
        ("stack,index,well\na.tif,0,B02\na.tif,7,B02\n", r"7 in line 3 of .*cells\.csv"),
        ("stack,index,well\nb.tif,0,B02\n", r"b\.tif: no such file"),
        ("stack,index,well\na.tif,0,B02\na.tif,0,B02\n", "again in line 3"),
        ("stack,index,well,label\na.tif,0,B02,5\na.tif,1,B2,5\n", "p1/B02/-/5 again in line 3"),
        ("stack,index,well\na.tif,0,Q\n", "'Q' is not a well.*line 2"),
        ("stack,index,well,area\na.tif,0,B02,big\n", "'big' in line 2"),
        ("stack,index,well,plate\na.tif,0,B02,p9\n", "only p9"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(write(tmp_path, text), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.zarr"))


def test_too_small_masked_or_other_channels(tmp_path: Path) -> None:
    row = write(tmp_path, "stack,index,well\na.tif,0,B02\nb.tif,0,B02\n")
    tifffile.imwrite(tmp_path / "b.tif", CELLS, ome=True, metadata={"axes": "TCYX"})
    with pytest.raises(InputError, match=r"12 × 12 in .*a\.tif"):
        make(row, tmp_path / "out", size=14)
    with pytest.raises(InputError, match="neighbours"):
        make(row, tmp_path / "out", neighbours="mask")
    tifffile.imwrite(tmp_path / "b.tif", CELLS[:, :2], ome=True, metadata={"axes": "TCYX"})
    with pytest.raises(InputError, match=r"channels 1, 2 in .*b\.tif"):
        make(row, tmp_path / "out")
    tifffile.imwrite(
        tmp_path / "b.tif", CELLS[None].repeat(2, 0), ome=True, metadata={"axes": "TZCYX"}
    )
    with pytest.raises(InputError, match="axes TZCYX"):
        make(row, tmp_path / "out")


def test_wells_must_be_in_the_platemap(tmp_path: Path) -> None:
    row = write(tmp_path, "stack,index,well\na.tif,0,B02\na.tif,1,D04\n")
    (tmp_path / "map.csv").write_text("well,control\nB02,1\n")
    row = row.model_copy(update={"platemap": str(tmp_path / "map.csv")})
    with pytest.raises(InputError, match="D04"):
        make(row, tmp_path / "out")


@pytest.mark.realdata
def test_all_cells_of_bbbc021(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    """2,499 cells of 41 plates; the noise-like ones are those that its README flags."""
    folder = real_data("bbbc021_cells")
    known = pd.read_csv(folder / "cells.csv")
    tables = []
    for plate in known["plate"].unique():
        row = PlateRow(
            plate=plate,
            kind="tiles",
            table=str(folder / "cells.csv"),
            platemap=str(folder / "platemap.csv"),
            columns={
                "compound": "treatment",
                "tile_file": "stack",
                "tile_index": "index",
                "cell": "label",
            },
        )
        make_tiles(row, tmp_path, TilesSettings(), NAMES, 0, tmp_path)
        table = MEASURED_CELLS.read(tmp_path / "measured" / "cells" / f"{plate}.parquet")
        store = open_store(tmp_path / "tiles" / f"{plate}.zarr")
        tiles: Any = store["tiles"]
        assert tiles.shape == (len(table), 3, 64, 64)
        tables.append(table)
    cells = pd.concat(tables)
    assert len(cells) == len(known) == cells["cell_id"].nunique()
    assert (cells["noise_like"].astype(bool) == (cells["autocorrelation"] < 0.7)).all()
    wells = cells.groupby(["plate", "well"])["split"]
    assert (wells.nunique() == 1).all()
    assert (wells.first() == "train").mean() == pytest.approx(0.8, abs=0.05)
    stack = tifffile.imread(folder / "tiles" / f"{plate}.ome.tif")
    index = known[known["plate"] == plate]["tile_index"].sort_values()
    np.testing.assert_array_equal(tiles[:], stack[index][..., 2:66, 2:66])
