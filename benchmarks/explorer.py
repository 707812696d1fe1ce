"""The explorer on a made-up screen: seconds to write it, its size, and seconds in a browser.

    python benchmarks/explorer.py --cells 100000 --json FILE [--work DIR] [--loads N]

Cells lie in eight groups in z and on the map; 64 tiles are drawn over and over. The page is opened
from disk in headless Chromium, which draws in software: a machine with a graphics card is faster.
`load` lasts from opening the address until map, legend and gallery stand, `recolour` and `lasso`
from the change until they stand again, `frame` is the mean time of a picture while the map is
dragged, `rest` until it is drawn where it was left. Medians over the loads.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vae_sci.config import ReportSettings
from vae_sci.contracts import CELLS, TILES
from vae_sci.files import write_json
from vae_sci.progress import bar
from vae_sci.report.explorer.make import make_explorer
from vae_sci.tiles.store import write_store

GROUPS, PLATES, TREATMENTS = 8, 4, 20
CHANNELS = ("nucleus", "mitochondria", "fibres")


def make_screen(results: Path, n_cells: int, side: int = 64, dimensions: int = 32) -> None:
    """Write the tables of cells and tiles and the stores that the explorer reads."""
    rng = np.random.default_rng(0)
    group = rng.choice(GROUPS, n_cells, p=np.arange(1, GROUPS + 1) / 36)
    centres = rng.normal(0, 3, (GROUPS, dimensions))
    angle = 2 * np.pi * group / GROUPS
    place = 7 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(0, 1.1, (n_cells, 2))
    z = (centres[group] + rng.normal(size=(n_cells, dimensions))).astype(np.float32)
    well = np.sort(rng.integers(0, PLATES * 384, n_cells))
    plate, well = well // 384, well % 384
    rows = pd.Series([chr(65 + k // 24) + f"{k % 24 + 1:02d}" for k in range(384)])
    treatment = np.where(well % 24 < 2, 0, 1 + (well * 7 + group) % (TREATMENTS - 1))
    names = pd.Series(["DMSO", *(f"compound {k:02d}" for k in range(1, TREATMENTS))])
    cells = pd.DataFrame(
        {
            "plate": [f"P{k}" for k in plate],
            "well": rows.iloc[well].to_numpy(),
            "site": (np.arange(n_cells) % 4 + 1).astype(str),
            "batch": "b1",
            "y": rng.random(n_cells) * 1000,
            "x": rng.random(n_cells) * 1000,
            "treatment": names.iloc[treatment].to_numpy(),
            "concentration": np.where(treatment == 0, np.nan, 10.0 ** (well % 4 - 2)),
            "control": treatment == 0,
            "split": "train",
            "cluster": (GROUPS - 1 - group).astype(str),
            "umap_1": place[:, 0],
            "umap_2": place[:, 1],
            "rate_z": rng.gamma(20, 2, n_cells),
            "rate_u": rng.gamma(200, 2, n_cells),
            "distortion": rng.lognormal(9, 0.1, n_cells),
            "novelty": rng.random(n_cells) * 100,
            "normalized_by": "plate",
            "confidence": rng.random(n_cells),
            "fitted": True,
        }
    )
    label = cells.groupby(["plate", "well", "site"]).cumcount() + 1
    key = cells["plate"] + "/" + cells["well"] + "/" + cells["site"] + "/" + label.astype(str)
    cells.insert(0, "cell_id", key)
    latent = pd.DataFrame(z, columns=[f"z_{k:03d}" for k in range(dimensions)])
    table = pd.concat([cells, latent], axis=1).sort_values("cell_id", ignore_index=True)
    CELLS.write(table, results / CELLS.path.format(model="vae"))
    pixels = _tiles(rng, side)
    for name, part in cells.groupby("plate"):
        with write_store(
            results / f"tiles/{name}.zarr",
            channels=CHANNELS,
            size=side,
            dtype="uint16",
            masks=False,
            pixel_size_um=0.5,
            about={"plate": name},
        ) as writer:
            for start in range(0, len(part), 2048):
                index = part.index[start : start + 2048].to_numpy()
                writer.append(pixels[group[index] * 8 + index % 8])
        tiles = part[["cell_id", "plate", "well", "site", "batch", "split", "y", "x"]]
        tiles = tiles.assign(
            tile=np.arange(len(part)),
            y0=0,
            x0=0,
            saturated=0.0,
            autocorrelation=0.9,
            focus=rng.gamma(3, 0.01, len(part)),
            difference=1.0,
            area=rng.gamma(30, 100, len(part)),
            nucleus_area=rng.gamma(30, 20, len(part)),
            store_digest=writer.digest,
            **{f"intensity_{channel}": rng.gamma(30, 9, len(part)) for channel in CHANNELS},
            **{f"spread_{channel}": rng.gamma(30, 4, len(part)) for channel in CHANNELS},
        )
        TILES.write(tiles, results / TILES.path.format(plate=name))


def _tiles(rng: np.random.Generator, side: int) -> np.ndarray:
    """Eight tiles for each of eight groups, counts (64, C, H, W)."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    made = np.empty((GROUPS * 8, len(CHANNELS), side, side))
    for k in range(len(made)):
        turn = rng.uniform(0, np.pi)
        along = np.cos(turn) * x + np.sin(turn) * y
        waves = 1 + np.sin((25 + 8 * (k // 8)) * along + rng.uniform(0, 6))
        cell = np.exp(-(x**2 + y**2) * 9)
        made[k, 0] = np.exp(-((x * (1 + k // 8 / 8)) ** 2 + y**2) * 60)
        made[k, 1] = cell * (1 + np.sin(40 * x + rng.uniform(0, 6)) * np.sin(40 * y)) * 0.6
        made[k, 2] = cell * waves * 0.6
    return rng.poisson(100 + 900 * made).astype(np.uint16)


READY = "turn => Number(document.body.dataset.ready) > turn"


def measure_page(page: Path, loads: int) -> dict[str, Any]:
    """Seconds of what a user waits for, medians over `loads` fresh pages."""
    from playwright.sync_api import sync_playwright

    found: list[dict[str, float]] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        name = f"Chromium {browser.version}"
        for _ in range(loads):
            opened = browser.new_page(viewport={"width": 1280, "height": 800})
            seconds = {}

            def timed(what: str, act: Any, opened: Any = opened, into: Any = seconds) -> None:
                turn = opened.evaluate("Number(document.body.dataset.ready ?? 0)")
                start = time.perf_counter()
                act()
                opened.wait_for_function(READY, arg=turn)
                into[what] = time.perf_counter() - start

            start = time.perf_counter()
            opened.goto(page.resolve().as_uri())
            opened.wait_for_function(READY, arg=0, timeout=120_000)
            seconds["load"] = time.perf_counter() - start
            colour = opened.locator("#colour")
            timed("recolour_groups", lambda c=colour: c.select_option("cluster"))
            timed("recolour_numbers", lambda c=colour: c.select_option("novelty"))
            seconds |= opened.evaluate(DRAG)
            opened.locator("#lasso").click()
            corners = ((400, 200), (800, 200), (800, 500), (400, 500))
            opened.mouse.move(*corners[0])
            opened.mouse.down()
            for corner in corners[1:]:
                opened.mouse.move(*corner, steps=5)
            timed("lasso", opened.mouse.up)
            found.append(seconds)
            opened.close()
        browser.close()
    medians = {name: statistics.median(s[name] for s in found) for name in found[0]}
    return {"browser": name, "loads": loads, "seconds": medians, "all": found}


# The map is moved a little for each picture, as while it is dragged, and then drawn where it rests.
DRAG = """async () => {
  const frames = 20;
  const start = performance.now();
  for (let k = 0; k < frames; k++) {
    shift(5, 3);
    await new Promise(requestAnimationFrame);
  }
  const moved = performance.now();
  await rest();
  await new Promise(requestAnimationFrame);
  return {frame: (moved - start) / 1000 / frames, rest: (performance.now() - moved) / 1000};
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="keep the screen and the page here")
    parser.add_argument("--loads", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = arguments.work or Path(folder)
        if not (results / CELLS.path.format(model="vae")).exists():
            make_screen(results, arguments.cells)
        load_before = os.getloadavg()[0]
        start = time.perf_counter()
        with bar("explorer", "tiles") as progress:
            made = make_explorer(results, "vae", ReportSettings(), seed=0, progress=progress)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answer = {
            "cells": made.total,
            "shown": made.shown,
            "write_seconds": seconds,
            "peak_mib": peak,
            "megabytes": made.bytes / 1e6,
            "page": measure_page(made.page, arguments.loads),
            "machine": {"cores": os.cpu_count(), "load_average": load_before},
            "plotly": version("plotly"),
        }
    write_json(answer, arguments.json)
    print(f"→ {arguments.json}: {answer['page']['seconds']}")


if __name__ == "__main__":
    main()
