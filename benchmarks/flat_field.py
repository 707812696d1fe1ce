"""Is the flat field that was planted found, and nothing where there is none?

    python benchmarks/flat_field.py --json FILE [--seeds N ...] [--cells N ...] [--fields N]

Plates of the simulated demo screen (512 × 512, 44 wells with --fields in each, three channels),
drawn once per seed and number of cells a field, then exposed with the recipe's vignetting and
without. Per channel: median absolute relative error of the recovered field (both of mean 1), and
the coefficient of variation of the mean light of whole cells between 3 × 3 positions in the field:
as seen, after correction, and under even light, which is what chance leaves. Cells are the truth's;
in the nucleus channel, nuclei.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_sci.files import write_json
from vae_sci.images.flat_field import FlatField, estimate_flat_field
from vae_sci.simulate.camera import expose
from vae_sci.simulate.optics import blur, vignette
from vae_sci.simulate.recipe import CHANNELS, Recipe, read_recipe
from vae_sci.simulate.screen import draw_field, generator, plan

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "resources" / "simulate" / "screen.yaml"
PLACES = 3  # positions along each edge of a field

Light = NDArray[np.float16]


def draw(recipe: Recipe) -> tuple[list[Light], list[NDArray[Any]]]:
    """Electrons under even light (C, H, W), and labels (C, H, W) of what is measured, per field."""
    plate = recipe.plates[0]
    lights, labels = [], []
    table = plan(recipe, plate.name)
    for well, treatment, dose in zip(table.well, table.treatment, table.concentration, strict=True):
        spread = recipe.fields.well_variation
        stain = np.exp(generator(recipe, plate.name, well).normal(0, spread, len(CHANNELS)))
        for site in range(1, recipe.fields.per_well + 1):
            rng = generator(recipe, plate.name, well, site)
            field = draw_field(rng, recipe, treatment, dose)
            seen = [
                blur(light, recipe.optics, c, recipe.fields.pixel_size, field.in_focus) * stain[c]
                for c, light in enumerate(field.light)
            ]
            lights.append((np.stack(seen) + recipe.brightness.background).astype(np.float16))
            labels.append(np.stack([field.nuclei, field.cells, field.cells]).astype(np.uint8))
    return lights, labels


def exposed(recipe: Recipe, lights: list[Light], flat: NDArray[Any]) -> Iterator[NDArray[Any]]:
    rng = generator(recipe, "exposure")
    for light in lights:
        yield expose(rng, light.astype(np.float64) * flat, recipe.camera)


def variation(
    lights: list[Light], labels: list[NDArray[Any]], flat: NDArray[Any], channel: int
) -> float:
    """Coefficient of variation, between positions, of the mean light of cells within the field."""
    size = flat.shape[-1]
    place = np.arange(size) * PLACES // size
    total, count = np.zeros(PLACES**2), np.zeros(PLACES**2)
    for light, label in zip(lights, labels, strict=True):
        mask = label[channel]
        area = np.bincount(mask.ravel(), minlength=mask.max() + 1)
        seen = light[channel].astype(np.float64) * flat[channel]
        mean = np.bincount(mask.ravel(), seen.ravel(), len(area)) / np.maximum(area, 1)
        y, x = (
            np.bincount(mask.ravel(), np.broadcast_to(at, mask.shape).ravel(), len(area))
            / np.maximum(area, 1)
            for at in (np.arange(size)[:, None], np.arange(size))
        )
        border = np.concatenate([mask[[0, -1]].ravel(), mask[:, [0, -1]].ravel()])
        whole = np.setdiff1d(np.flatnonzero(area), [0, *border])
        where = place[y[whole].astype(int)] * PLACES + place[x[whole].astype(int)]
        # Fields differ in stain and treatment, not cells of a field.
        np.add.at(total, where, mean[whole] / mean[whole].mean() if len(whole) else 0)
        np.add.at(count, where, 1)
    means = total / count
    return float(means.std() / means.mean())


def measure(recipe: Recipe, seed: int, cells: int, per_well: int) -> Iterator[dict[str, Any]]:
    """One row per channel, with vignetting and without."""
    fields = recipe.fields.model_copy(update={"cells": cells, "per_well": per_well})
    recipe = recipe.model_copy(update={"seed": seed, "fields": fields})
    lights, labels = draw(recipe)
    rng = generator(recipe, recipe.plates[0].name, "vignette")
    planted = vignette(rng, recipe.optics, fields.size).astype(np.float64)
    planted /= planted.mean(axis=(1, 2), keepdims=True)
    even = np.ones_like(planted)
    for kind, flat in (("vignetting", planted), ("even", even)):
        found: FlatField = estimate_flat_field(exposed(recipe, lights, flat))
        for c, channel in enumerate(CHANNELS):
            yield {
                "seed": seed,
                "cells": cells,
                "fields": len(lights),
                "light": kind,
                "channel": channel,
                "error": float(np.median(np.abs(found.gain[c] / flat[c] - 1))),
                "error_uncorrected": float(np.median(np.abs(1 / flat[c] - 1))),
                "strength": float(found.strength[c]),
                "uncertainty": float(found.uncertainty[c]),
                "planted": float(np.ptp(flat[c])),
                "used": bool(found.used[c]),
                "cv_seen": variation(lights, labels, flat, c),
                "cv_corrected": variation(lights, labels, flat / found.gain, c),
                "cv_even": variation(lights, labels, even, c),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14])
    parser.add_argument("--cells", type=int, nargs="+", default=[24, 8])
    parser.add_argument("--fields", type=int, default=2, help="of each well")
    chosen = parser.parse_args()
    recipe, rows = read_recipe(RECIPE), []
    for cells in chosen.cells:
        for seed in chosen.seeds:
            for row in measure(recipe, seed, cells, chosen.fields):
                rows.append(row)
                print(
                    f"seed {row['seed']}, {row['cells']} cells, {row['light']}, {row['channel']}: "
                    f"error {row['error']:.2%} of {row['error_uncorrected']:.2%}; range "
                    f"{row['strength']:.3f} ± {row['uncertainty']:.3f}, planted "
                    f"{row['planted']:.3f}; CV {row['cv_seen']:.2%} → {row['cv_corrected']:.2%}, "
                    f"even {row['cv_even']:.2%}",
                    flush=True,
                )
    write_json({"rows": rows}, chosen.json)


if __name__ == "__main__":
    main()
