"""Defects planted in a simulated plate are found, clean cells are kept, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from typer.testing import CliRunner

from vae_sci.cli import app
from vae_sci.config import ImagesSettings, PlateRow, QualitySettings, TilesSettings
from vae_sci.contracts import DROPPED, MEASURED_CELLS, MEASURED_FIELDS, TILES
from vae_sci.errors import ContractError, InputError
from vae_sci.images.index import index_plate
from vae_sci.images.quality import measure_field, outliers, relative
from vae_sci.report import style
from vae_sci.report.quality import draw_quality
from vae_sci.simulate.recipe import read_recipe
from vae_sci.simulate.screen import simulate_plate
from vae_sci.tiles.make import make_tiles
from vae_sci.tiles.quality import cells_against_plate, explore, judge, select_cells

CHANNELS = ImagesSettings(channels={"1": "nucleus", "2": "mitochondria", "3": "fibres"})
ROOT = Path(__file__).parents[2]
SIZE, PLATE = 384, "plate1"
Image = NDArray[np.float64]


@dataclass(frozen=True)
class Planted:
    """A plate that is spoilt: what is wrong in which well, and where debris lies (well, y, x)."""

    results: Path
    kinds: dict[str, str]
    debris: pd.DataFrame

    def dropped(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Fields and cells that were cut out, with their kind and why they were dropped, if so."""
        told = DROPPED.read(self.results / "dropped" / f"{PLATE}.csv")
        fields = MEASURED_FIELDS.read(self.results / "measured" / "fields" / f"{PLATE}.parquet")
        fields = fields.drop_duplicates("well").assign(kind=lambda t: t["well"].map(self.kinds))
        cells = MEASURED_CELLS.read(self.results / "measured" / "cells" / f"{PLATE}.parquet")
        cells = cells.assign(kind=cells["well"].map(self.kinds).replace("debris", "clean"))
        for piece in self.debris.itertuples():
            away = np.hypot(cells["y"] - piece.y, cells["x"] - piece.x)
            cells.loc[(cells["well"] == piece.well) & (away < 16), "kind"] = "debris"
        units = told["unit"] == "cell"
        return (
            fields.merge(told.loc[~units, ["well", "reason"]], "left", "well"),
            cells.merge(told.loc[units, ["cell_id", "reason"]], "left", "cell_id"),
        )


def plant(folder: Path, rng: np.random.Generator) -> tuple[dict[str, str], list[tuple]]:
    """Spoil fields of a simulated plate that are in focus; 12 bits, 100 grey levels offset."""
    truth = pd.read_parquet(folder / "truth" / "fields.parquet")
    kinds = dict(zip(truth["well"], np.where(truth["in_focus"], "clean", "blurred"), strict=True))
    sharp = list(rng.permutation(truth.loc[truth["in_focus"], "well"]))
    debris = []
    light = tifffile.imread(folder / "truth" / "vignette.tif").astype(float)
    for kind in ["saturated"] * 2 + ["empty"] * 2 + ["noise"] * 2 + ["debris"] * 4:
        well = str(sharp.pop())
        kinds[well] = kind
        paths = [folder / "images" / f"{PLATE}_{well}_s1_w{channel}.tif" for channel in (1, 2, 3)]
        field = np.stack([tifffile.imread(path) for path in paths]).astype(float)
        if kind == "saturated":
            field = 100 + 12 * (field - 100)
        elif kind == "empty":
            field = 100 + rng.poisson(12 * light) + rng.normal(0, 3, field.shape)
        elif kind == "noise":
            field[2] = 100 + rng.poisson((field[2].mean() - 100) * light[2])
        else:
            places = scatter(rng, folder / "truth" / "masks" / f"{PLATE}_{well}_s1_cells.tif")
            for y, x in places:
                field += rng.poisson(blob(y, x, rng.uniform(5, 8), rng.uniform(300, 3000, 3)))
            debris += [(well, y, x) for y, x in places]
        for path, plane in zip(paths, np.rint(field).clip(0, 4095), strict=True):
            tifffile.imwrite(path, plane.astype(np.uint16))
    return kinds, debris


def scatter(rng: np.random.Generator, cells: Path) -> list[tuple[int, int]]:
    """Up to 8 places apart from each other, the border and all cells (label image)."""
    free = distance_transform_edt(tifffile.imread(cells) == 0)
    free[:40], free[-40:], free[:, :40], free[:, -40:] = 0, 0, 0, 0
    y, x = np.mgrid[: len(free), : len(free)]
    places: list[tuple[int, int]] = []
    while len(places) < 8 and (free > 10).any():
        place = np.argwhere(free > 10)[rng.integers((free > 10).sum())]
        places.append((int(place[0]), int(place[1])))
        free = np.minimum(free, np.hypot(y - place[0], x - place[1]) - 30)
    return places


def blob(y: int, x: int, sigma: float, height: Image) -> Image:
    """A round smooth piece in all channels, (C, SIZE, SIZE), electrons."""
    at = np.arange(SIZE)
    across, along = (np.exp(-0.5 * ((at - place) / sigma) ** 2) for place in (y, x))
    return height[:, None, None] * np.outer(across, along)


def spoil(
    folder: Path, diameter: float, cells: int, seed: int, dim: bool = False, defects: int = 0
) -> Planted:
    """A plate of 18 wells of 1 field, half of them spoilt, tiled and judged by the defaults.

    diameter : of cells, µm; nuclei are as large beside them as on the demo's screen. cells : a
    field, mean. dim : half the stain on 2.5 times the background. defects : their seed.
    """
    recipe = read_recipe(ROOT / "resources" / "simulate" / "screen.yaml")
    scale = (diameter / recipe.fields.cell_diameter) ** 2
    about = {"size": SIZE, "per_well": 1, "out_of_focus": 0.2, "debris": 0.0}
    fields = recipe.fields.model_copy(update=about | {"cells": cells, "cell_diameter": diameter})
    layout = recipe.layout.model_copy(update={"control_wells": 6, "wells_per_dose": 1})
    area = recipe.factors.nuclear_area
    area = area.model_copy(update={"mean": scale * area.mean})
    # Without cells of many nuclei: segmentation takes some apart, and pieces are rightly dropped.
    treatments = [
        t.model_copy(update={"saturated": scale * t.saturated}) if t.factor == "nuclear_area" else t
        for t in recipe.treatments[:5]
        if t.factor != "multinucleation"
    ]
    bright = recipe.brightness
    if dim:
        names = ("nucleus", "mitochondria", "fibres")
        less: dict[str, Any] = {name: 0.5 * getattr(bright, name) for name in names}
        less |= {"haze": tuple(0.5 * level for level in bright.haze)}
        bright = bright.model_copy(update=less | {"background": 2.5 * bright.background})
    recipe = recipe.model_copy(
        update={
            "fields": fields,
            "brightness": bright,
            "layout": layout,
            "factors": recipe.factors.model_copy(update={"nuclear_area": area}),
            "treatments": treatments,
            "seed": seed,
        }
    )
    raw, results = folder / "raw", folder / "results"
    simulate_plate(recipe, PLATE, raw)
    kinds, debris = plant(raw, np.random.default_rng(defects))
    row = PlateRow(plate=PLATE, images=str(raw / "images"), platemap=str(raw / "platemap.csv"))
    images = CHANNELS.model_copy(update={"pixel_size_um": fields.pixel_size})
    index = results / "images" / f"{PLATE}.parquet"
    index_plate(row, images, index)
    make_tiles(row, index, TilesSettings(), images, 0, results)
    select_cells(results, PLATE, QualitySettings())
    return Planted(results, kinds, pd.DataFrame(debris, columns=["well", "y", "x"]))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return spoil(tmp_path_factory.mktemp("spoilt"), diameter=38.0, cells=14, seed=3)


def test_planted_fields_are_found_and_no_other(planted: Planted) -> None:
    fields, _ = planted.dropped()
    reasons = fields.set_index("well")["reason"]
    kinds = pd.Series(planted.kinds)
    assert (kinds == "blurred").sum() >= 2
    assert set(reasons[kinds.index[kinds == "blurred"]]) == {"out of focus"}
    assert set(reasons[kinds.index[kinds == "saturated"]]) == {"saturated"}
    assert set(reasons[kinds.index[kinds == "empty"]]) == {"no cells"}
    assert reasons[kinds.index[kinds.isin(["clean", "debris"])]].isna().all()


def test_planted_cells_are_found_and_others_kept(planted: Planted) -> None:
    _, cells = planted.dropped()
    found = cells["reason"].notna().groupby(cells["kind"]).agg(["mean", "size"])
    assert found.loc["clean", "mean"] <= 0.02
    for kind in ("blurred", "saturated", "noise", "debris"):
        assert found.loc[kind, "size"] >= 8, kind
        assert found.loc[kind, "mean"] >= 0.95, kind


@pytest.mark.slow
def test_debris_as_large_as_small_cells_is_found(tmp_path: Path) -> None:
    """Pieces as wide as the cells' nuclei; most tiles hold several cells, or one and a piece."""
    _, cells = spoil(tmp_path, diameter=19.0, cells=56, seed=211).dropped()
    found = cells["reason"].notna().groupby(cells["kind"]).agg(["mean", "size"])
    assert found.loc["clean", "mean"] <= 0.02
    assert found.loc["debris", "size"] >= 30
    assert found.loc["debris", "mean"] >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("diameter", "number", "seed"), [(38.0, 14, 201), (19.0, 56, 212)])
def test_debris_takes_no_dim_cell_with_it(
    tmp_path: Path, diameter: float, number: int, seed: int
) -> None:
    """Many times as bright as they, it neither blurs their field nor hides where they end."""
    fields, cells = spoil(tmp_path, diameter, number, seed, dim=True, defects=seed).dropped()
    assert fields.loc[fields["kind"].isin(["clean", "debris"]), "reason"].isna().all()
    found = cells["reason"].notna().groupby(cells["kind"]).agg(["mean", "size"])
    assert found.loc["clean", "size"] >= 80
    assert found.loc["clean", "mean"] <= 0.02
    assert found.loc["debris", "mean"] >= 0.95


@pytest.mark.parametrize(
    ("kind", "alone"),
    [("noise", {"noise": 0.6}), ("saturated", {"saturated": 0.01}), ("blurred", {"focus": 0.3})],
)
def test_cells_are_found_without_their_field(
    planted: Planted, kind: str, alone: dict[str, float]
) -> None:
    """Tile by tile, where the field's own limits are off."""
    _, cells = planted.dropped()
    limits = QualitySettings(**{**dict.fromkeys(QualitySettings.model_fields), **alone})
    name = next(iter(alone))
    of_kind = cells["kind"] == kind
    table = explore(planted.results, limits)
    passed = table.loc[(table["unit"] == "cell") & (table["limit"] == name), "passed"].item()
    assert passed >= 0.95 * of_kind.sum()
    assert passed <= of_kind.sum() + 0.02 * (~of_kind).sum() + (cells["kind"] == "debris").sum()


def test_nothing_is_lost(planted: Planted) -> None:
    ledger = json.loads((planted.results / "ledger" / f"{PLATE}.json").read_text())
    for step in ledger["steps"]:
        assert step["found"] == step["kept"] + sum(step["dropped"].values())
    fields, cells = planted.dropped()
    kept = TILES.read(planted.results / "tiles" / f"{PLATE}.parquet")
    by_field, by_cell = ledger["steps"][-2:]
    assert by_field["found"] == len(fields) == len(planted.kinds)
    assert by_cell["found"] == len(cells)
    assert by_cell["kept"] == len(kept)
    assert set(kept["cell_id"]) == set(cells.loc[cells["reason"].isna(), "cell_id"])
    assert by_cell["dropped"] == cells["reason"].value_counts().to_dict()


def test_the_command_tells_what_a_limit_would_drop_and_changes_nothing(planted: Planted) -> None:
    before = {path: path.stat().st_mtime_ns for path in planted.results.rglob("*")}
    run = CliRunner().invoke(app, ["quality", str(planted.results), "--set", "focus=0.9"])
    assert run.exit_code == 0, run.output
    assert {path: path.stat().st_mtime_ns for path in planted.results.rglob("*")} == before
    told = [line.split() for line in run.output.splitlines()]
    line = next(words for words in told if words[:3] == [PLATE, "cell", "focus"])
    cells = MEASURED_CELLS.read(planted.results / "measured" / "cells" / f"{PLATE}.parquet")
    assert line[3:] == [
        "below",
        "0.90",
        str(len(cells)),
        str((cells["relative_focus"] < 0.9).sum()),
    ]


def test_limits_off_keep_all_and_limits_that_leave_nothing_are_refused(
    planted: Planted, tmp_path: Path
) -> None:
    for name in ("measured", "tiles"):
        (tmp_path / name).mkdir()
    (tmp_path / "measured").rmdir()
    (tmp_path / "measured").symlink_to(planted.results / "measured")
    (tmp_path / "tiles" / f"{PLATE}.zarr").symlink_to(planted.results / "tiles" / f"{PLATE}.zarr")
    none = QualitySettings(**dict.fromkeys(QualitySettings.model_fields))
    select_cells(tmp_path, PLATE, none)
    kept = TILES.read(tmp_path / "tiles" / f"{PLATE}.parquet")
    assert len(kept) == len(pd.read_parquet(tmp_path / f"measured/cells/{PLATE}.parquet"))
    assert DROPPED.read(tmp_path / "dropped" / f"{PLATE}.csv").empty
    with pytest.raises(InputError, match="none kept"):
        select_cells(tmp_path, PLATE, QualitySettings(noise=2))
    assert len(TILES.read(tmp_path / "tiles" / f"{PLATE}.parquet")) == len(kept)


def test_the_page_shows_a_map_a_measure_and_a_row_a_reason(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "DPI", 80)  # for speed
    paths = draw_quality(planted.results, PLATE)
    words = {path.parent.name: path.read_text() for path in paths if path.suffix == ".svg"}
    assert "share of fields dropped" in words["quality"]
    _, cells = planted.dropped()
    for reason, count in cells["reason"].value_counts().items():
        assert f"{reason}: {count}" in words["dropped"]


def test_results_without_tiles_are_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="measured/cells"):
        explore(tmp_path, QualitySettings())


@pytest.mark.parametrize("light", [4, 200])
def test_noise_of_a_dim_field_does_not_pass_for_sharpness(light: int) -> None:
    rng = np.random.default_rng(0)
    points = (rng.random((256, 256)) < 0.01) * rng.exponential(1.0, (256, 256))
    found = []
    for blur in (1.2, 5):  # pixels
        image = gaussian_filter(points, blur, mode="wrap")
        counts = 100 + rng.poisson(light * image / image.mean()) + rng.normal(0, 3, image.shape)
        field = counts.clip(0).round().astype(np.uint16)[None]
        measures = measure_field(field, (image > image.mean()).astype(int), [None])
        found.append(measures["focus"].item())
    sharp, blurred = found
    assert blurred < QualitySettings().field_focus * sharp


def test_outliers_are_robust_standard_deviations() -> None:
    values = np.random.default_rng(0).normal(50, 3, 20_000)
    values[:2000] = 1e6  # a tenth spoilt: a plain standard deviation would hide all
    found = outliers(values, 0.01)
    np.testing.assert_allclose(found[2000:].std(), 1, atol=0.2)
    assert found[:2000].min() > 1e5
    assert np.isnan(outliers(values[2000:2005], 0.01)).all()
    np.testing.assert_array_equal(outliers(np.full(30, 7.0), 0.01), 0)
    typical = np.arange(20_000) >= 2000
    assert relative(values, typical)[5000:].mean() == pytest.approx(1, abs=0.01)


def test_dim_in_one_channel_is_a_phenotype_and_dim_in_all_is_debris() -> None:
    rng = np.random.default_rng(0)
    n, channels = 60, ("nucleus", "mitochondria", "fibres")
    spreads = {f"spread_{name}": np.exp(rng.normal(5, 0.1, n)) for name in channels}
    cells = pd.DataFrame({"cell_id": [f"P/A01/1/{k}" for k in range(n)], **spreads})
    cells = cells.assign(
        plate="P", well="A01", site="1", autocorrelation=0.9, focus=0.1, difference=1
    )
    cells = cells.assign(area=900.0, nucleus_area=200.0, saturated=0.0)
    cells = cells.assign(**{f"intensity_{name}": 300.0 for name in channels})
    cells.loc[0, list(spreads)] /= 10
    for k, name in enumerate(spreads, start=1):
        cells.loc[k, name] /= 10
    _, dropped = judge(pd.DataFrame(), cells_against_plate(cells), QualitySettings())
    assert dropped[["cell_id", "reason"]].to_numpy().tolist() == [["P/A01/1/0", "debris, dim"]]


@pytest.mark.realdata
def test_the_known_noise_of_bbbc021_is_dropped(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """The plates of the 52 cells that its README calls noise-like: these go, and few others."""
    folder = real_data("bbbc021_cells")
    known = pd.read_csv(folder / "cells.csv")
    lost, clean = 0, 0
    for plate in known.loc[known["noise_like"], "plate"].unique():
        columns = {"compound": "treatment", "tile_file": "stack", "tile_index": "index"}
        row = PlateRow(
            plate=plate,
            kind="tiles",
            table=str(folder / "cells.csv"),
            columns=columns | {"cell": "label"},
        )
        names = ImagesSettings(channels={"1": "DNA", "2": "actin", "3": "tubulin"})
        make_tiles(row, tmp_path, TilesSettings(), names, 0, tmp_path)
        select_cells(tmp_path, plate, QualitySettings())
        cells = MEASURED_CELLS.read(tmp_path / "measured" / "cells" / f"{plate}.parquet")
        told = DROPPED.read(tmp_path / "dropped" / f"{plate}.csv")
        noise = set(cells.loc[cells["noise_like"].astype(bool), "cell_id"])
        assert set(told.loc[told["reason"] == "noise only", "cell_id"]) == noise
        lost += len(told) - len(noise)
        clean += len(cells) - len(noise)
    assert lost <= 0.02 * clean
