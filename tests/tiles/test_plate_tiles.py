"""A plate's store, table and ledger, from fields."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from vae_sci.config import ImagesSettings, PlateRow, SegmentationSettings, TilesSettings
from vae_sci.contracts import FIELDS, MEASURED_CELLS, TILES
from vae_sci.errors import InputError, SettingsError
from vae_sci.images.flat_field import FlatField
from vae_sci.images.index import index_plate
from vae_sci.tiles.crop import CELL, NEIGHBOUR, tile_pixels
from vae_sci.tiles.make import make_tiles
from vae_sci.tiles.store import open_store

CHANNELS = ImagesSettings(channels={"1": "nucleus", "2": "mitochondria", "3": "fibres"})
SIZE = 64


@pytest.fixture
def table(made: Path) -> pd.DataFrame:
    return TILES.read(made / "tiles" / "tiny1.parquet")


@pytest.fixture
def arrays(made: Path) -> tuple[Any, Any]:
    group = open_store(made / "tiles" / "tiny1.zarr")
    tiles: Any = group["tiles"]
    masks: Any = group["masks"]
    return tiles[:], masks[:]


def test_tiles_are_the_raw_counts(
    plate: tuple[PlateRow, Path], table: pd.DataFrame, arrays: tuple[Any, Any]
) -> None:
    tiles, _ = arrays
    assert len(table) == len(tiles) > 100
    for row in table.itertuples():
        for channel in range(3):
            name = f"tiny1_{row.well}_s{row.site}_w{channel + 1}.tif"
            image = tifffile.imread(plate[1] / "images" / name)
            crop = image[row.y0 : row.y0 + SIZE, row.x0 : row.x0 + SIZE]
            np.testing.assert_array_equal(tiles[row.tile, channel], crop)


def test_masks_tell_cell_and_neighbours(table: pd.DataFrame, arrays: tuple[Any, Any]) -> None:
    _, masks = arrays
    assert set(np.unique(masks)) == {0, CELL, NEIGHBOUR}
    assert (masks == CELL).any(axis=(1, 2)).all()
    own = (masks == CELL).sum(axis=(1, 2))
    assert (own <= table["area"]).all()
    middle = masks[:, SIZE // 2 - 6 : SIZE // 2 + 6, SIZE // 2 - 6 : SIZE // 2 + 6]
    assert np.mean((middle == CELL).any(axis=(1, 2))) == 1
    assert np.mean((masks == NEIGHBOUR).any(axis=(1, 2))) > 0.3


def test_the_table_describes_its_tiles(
    made: Path, table: pd.DataFrame, arrays: tuple[Any, Any]
) -> None:
    tiles, _ = arrays
    np.testing.assert_allclose(table["intensity_fibres"], tiles[:, 2].mean(axis=(1, 2)))
    np.testing.assert_allclose(table["spread_nucleus"], tiles[:, 0].std(axis=(1, 2)))
    np.testing.assert_allclose(table["saturated"], (tiles == 4095).mean(axis=(1, 2, 3)))
    assert (abs(table["y"] - table["y0"] - SIZE / 2) <= 0.5).all()
    assert (table["batch"] == "first").all()
    assert list(table["tile"]) == list(range(len(table)))
    parts = table["cell_id"].str.split("/", expand=True)
    assert (parts[0] == "tiny1").all()
    assert (parts[1] == table["well"]).all()
    digest: Any = open_store(made / "tiles" / "tiny1.zarr").attrs["vae_sci"]
    assert (table["store_digest"] == digest["digest"]).all()


def test_no_well_in_two_parts(table: pd.DataFrame) -> None:
    assert table["well"].nunique() == 8
    assert (table.groupby("well")["split"].nunique() == 1).all()


def test_ledger_balances_to_the_table(made: Path, table: pd.DataFrame) -> None:
    ledger = json.loads((made / "ledger" / "tiny1.json").read_text())
    for step in ledger["steps"]:
        assert step["found"] == step["kept"] + sum(step["dropped"].values())
    assert [s["step"] for s in ledger["steps"]] == [
        *("fields", "nuclei", "cells"),
        *("quality of fields", "quality of cells"),
    ]
    assert ledger["steps"][1]["kept"] == ledger["steps"][2]["found"]
    assert ledger["steps"][-1]["kept"] == len(table)
    assert ledger["steps"][2]["dropped"]["cut at border"] > 0


def small(made: Path, to: Path, wells: int = 2) -> Path:
    """An index of the first wells alone."""
    index = FIELDS.read(made / "images" / "tiny1.parquet")
    index[index["well"].isin(sorted(index["well"].unique())[:wells])].to_parquet(to)
    return to


def test_same_bytes_twice(plate: tuple[PlateRow, Path], made: Path, tmp_path: Path) -> None:
    fields = small(made, tmp_path / "fields.parquet")
    seen = []
    for name in ("a", "b"):
        make_tiles(plate[0], fields, TilesSettings(), CHANNELS, 0, tmp_path / name)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        seen.append({p.relative_to(tmp_path / name): p.read_bytes() for p in files})
    assert seen[0] == seen[1]
    assert not [p for p in seen[0] if p.name.endswith(".part")]


def test_size_in_um_and_larger_tiles_leave_the_field(
    plate: tuple[PlateRow, Path], made: Path, tmp_path: Path
) -> None:
    fields = small(made, tmp_path / "fields.parquet", wells=1)
    settings = TilesSettings(size=100, unit="um", neighbours="mask")
    done = []
    make_tiles(
        plate[0], fields, settings, CHANNELS, 0, tmp_path, progress=lambda *at: done.append(at)
    )
    group = open_store(tmp_path / "tiles" / "tiny1.zarr")
    about: Any = group.attrs["vae_sci"]
    assert about["size"] == 200  # 0.5 µm a pixel
    assert about["neighbours"] == "mask"
    assert done == [(1, 1)]
    steps = json.loads((tmp_path / "measured" / "ledger" / "tiny1.json").read_text())["steps"]
    assert steps[-1]["dropped"]["tile leaves the field"] > 0


def test_tile_pixels() -> None:
    assert tile_pixels(TilesSettings(size=40, unit="um"), 0.65) == 62
    assert tile_pixels(TilesSettings(size=64), None) == 64
    with pytest.raises(SettingsError, match="even"):
        tile_pixels(TilesSettings(size=63), 0.5)
    with pytest.raises(InputError, match="pixel_size_um"):
        tile_pixels(TilesSettings(size=40, unit="um"), None)


def noise_plate(tmp_path: Path, source: Path | None = None) -> tuple[PlateRow, Path]:
    """A plate whose well C03 has no cell; B02 is `source`'s first field, or none either."""
    (tmp_path / "raw").mkdir()
    rng = np.random.default_rng(0)
    for well in ("B02", "C03"):
        for channel in (1, 2, 3):
            to = tmp_path / "raw" / f"n_{well}_s1_w{channel}.tif"
            if source is not None and well == "B02":
                shutil.copy(next(source.glob(f"*_w{channel}.tif")), to)
            else:
                tifffile.imwrite(to, rng.poisson(110, (512, 512)).astype(np.uint16))
    (tmp_path / "map.csv").write_text("well,control\nB02,1\nC03,0\n")
    row = PlateRow(plate="n", images=str(tmp_path / "raw"), platemap=str(tmp_path / "map.csv"))
    index_plate(
        row, CHANNELS.model_copy(update={"pixel_size_um": 0.5}), tmp_path / "fields.parquet"
    )
    return row, tmp_path / "fields.parquet"


def test_a_field_without_cells_is_no_error(
    plate: tuple[PlateRow, Path], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    row, fields = noise_plate(tmp_path, plate[1] / "images")
    make_tiles(row, fields, TilesSettings(), CHANNELS, 0, tmp_path)
    table = MEASURED_CELLS.read(tmp_path / "measured" / "cells" / "n.parquet")
    assert set(table["well"]) == {"B02"}
    assert not [str(w.message) for w in recwarn if "vae_sci" in str(w.filename)]


def test_a_plate_without_cells_is_an_error_and_leaves_nothing_to_see(tmp_path: Path) -> None:
    row, fields = noise_plate(tmp_path)
    with pytest.raises(InputError, match="in 2 fields, none kept"):
        make_tiles(row, fields, TilesSettings(), CHANNELS, 0, tmp_path / "results")
    seen = (tmp_path / "results").glob("*/[!.]*")  # staged fields, which the next run replaces
    assert not list(seen)


def test_unusable_fields_are_dropped_and_counted(
    plate: tuple[PlateRow, Path], made: Path, tmp_path: Path
) -> None:
    index = pd.read_parquet(small(made, tmp_path / "fields.parquet"))
    index.loc[index["well"] == index["well"].iloc[0], "verdict"] = "empty"
    index.to_parquet(tmp_path / "fields.parquet")
    make_tiles(plate[0], tmp_path / "fields.parquet", TilesSettings(), CHANNELS, 0, tmp_path)
    steps = json.loads((tmp_path / "measured" / "ledger" / "tiny1.json").read_text())["steps"]
    assert steps[0] == {
        "step": "fields",
        "unit": "field",
        "found": 2,
        "kept": 1,
        "dropped": {"empty": 1},
    }
    index["verdict"] = "empty"
    index.to_parquet(tmp_path / "fields.parquet")
    with pytest.raises(InputError, match="no usable field among 2"):
        make_tiles(plate[0], tmp_path / "fields.parquet", TilesSettings(), CHANNELS, 0, tmp_path)


def test_settings_that_do_not_fit_the_images(
    plate: tuple[PlateRow, Path], made: Path, tmp_path: Path
) -> None:
    fields = small(made, tmp_path / "fields.parquet", wells=1)
    wrong = TilesSettings(segmentation=SegmentationSettings(nucleus_channel="dapi"))
    with pytest.raises(SettingsError, match="nucleus, mitochondria, fibres"):
        make_tiles(plate[0], fields, wrong, CHANNELS, 0, tmp_path)
    index = pd.read_parquet(fields)
    index["pixel_size_um"] = np.nan
    index.to_parquet(fields)
    with pytest.raises(InputError, match="pixel_size_um"):
        make_tiles(plate[0], fields, TilesSettings(), CHANNELS, 0, tmp_path)
    index["pixel_size_um"] = [0.5, 0.6, 0.5]
    index.to_parquet(fields)
    with pytest.raises(InputError, match=r"0\.5 µm in .*0\.6 µm in"):
        make_tiles(plate[0], fields, TilesSettings(), ImagesSettings(), 0, tmp_path)


def test_a_flat_field_corrects_the_table_and_not_the_store(
    plate: tuple[PlateRow, Path], made: Path, tmp_path: Path
) -> None:
    fields = small(made, tmp_path / "fields.parquet")
    gain = np.broadcast_to(np.linspace(0.5, 1.5, 512), (3, 512, 512)).astype(np.float32)
    known = np.zeros(3)
    used = np.array([False, True, True])
    lit = ("mitochondria", "fibres")
    flat = FlatField(np.where(used[:, None, None], gain, 1), known + 100, known, known, used)
    flat.write(tmp_path / "even" / "flat_field" / "tiny1.npz")
    even = CHANNELS.model_copy(update={"flat_field": "retrospective"})
    tables, stores = [], []
    for name, images in (("raw", CHANNELS), ("even", even)):
        make_tiles(plate[0], fields, TilesSettings(size=SIZE), images, 0, tmp_path / name)
        tables.append(MEASURED_CELLS.read(tmp_path / name / "measured" / "cells" / "tiny1.parquet"))
        stores.append(open_store(tmp_path / name / "tiles" / "tiny1.zarr"))
    raw, corrected = tables
    assert (raw["store_digest"] == corrected["store_digest"]).all()
    changed = {name for name in raw if not raw[name].equals(corrected[name])}
    measured = {name for name in changed if not name.startswith("outlier_")}
    assert measured == {f"{what}_{c}" for what in ("intensity", "spread") for c in lit}
    tiles: Any = stores[1]["tiles"]
    row = corrected.iloc[3]
    there = gain[2, row.y0 : row.y0 + SIZE, row.x0 : row.x0 + SIZE]
    light = (tiles[3, 2] - 100.0) / there + 100
    assert row["intensity_fibres"] == pytest.approx(light.mean(), rel=1e-5)
