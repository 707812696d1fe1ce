"""A plate from a recipe: images, dark frames, platemap and truth, published at once."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from vae_sci.errors import InputError
from vae_sci.files import publish
from vae_sci.simulate.camera import expose
from vae_sci.simulate.cells import Outline, draw_nuclei, label_cells, place_centres, place_nuclei
from vae_sci.simulate.optics import blur, vignette
from vae_sci.simulate.organelles import fibres, mitochondria
from vae_sci.simulate.recipe import CHANNELS, CONTROL, Plate, Recipe


class Field(NamedTuple):
    """One field before the microscope.

    light (C, H, W) electrons; cells, nuclei (H, W) uint16 labels; table: one row a cell;
    in_focus: whether the field is to be imaged in focus.
    """

    light: NDArray[np.float64]
    cells: NDArray[np.uint16]
    nuclei: NDArray[np.uint16]
    table: pd.DataFrame
    in_focus: bool


def generator(recipe: Recipe, plate: str, well: str = "", site: int = 0) -> np.random.Generator:
    """The random generator of a plate, well or field: the same whatever ran before it."""
    key = [recipe.seed, zlib.crc32(plate.encode()), zlib.crc32(well.encode()), site]
    return np.random.default_rng(np.random.SeedSequence(key))


def plan(recipe: Recipe, plate: str) -> pd.DataFrame:
    """The platemap: well, treatment, concentration (µM), control; wells in random order a plate."""
    rows: list[tuple[str, float, bool]] = [(CONTROL, 0.0, True)] * recipe.layout.control_wells
    for treatment in recipe.treatments:
        for dose in treatment.doses:
            rows += [(treatment.name, dose, False)] * recipe.layout.wells_per_dose
    wells = generator(recipe, plate).permutation(recipe.wells)[: len(rows)]
    table = pd.DataFrame(rows, columns=["treatment", "concentration", "control"])
    table.insert(0, "well", wells)
    return table.sort_values("well", ignore_index=True)


def draw_factors(
    rng: np.random.Generator, recipe: Recipe, treatment: str, concentration: float, count: int
) -> pd.DataFrame:
    """Factors of `count` cells, one row each.

    Columns: fragmentation and fibre_alignment (0 to 1), nuclear_area (µm², of a single nucleus),
    n_nuclei, mito_intensity (1 is a control's mean). A treatment moves the mean of its own factor
    from the control's towards `saturated` by its Hill response; the others stay.
    """
    base = recipe.factors
    mean: dict[str, float] = {
        "fragmentation": base.fragmentation.mean,
        "fibre_alignment": base.fibre_alignment.mean,
        "nuclear_area": base.nuclear_area.mean,
        "multinucleation": base.multinucleation,
        "mito_intensity": base.mito_intensity.mean,
    }
    for t in recipe.treatments:
        if t.name == treatment and t.factor is not None:
            mean[t.factor] += (t.saturated - mean[t.factor]) * t.response(concentration)

    def bounded(name: str, spread: float) -> NDArray[np.float64]:
        return np.clip(rng.normal(mean[name], spread, count), 0, 1)

    def positive(name: str, spread: float) -> NDArray[np.float64]:
        return mean[name] * np.exp(rng.normal(-(spread**2) / 2, spread, count))

    more = rng.random(count) < mean["multinucleation"]
    third = rng.random(count) < 0.25
    return pd.DataFrame(
        {
            "fragmentation": bounded("fragmentation", base.fragmentation.spread),
            "fibre_alignment": bounded("fibre_alignment", base.fibre_alignment.spread),
            "nuclear_area": positive("nuclear_area", base.nuclear_area.spread),
            "n_nuclei": 1 + more + (more & third),
            "mito_intensity": positive("mito_intensity", base.mito_intensity.spread),
        }
    )


def draw_field(
    rng: np.random.Generator, recipe: Recipe, treatment: str, concentration: float
) -> Field:
    """Draw one field of cells under a treatment, as the light that leaves the sample."""
    fields, bright = recipe.fields, recipe.brightness
    size, pixel = fields.size, fields.pixel_size
    in_focus = bool(rng.random() >= fields.out_of_focus)
    radius = fields.cell_diameter / 2 / pixel
    spread = max(1, fields.cells // 10)
    wanted = int(rng.integers(fields.cells - spread, fields.cells + spread + 1))
    centres = place_centres(rng, wanted, size, spacing=1.45 * radius)
    count = len(centres)
    factors = draw_factors(rng, recipe, treatment, concentration, count)

    outlines = [Outline.draw(rng, c, radius * rng.uniform(0.88, 1.14), 0.12) for c in centres]
    cells = label_cells(outlines, size)
    nuclei_of = [
        place_nuclei(rng, c + rng.normal(0, 1.5, 2), area / pixel**2, n)
        for c, area, n in zip(centres, factors.nuclear_area, factors.n_nuclei, strict=True)
    ]
    pairs = [(label, n) for label, many in enumerate(nuclei_of, start=1) for n in many]
    nuclei, thickness = draw_nuclei(pairs, cells)

    walls = np.zeros(cells.shape, bool)
    walls[1:] |= cells[1:] != cells[:-1]
    walls[:, 1:] |= cells[:, 1:] != cells[:, :-1]
    open_space = (cells > 0) & ~walls & (nuclei == 0)
    depth = distance_transform_edt(open_space)
    territory = np.where(open_space, cells, 0).astype(np.uint16)

    area = np.bincount(cells.ravel(), minlength=count + 1)[1:]
    stain = np.exp(rng.normal(0, 0.1, (2, count)))
    chromatin = gaussian_filter(rng.standard_normal(cells.shape), 1.6)
    chromatin *= 0.22 / chromatin.std()
    body = np.tanh((depth + (nuclei > 0) * 8) / 8) * (cells > 0)
    dna = bright.nucleus * thickness * np.exp(chromatin) * np.append(1, stain[0])[nuclei]
    mito = mitochondria(
        rng,
        territory,
        depth,
        centres,
        factors.fragmentation.to_numpy(),
        bright.mitochondria * area * factors.mito_intensity.to_numpy(),
    )
    net = fibres(
        rng, cells, centres, factors.fibre_alignment.to_numpy(), bright.fibres * area * stain[1]
    )
    light = np.stack([dna, mito, net]) + body * np.array(bright.haze)[:, None, None]
    light += _debris(rng, fields.debris, size)

    edge = np.unique(np.concatenate([cells[0], cells[-1], cells[:, 0], cells[:, -1]]))
    label = np.arange(1, count + 1)
    middle = [np.mean([n.centre for n in many], axis=0) for many in nuclei_of]
    table = factors.assign(
        cell_area=area * pixel**2,
        label=label,
        y=[m[0] for m in middle],
        x=[m[1] for m in middle],
        cut_at_border=np.isin(label, edge),
    )
    return Field(light, cells, nuclei, table, in_focus)


def _debris(rng: np.random.Generator, mean: float, size: int) -> NDArray[np.float64]:
    """Bright blobs in all channels (C, size, size), electrons; `mean` a field."""
    image = np.zeros((len(CHANNELS), size, size))
    grid = np.arange(size)
    for _ in range(rng.poisson(mean)):
        y, x = rng.uniform(0, size, 2)
        sigma = rng.uniform(2, 5)
        blob = np.outer(*(np.exp(-0.5 * ((grid - at) / sigma) ** 2) for at in (y, x)))
        image += rng.uniform(500, 6000, (len(CHANNELS), 1, 1)) * blob
    return image


def _write(path: Path, image: NDArray[np.generic], pixel_size: float) -> None:
    """A TIFF of one image, compressed without loss, with its pixel size (µm) and no date."""
    per_cm = 1e4 / pixel_size
    tifffile.imwrite(
        path,
        image,
        compression="zlib",
        compressionargs={"level": 1},
        predictor=image.dtype.kind == "u",
        photometric="minisblack",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        software="vae_sci",
        metadata=None,
    )


def _check_replaceable(folder: Path) -> None:
    """InputError if `folder` holds files that no simulation has made."""
    if (folder / "truth/camera.json").exists():
        return
    stranger = next((path for path in folder.rglob("*") if path.is_file()), None)
    if stranger is not None:
        raise InputError(
            required=f"a new or empty folder, or a simulated plate to replace: {folder}",
            found=f"files of another kind, such as {stranger}",
            action="name another folder, or move these files away",
        )


def simulate_plate(
    recipe: Recipe,
    plate: str,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Simulate one plate of the recipe into `folder`, which appears only when it is complete.

    folder/images/{plate}_{well}_s{site}_w{channel}.tif   (H, W) uint16 grey levels; w1 nucleus,
                                                          w2 mitochondria, w3 fibres
    folder/dark/{plate}_dark_{i}.tif                      frames without light, uint16
    folder/platemap.csv                                   well, treatment, concentration, control
    folder/truth/                                         what no camera sees: cells.parquet,
        fields.parquet, masks/ (labels of cells and nuclei), vignette.tif (C, H, W), camera.json

    progress : called with (fields done, fields in all). A plate simulated earlier is replaced.
    Raises InputError if the recipe has no such plate, or if `folder` holds anything else.
    """
    this = recipe.plate(plate)
    folder = Path(folder)
    _check_replaceable(folder)
    with publish(folder) as work:
        _simulate(recipe, plate, this, work, progress)


def _simulate(
    recipe: Recipe,
    plate: str,
    this: Plate,
    work: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    """`simulate_plate` into the new folder `work`."""
    for part in ("images", "dark", "truth/masks"):
        (work / part).mkdir(parents=True)
    fields, camera = recipe.fields, recipe.camera
    pixel = fields.pixel_size
    platemap = plan(recipe, plate)
    platemap.to_csv(work / "platemap.csv", index=False, lineterminator="\n")
    light_field = vignette(generator(recipe, plate, "vignette"), recipe.optics, fields.size)
    _write(work / "truth/vignette.tif", light_field, pixel)
    dark_rng = generator(recipe, plate, "dark")
    for i in range(camera.dark_frames):
        frame = expose(dark_rng, np.zeros((fields.size, fields.size)), camera, this.gain)
        _write(work / "dark" / f"{plate}_dark_{i:02d}.tif", frame, pixel)

    cell_tables, field_rows, total = [], [], len(platemap) * fields.per_well
    columns = ("well", "treatment", "concentration")
    for well, treatment, concentration in zip(*(platemap[c] for c in columns), strict=True):
        well_rng = generator(recipe, plate, well)
        well_factor = np.exp(well_rng.normal(0, fields.well_variation, len(CHANNELS)))
        for site in range(1, fields.per_well + 1):
            rng = generator(recipe, plate, well, site)
            field = draw_field(rng, recipe, treatment, concentration)
            name = f"{plate}_{well}_s{site}"
            for c in range(len(CHANNELS)):
                seen = blur(field.light[c], recipe.optics, c, pixel, field.in_focus)
                seen = seen * (this.staining[c] * well_factor[c]) + recipe.brightness.background
                grey = expose(rng, seen * light_field[c], camera, this.gain)
                _write(work / "images" / f"{name}_w{c + 1}.tif", grey, pixel)
            _write(work / "truth/masks" / f"{name}_cells.tif", field.cells, pixel)
            _write(work / "truth/masks" / f"{name}_nuclei.tif", field.nuclei, pixel)
            where: dict[str, Any] = {"plate": plate, "well": well, "site": site}
            what = {"treatment": treatment, "concentration": concentration}
            cell_tables.append(field.table.assign(**where, **what))
            field_rows.append({**where, "in_focus": field.in_focus, "n_cells": len(field.table)})
            if progress is not None:
                progress(len(field_rows), total)

    pd.concat(cell_tables, ignore_index=True).to_parquet(work / "truth/cells.parquet")
    pd.DataFrame(field_rows).to_parquet(work / "truth/fields.parquet")
    settings = {
        "gain": camera.gain * this.gain,
        "offset": camera.offset,
        "read_noise": camera.read_noise,
        "bits": camera.bits,
        "staining": dict(zip(CHANNELS, this.staining, strict=True)),
    }
    (work / "truth/camera.json").write_text(json.dumps(settings, indent=2) + "\n")
