"""How do the phenotype tables grow with the number of cells, in time and in memory?

    python benchmarks/phenotypes.py --cells N --json FILE [--fitted M] [--whole] [--seed S]
        [--work DIR]

A made-up screen of N cells: 64 dimensions, 16 Gaussian clouds of unit variance that hold 0.5 to
30 % of the cells, as far apart as makes the adjusted Rand index (ARI) of the Bayes classifier,
which knows the clouds, 0.98. Ten plates of 96 wells, a quarter of them controls; each treatment
draws three times as many cells from one cloud. Written as the rooms before leave it, and given to
`make_phenotypes` with default settings (`--fitted`: other `phenotypes: fitted_cells`).

Told are, for each function that `make_phenotypes` calls, seconds and the peak of memory of the
whole process (resident, MiB; Linux), then the clusters' and Bayes' ARI with the clouds. With
`--whole` clusters are then fitted to all cells too, and told is how far the two agree.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from vae_sci.config import PhenotypesSettings, PlateRow
from vae_sci.contracts import CELLS, EMBEDDINGS, TILES
from vae_sci.files import write_json
from vae_sci.phenotypes import make
from vae_sci.progress import bar, say

CLOUDS, DIMENSIONS = 16, 64
SMALLEST, LARGEST = 0.005, 0.3
APART = 6.0
"""Root mean square distance of two clouds' middles."""

PLATES, ROWS, COLUMNS = 10, "ABCDEFGH", range(1, 13)


def main() -> None:
    """Make the screen, time its phenotypes, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--fitted", type=int, default=PhenotypesSettings().fitted_cells)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, help="folder for the screen; left out: a temporary one"
    )
    given = parser.parse_args()
    if given.work is not None:
        given.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=given.work))
    try:
        figures = measure(given.cells, given.fitted, given.whole, given.seed, work)
    finally:
        shutil.rmtree(work)
    write_json(figures, given.json)


def measure(cells: int, fitted: int, whole: bool, seed: int, work: Path) -> dict[str, Any]:
    """The figures of one screen, made in `work`."""
    rows, truth, bayes = write_screen(cells, seed, work)
    stages: dict[str, dict[str, float]] = {}
    for name, function in inspect.getmembers(make, inspect.isfunction):
        if function.__module__.startswith("vae_sci.") and name not in ("make_phenotypes", "_some"):
            setattr(make, name, timed(name, function, stages))
    settings = PhenotypesSettings(fitted_cells=fitted)
    start = time.perf_counter()
    with bar("phenotypes", "steps") as progress:
        make.make_phenotypes(rows, work, "vae", settings, seed, progress=progress)
    seconds = time.perf_counter() - start
    folder = work / "phenotypes" / "vae"
    table = CELLS.read(folder / "cells.parquet").set_index("cell_id")
    found = table["cluster"].loc[truth.index]
    placed = ~table["fitted"].loc[truth.index].to_numpy()
    figures = {
        "cells": cells,
        "fitted": int((~placed).sum()),
        "seed": seed,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "seconds": seconds,
        "peak_mb": max(stage["peak_mb"] for stage in stages.values()),
        "stages": {name: dict(stage) for name, stage in stages.items()},
        "clusters": int(found.nunique()),
        "ari": float(adjusted_rand_score(truth, found)),
        "ari_placed": (
            float(adjusted_rand_score(truth[placed], found[placed])) if placed.any() else None
        ),
        "ari_bayes": float(adjusted_rand_score(truth, bayes)),
        "resolutions": pd.read_csv(folder / "resolutions.csv").to_dict("records"),
    }
    if whole:
        settings = PhenotypesSettings(fitted_cells=cells)
        make.make_phenotypes(rows, work, "vae", settings, seed)
        fully = CELLS.read(folder / "cells.parquet").set_index("cell_id")["cluster"]
        fully = fully.loc[truth.index]
        figures["whole"] = {
            "ari": float(adjusted_rand_score(truth, fully)),
            "agreement": float(adjusted_rand_score(fully, found)),
            "agreement_placed": float(adjusted_rand_score(fully[placed], found[placed])),
        }
    for name, stage in figures["stages"].items():
        say(f"{name:24} {stage['seconds']:8.1f} s {stage['peak_mb']:8.0f} MiB")
    say(
        f"{cells:,} cells: {seconds:.0f} s, {figures['peak_mb']:.0f} MiB, "
        f"ARI {figures['ari']:.4f}, Bayes {figures['ari_bayes']:.4f}"
    )
    return figures


def write_screen(
    cells: int, seed: int, work: Path
) -> tuple[list[PlateRow], pd.Series, NDArray[np.int64]]:
    """Tile and embedding tables of a screen; cloud by cell_id, and what Bayes says (N,)."""
    rng = np.random.default_rng(seed)
    shares = cloud_shares()
    middles = rng.normal(size=(CLOUDS, DIMENSIONS)) * APART / np.sqrt(2 * DIMENSIONS)
    wells = [f"{row}{column:02d}" for row in ROWS for column in COLUMNS]
    rows, truths, bayes = [], [], []
    for plate in range(PLATES):
        name = f"P{plate:02d}"
        here = cells // PLATES + (plate < cells % PLATES)
        well = np.arange(here) * len(wells) // here
        treated = np.where(well % 4 == 0, 0, 1 + (well + plate) % CLOUDS)  # 0: control
        chances = np.vstack([shares, *(shares * np.where(np.arange(CLOUDS) == t, 3, 1)
                                       for t in range(CLOUDS))])  # fmt: skip
        chances /= chances.sum(axis=1, keepdims=True)
        cloud = (rng.uniform(size=(here, 1)) > chances.cumsum(axis=1)[treated]).sum(axis=1)
        cloud = np.minimum(cloud, CLOUDS - 1)
        z = middles[cloud] + rng.normal(size=(here, DIMENSIONS))
        bayes.append((z @ middles.T - (middles**2).sum(axis=1) / 2 + np.log(shares)).argmax(axis=1))
        tiles = pd.DataFrame({"well": np.array(wells)[well], "site": "1", "plate": name})
        tiles["cell_id"] = [f"{name}/{w}/1/{i}" for i, w in enumerate(tiles["well"])]
        tiles = tiles.assign(
            batch="screen", tile=np.arange(here), split="train", y=0.0, x=0.0, y0=0, x0=0,
            area=100.0, nucleus_area=50.0, saturated=0.0, autocorrelation=0.9, focus=0.5,
            difference=1.0,
            store_digest="0", treatment=np.where(treated == 0, "DMSO", treated.astype(str)),
            concentration=1.0, control=treated == 0,
        )  # fmt: skip
        for channel in ("dna", "actin", "tubulin"):
            tiles[f"intensity_{channel}"] = rng.gamma(50, 4, here)
            tiles[f"spread_{channel}"] = rng.gamma(20, 2, here)
        TILES.write(tiles, work / "tiles" / f"{name}.parquet")
        embedding = pd.DataFrame(z, columns=[f"z_{i:03d}" for i in range(DIMENSIONS)])
        spread = pd.DataFrame(0.1, embedding.index, [f"sd_{i:03d}" for i in range(DIMENSIONS)])
        embedding = pd.concat([tiles["cell_id"], embedding, spread], axis=1).assign(
            rate_z=5.0, rate_u=50.0, distortion=900.0, novelty=50.0
        )
        EMBEDDINGS.write(embedding, work / "embeddings" / "vae" / f"{name}.parquet")
        rows.append(PlateRow(plate=name, kind="tiles", table="cells.csv", batch="screen"))
        truths.append(pd.Series(cloud, index=tiles["cell_id"]))
    return rows, pd.concat(truths), np.concatenate(bayes)


def cloud_shares() -> NDArray[np.float64]:
    """Shares of the clouds, from `LARGEST` to `SMALLEST`: powers between them that sum to one."""
    from scipy.optimize import brentq

    def shares(power: float) -> NDArray[np.float64]:
        return SMALLEST * (LARGEST / SMALLEST) ** (np.linspace(1, 0, CLOUDS) ** power)

    return shares(brentq(lambda power: shares(power).sum() - 1, 0.2, 5))


def timed(
    name: str, function: Callable[..., Any], stages: dict[str, dict[str, float]]
) -> Callable[..., Any]:
    """`function`, its seconds and peak memory kept under its name; calls within it count twice."""

    @functools.wraps(function)
    def wrapped(*given: Any, **named: Any) -> Any:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        start = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            stage = stages.setdefault(name, {"seconds": 0.0, "peak_mb": 0.0})
            stage["seconds"] += time.perf_counter() - start
            peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
            stage["peak_mb"] = max(stage["peak_mb"], peak)

    return wrapped


if __name__ == "__main__":
    main()
