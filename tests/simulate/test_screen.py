"""A simulated plate: reproducible, complete, and true to what it says of itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, label
from skimage.filters import threshold_otsu
from skimage.measure import regionprops_table

from vae_sci.errors import InputError
from vae_sci.simulate.recipe import CONTROL, Recipe, read_recipe
from vae_sci.simulate.screen import draw_factors, draw_field, generator, plan, simulate_plate

RECIPES = Path(__file__).parents[2] / "resources" / "simulate"
OWN_COLUMN = {"multinucleation": "n_nuclei"}


@pytest.fixture(scope="module")
def tiny() -> Recipe:
    return read_recipe(RECIPES / "tiny.yaml")


@pytest.fixture(scope="module")
def demo() -> Recipe:
    return read_recipe(RECIPES / "screen.yaml")


@pytest.fixture(scope="module")
def plate(tiny: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screen") / "tiny1"
    simulate_plate(tiny, "tiny1", folder)
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_same_seed_gives_the_same_bytes_whatever_ran_before(
    tiny: Recipe, plate: Path, tmp_path: Path
) -> None:
    np.random.seed(1)
    simulate_plate(tiny, "tiny2", tmp_path / "tiny2")
    simulate_plate(tiny, "tiny1", tmp_path / "tiny1")
    assert digests(tmp_path / "tiny1") == digests(plate)
    one, two = (plan(tiny, name).drop(columns="well") for name in ("tiny1", "tiny2"))
    assert not one.equals(two)


def test_other_seed_gives_other_cells_and_another_layout(
    tiny: Recipe, plate: Path, tmp_path: Path
) -> None:
    other = tiny.model_copy(update={"seed": tiny.seed + 1})
    simulate_plate(other, "tiny1", tmp_path / "tiny1")
    before, after = digests(plate), digests(tmp_path / "tiny1")
    shared = {name for name in before if name.startswith("images/")} & set(after)
    assert shared
    assert all(before[name] != after[name] for name in shared)
    assert before["platemap.csv"] != after["platemap.csv"]


def test_every_image_has_its_well_in_the_platemap(tiny: Recipe, plate: Path) -> None:
    platemap = pd.read_csv(plate / "platemap.csv")
    assert list(platemap.columns) == ["well", "treatment", "concentration", "control"]
    expected = {
        f"tiny1_{well}_s{site}_w{channel}.tif"
        for well in platemap["well"]
        for site in range(1, tiny.fields.per_well + 1)
        for channel in (1, 2, 3)
    }
    assert {path.name for path in (plate / "images").iterdir()} == expected
    assert (platemap["control"] == (platemap["treatment"] == CONTROL)).all()
    assert (platemap["control"] == (platemap["concentration"] == 0)).all()
    assert platemap["control"].sum() == tiny.layout.control_wells
    assert (platemap.query("~control").groupby("treatment").size() == 2).all()


def test_images_are_16_bit_counts_with_a_pixel_size_below_the_ceiling(
    tiny: Recipe, plate: Path
) -> None:
    for path in (plate / "images").iterdir():
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            assert page.dtype == np.uint16
            assert page.shape == (tiny.fields.size, tiny.fields.size)
            pixels, per = page.tags["XResolution"].value
            assert 1e4 * per / pixels == pytest.approx(tiny.fields.pixel_size)
            assert "DateTime" not in page.tags
            assert page.asarray().max() <= 2**tiny.camera.bits - 1


def test_dark_frames_show_offset_and_read_noise(plate: Path) -> None:
    camera = json.loads((plate / "truth/camera.json").read_text())
    frames = np.stack([tifffile.imread(p) for p in sorted((plate / "dark").iterdir())])
    assert frames.shape[0] == 20
    sd = np.hypot(camera["gain"] * camera["read_noise"], np.sqrt(1 / 12))
    standard_error = sd / np.sqrt(frames.size)
    assert frames.mean() == pytest.approx(camera["offset"], abs=5 * standard_error)
    assert frames.std() == pytest.approx(sd, rel=0.01)


def test_truth_masks_match_the_truth_table(plate: Path) -> None:
    cells = pd.read_parquet(plate / "truth/cells.parquet")
    fields = pd.read_parquet(plate / "truth/fields.parquet")
    assert len(fields) == cells.groupby(["well", "site"]).ngroups
    for row in fields.itertuples():
        name = plate / "truth/masks" / f"tiny1_{row.well}_s{row.site}"
        mask = tifffile.imread(f"{name}_cells.tif")
        nuclei = tifffile.imread(f"{name}_nuclei.tif")
        table = cells[(cells["well"] == row.well) & (cells["site"] == row.site)]
        assert row.n_cells == len(table)
        assert set(np.unique(mask)) - {0} == set(table["label"])
        assert set(np.unique(nuclei)) - {0} == set(table["label"])
        assert (mask[nuclei > 0] == nuclei[nuclei > 0]).all()
        border = set(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])) - {0}
        assert set(table.loc[table["cut_at_border"], "label"]) == border
        whole = table[~table["cut_at_border"]].set_index("label")
        found = pd.DataFrame(regionprops_table(nuclei, properties=("label", "centroid")))
        found = found.set_index("label").loc[whole.index]
        assert np.abs(found["centroid-0"] - whole["y"]).max() < 1.5
        assert np.abs(found["centroid-1"] - whole["x"]).max() < 1.5
        for number, count in whole["n_nuclei"].items():
            assert label(nuclei == number)[1] == count


def test_progress_counts_every_field_and_a_failure_leaves_nothing(
    tiny: Recipe, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []

    def stop_at_three(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 3:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        simulate_plate(tiny, "tiny1", tmp_path / "tiny1", progress=stop_at_three)
    assert seen == [(1, 8), (2, 8), (3, 8)]
    assert not (tmp_path / "tiny1").exists()


def test_files_of_others_are_never_replaced(tiny: Recipe, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        simulate_plate(tiny, "tiny1", tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_unknown_plate_is_named(tiny: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tiny9"):
        simulate_plate(tiny, "tiny9", tmp_path / "x")


def test_layout_is_random_but_complete(demo: Recipe) -> None:
    places = []
    for seed in range(40):
        table = plan(demo.model_copy(update={"seed": seed}), "plate1")
        assert len(table) == 44
        assert table["well"].is_unique
        assert set(table["well"]) <= set(demo.wells)
        counts = table[~table["control"]].groupby(["treatment", "concentration"]).size()
        assert len(counts) == 18
        assert (counts == 2).all()
        places.append(table.loc[table["control"], "well"])
    used = pd.concat(places).value_counts().reindex(demo.wells, fill_value=0)
    # 320 control places over 60 wells: each well's count is about binomial(40, 8/60).
    assert used.max() < 40 * 8 / 60 + 5 * np.sqrt(40 * 8 / 60)
    assert (used > 0).mean() > 0.95


def test_a_treatment_moves_its_own_factor_alone_and_more_with_dose(demo: Recipe) -> None:
    def draw(treatment: str, dose: float) -> pd.DataFrame:
        return draw_factors(np.random.default_rng(5), demo, treatment, dose, 4000)

    control = draw(CONTROL, 0.0)
    for treatment in demo.treatments:
        tables = [draw(treatment.name, dose) for dose in treatment.doses]
        if treatment.factor is None:
            assert all(table.equals(control) for table in tables)
            continue
        own = OWN_COLUMN.get(treatment.factor, treatment.factor)
        others = control.columns.drop(own)
        assert all(table[others].equals(control[others]) for table in tables)
        means = np.array([control[own].mean(), *(table[own].mean() for table in tables)])
        steps = np.diff(means)
        assert (steps > 0).all() or (steps < 0).all(), (treatment.name, means)
        assert abs(means[-1] - means[0]) > 2 * control[own].std()


def test_nearly_every_cell_at_the_top_dose_has_several_nuclei(demo: Recipe) -> None:
    rng = np.random.default_rng(0)
    dose = next(t.doses[-1] for t in demo.treatments if t.name == "cytoblockin")
    treated = draw_factors(rng, demo, "cytoblockin", dose, 5000)["n_nuclei"] > 1
    control = draw_factors(rng, demo, CONTROL, 0.0, 5000)["n_nuclei"] > 1
    assert treated.mean() > 0.95
    assert control.mean() < 0.05


def test_the_inert_compound_gives_the_very_light_of_a_control(demo: Recipe) -> None:
    inert = draw_field(np.random.default_rng(3), demo, "inertol", 100.0)
    control = draw_field(np.random.default_rng(3), demo, CONTROL, 0.0)
    np.testing.assert_array_equal(inert.light, control.light)


def test_a_field_depends_on_plate_well_and_site(demo: Recipe) -> None:
    keys = [("plate1", "B02", 1), ("plate2", "B02", 1), ("plate1", "B03", 1), ("plate1", "B02", 2)]
    draws = {generator(demo, *key).integers(2**62) for key in keys}
    assert len(draws) == len(keys)
    assert generator(demo, *keys[0]).integers(2**62) in draws


def test_a_demo_well_has_25_whole_cells_for_a_simple_segmentation(
    demo: Recipe, tmp_path: Path
) -> None:
    layout = demo.layout.model_copy(update={"control_wells": 3})
    fields = demo.fields.model_copy(update={"out_of_focus": 0.0})
    recipe = demo.model_copy(update={"treatments": (), "layout": layout, "fields": fields})
    simulate_plate(recipe, "plate2", tmp_path / "p")
    for well in plan(recipe, "plate2")["well"]:
        whole = 0
        for site in range(1, recipe.fields.per_well + 1):
            image = tifffile.imread(tmp_path / "p/images" / f"plate2_{well}_s{site}_w1.tif")
            smooth = gaussian_filter(np.log(image.astype(float)), 2)
            objects = label(smooth > threshold_otsu(smooth))[0]
            table = regionprops_table(objects, properties=("centroid", "area"))
            y, x = table["centroid-0"], table["centroid-1"]
            inside = (np.minimum(y, x) > 32) & (np.maximum(y, x) < recipe.fields.size - 32)
            whole += int((inside & (table["area"] > 150)).sum())
        assert whole >= 25, well
