"""How fast are tiles cut, how much memory does it take, and does a killed run lose anything?

    python benchmarks/tiling.py --json FILE [--fields N] [--segmented N] [--rounds R] [--kills K]
        [--work DIR] [--seed S] [--scportrait PYTHON]

N fields of 1,080 × 1,080 pixels in three channels, copies of four simulated ones, with the masks
that segmentation found in them, so that cutting alone is timed. Rows: one thread and two, N fields
and 2 N, and some fields without masks (`--segmented`), whose cells are sought. Seconds are those of
the verb `tiles` as a whole, staging and packing included, without the start of Python; cpu_seconds
is what its threads computed, which neighbours on the machine change less; memory is the peak.
Libraries may use as many threads as the verb, as under Snakemake.

The floor does what no tiling can do without: it decodes every field and mask once, and writes the
same bytes into the same kind of store, in one process. With
`--rounds R` floor and rows are measured R times by turns, and the quickest of each counts: other
programs on the machine can only slow them. Of the peaks of memory, the median counts.

With `--scportrait PYTHON`, that of an environment with scPortrait, the same N fields and masks are
cut by its extraction too, by one process and two; opponents/scportrait_extraction.py tells how.

With `--kills K` the tiling of N fields by two threads is ended by SIGKILL at K moments drawn
evenly from its duration, and started again: told are the fields that were staged by then, and
whether the second run ended with the bytes of an unbroken one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from vae_sci.config import ImagesSettings, PlateRow, SegmentationSettings
from vae_sci.contracts import FIELDS
from vae_sci.files import write_json
from vae_sci.images.index import index_plate
from vae_sci.images.read import read_field
from vae_sci.progress import bar
from vae_sci.simulate.recipe import read_recipe
from vae_sci.simulate.screen import simulate_plate
from vae_sci.tiles.cells import cell_finder
from vae_sci.tiles.store import open_store, write_store

CHANNELS = ImagesSettings(channels={"1": "nucleus", "2": "mitochondria", "3": "fibres"})
SIZE = 64
PLATE = "timed"
WELLS = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
OPPONENT = Path(__file__).parent / "opponents" / "scportrait_extraction.py"
RECIPE = Path(__file__).parents[1] / "resources" / "simulate" / "tiny.yaml"

# In a process of its own: the peak is of this run alone.
RUN = """
import json, sys, time
from pathlib import Path
from vae_sci.config import ImagesSettings, PlateRow, TilesSettings
from vae_sci.tiles.make import make_tiles
if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    results = Path(given["results"])
    start, cpu = time.perf_counter(), time.process_time()
    make_tiles(
        PlateRow(**given["row"]), results / "images" / "timed.parquet",
        TilesSettings(size=given["size"]), ImagesSettings(**given["images"]), 0, results,
        given["threads"],
    )
    seconds = time.perf_counter() - start
    # Not ru_maxrss: it begins at the peak of whoever started this process.
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0])
    cpu = time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak / 1024}))
"""


def make_fields(work: Path, count: int) -> PlateRow:
    """A plate of `count` fields with masks; four are simulated, the others links to these."""
    base, plate = work / "four", work / f"plate{count}"
    row = {"plate": PLATE, "layout": r"_(?P<well>[A-P]\d\d)_s(?P<site>\d+)_w(?P<channel>\d)"}
    if not base.exists():
        recipe = read_recipe(RECIPE)
        fields = recipe.fields.model_copy(update={"size": 1080, "cells": 110})
        layout = recipe.layout.model_copy(
            update={"rows": "B", "first_column": 2, "last_column": 5, "control_wells": 4}
        )
        few = recipe.model_copy(update={"fields": fields, "layout": layout, "treatments": ()})
        with bar("simulate", "fields") as progress:
            simulate_plate(few, recipe.plates[0].name, base, progress=progress)
        (base / "masks").mkdir()
    if not plate.exists():
        images = sorted((base / "images").glob("*.tif"))
        for folder in ("images", "masks"):
            (plate / folder).mkdir(parents=True)
        one = PlateRow(
            plate=PLATE, images=str(base / "images"), platemap=str(base / "platemap.csv")
        )
        index_plate(one, CHANNELS, base / "fields.parquet")
        index = FIELDS.read(base / "fields.parquet")
        pixel = float(index["pixel_size_um"].iloc[0])
        find = cell_finder(one, index, SegmentationSettings(), CHANNELS, pixel)
        labels = [
            find("", "", read_field(rows)).cells.astype(np.uint16)
            for _, rows in index.groupby(["well", "site"], sort=True)
        ]
        for number in range(count):
            well, site = WELLS[number % len(WELLS)], number // len(WELLS) + 1
            for channel in range(3):
                source = images[3 * (number % 4) + channel]
                shutil.copy(source, plate / "images" / f"{PLATE}_{well}_s{site}_w{channel + 1}.tif")
            mask = plate / "masks" / f"{PLATE}_{well}_s{site}_w1.tif"
            tifffile.imwrite(mask, labels[number % 4], compression="zlib")
        wells = sorted({WELLS[number % len(WELLS)] for number in range(count)})
        lines = ["well,treatment,concentration,control", *(f"{well},none,0,true" for well in wells)]
        (plate / "platemap.csv").write_text("\n".join(lines) + "\n")
    return PlateRow(
        **row,
        images=str(plate / "images"),
        masks=str(plate / "masks"),
        platemap=str(plate / "platemap.csv"),
    )


def indexed(row: PlateRow, results: Path) -> Path:
    """An empty folder of results with the plate's table of fields."""
    shutil.rmtree(results, ignore_errors=True)
    index_plate(row, CHANNELS, results / "images" / f"{PLATE}.parquet")
    return results


def command(row: PlateRow, results: Path, threads: int) -> list[str]:
    given = {
        "row": row.model_dump(mode="json", exclude_unset=True),
        "images": CHANNELS.model_dump(mode="json"),
        "results": str(results),
        "size": SIZE,
        "threads": threads,
    }
    script = results.parent / "run.py"
    script.write_text(RUN)
    return [sys.executable, str(script), json.dumps(given)]


def cut(row: PlateRow, results: Path, threads: int) -> dict[str, Any]:
    """Tile the plate; seconds, memory and cells."""
    done = subprocess.run(
        command(row, indexed(row, results), threads),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    cells = open_store(results / "tiles" / f"{PLATE}.zarr")["tiles"].shape[0]
    return {"threads": threads, "cells": cells, **json.loads(done.stdout)}


def floor(row: PlateRow, results: Path, work: Path) -> dict[str, float]:
    """Seconds to decode every file of the plate once and to write the bytes of its store."""
    store = open_store(results / "tiles" / f"{PLATE}.zarr")
    tiles, masks = (np.asarray(store[name]) for name in ("tiles", "masks"))
    about: Any = store.attrs["vae_sci"]
    index = FIELDS.read(results / "images" / f"{PLATE}.parquet")
    start, cpu = time.perf_counter(), time.process_time()
    for _, rows in index.groupby(["well", "site"]):
        read_field(rows)
    for mask in sorted(Path(row.masks or "").glob("*.tif")):
        tifffile.imread(mask)
    with write_store(
        work / "floor.zarr",
        channels=about["channels"],
        size=SIZE,
        dtype=str(tiles.dtype),
        masks=True,
        pixel_size_um=about["pixel_size_um"],
        about={},
    ) as writer:
        writer.append(tiles, masks)
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}


def quickest(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of runs of the same work the smallest seconds, and of memory the median peak."""
    least = {name: min(run[name] for run in runs) for name in ("seconds", "cpu_seconds")}
    peaks = [run["peak_mb"] for run in runs if "peak_mb" in run]
    peak = {"peak_mb": float(np.median(peaks))} if peaks else {}
    return {**runs[0], **least, **peak}


def scportrait(python: Path, row: PlateRow, out: Path, processes: int) -> dict[str, Any]:
    """Cut the plate by scPortrait; seconds, memory and cells per second."""
    shutil.rmtree(out, ignore_errors=True)
    fields = Path(row.masks or "").parent
    call = [str(python), str(OPPONENT), "--fields", str(fields), "--out", str(out)]
    call += ["--processes", str(processes)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])  # its software prints too
    return {"threads": processes, **found}


def contents(results: Path) -> str:
    """Digest of all that tiling wrote."""
    whole = hashlib.blake2b(digest_size=16)
    for file in sorted(
        path for name in ("tiles", "measured") for path in (results / name).rglob("*")
    ):
        if file.is_file():
            whole.update(str(file.relative_to(results)).encode() + file.read_bytes())
    return whole.hexdigest()


def kill(row: PlateRow, results: Path, after: float, wanted: str) -> dict[str, Any]:
    """End a tiling by two threads after so many seconds, and start it again."""
    call = command(row, indexed(row, results), 2)
    run = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after)
    ended = run.poll() is not None
    run.kill()
    run.wait()
    staged = len(list((results / "tiles" / f".{PLATE}").rglob("[0-9]*.field")))
    again = subprocess.run(call, capture_output=True, text=True, check=False)
    same = again.returncode == 0 and contents(results) == wanted
    return {"after_s": after, "had_ended": ended, "staged": staged, "same_bytes": same}


def main(arguments: list[str] | None = None) -> int:
    """Measure; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--fields", type=int, default=48)
    parser.add_argument("--segmented", type=int, default=24, help="fields without masks")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder of fields and stores; beside the JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scportrait", type=Path, metavar="PYTHON", help="cut by scPortrait too")
    given = parser.parse_args(arguments)
    work = given.work or given.json.with_suffix("")
    work.mkdir(parents=True, exist_ok=True)
    counts = (given.fields, 2 * given.fields)
    plates = [(count, make_fields(work, count)) for count in counts]
    row = plates[0][1]
    without = make_fields(work, given.segmented).model_copy(update={"masks": None})
    plates.append((given.segmented, without))
    results = work / "results"
    measured: dict[tuple[int, int], list[dict[str, Any]]] = {}
    floors = []
    for _ in range(given.rounds):
        for (place, (count, plate)), threads in product(enumerate(plates), (1, 2)):
            found = {"fields": count, "masks": plate.masks is not None}
            found |= cut(plate, results, threads)
            print(found, file=sys.stderr)
            measured.setdefault((place, threads), []).append(found)
            if (place, threads) == (0, 2):
                wanted = contents(results)
                floors.append(floor(row, results, work))
    rows = [quickest(runs) for runs in measured.values()]
    least = quickest(floors)
    opponent = []
    for processes in (1, 2) if given.scportrait else ():
        found = scportrait(given.scportrait, row, work / "scportrait", processes)
        opponent.append({"fields": given.fields, "masks": True, **found})
        print(opponent[-1], file=sys.stderr)
    moments = np.random.default_rng(given.seed).uniform(0, rows[1]["seconds"] + 1, given.kills)
    report: dict[str, Any] = {
        "runs": rows,
        "all_runs": list(measured.values()),
        "scportrait": opponent,
        "floor": least,
        "all_floors": floors,
        "share_of_floor": least["seconds"] / rows[0]["seconds"],
        "share_of_floor_cpu": least["cpu_seconds"] / rows[0]["cpu_seconds"],
        "two_threads_times": rows[0]["seconds"] / rows[1]["seconds"],
        "two_threads_times_twice_the_fields": rows[2]["seconds"] / rows[3]["seconds"],
        "two_threads_times_segmented": rows[4]["seconds"] / rows[5]["seconds"],
        "twice_the_fields_times": rows[2]["seconds"] / rows[0]["seconds"],
        "twice_the_fields_memory": rows[2]["peak_mb"] / rows[0]["peak_mb"],
        "kills": [kill(row, results, after, wanted) for after in moments],
    }
    write_json(report, given.json)
    print("| cut by | fields | masks | threads | cells | seconds | CPU s | cells/s | peak, MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, runs in (("vae_sci", rows), ("scPortrait", opponent)):
        for found in runs:
            seconds = found["seconds"]
            print(
                f"| {name} | {found['fields']} | {'given' if found['masks'] else 'sought'} "
                f"| {found['threads']} | {found['cells']} "
                f"| {seconds:.1f} | {found.get('cpu_seconds', np.nan):.1f} "
                f"| {found['cells'] / seconds:.0f} | {found['peak_mb']:.0f} |"
            )
    print(
        f"\nFloor: {least['seconds']:.2f} s ({least['cpu_seconds']:.2f} s CPU); one thread runs at "
        f"{report['share_of_floor']:.0%} of it ({report['share_of_floor_cpu']:.0%} by CPU time), "
        f"two at {report['two_threads_times']:.2f} and, on {2 * given.fields} fields, "
        f"{report['two_threads_times_twice_the_fields']:.2f} times one; where cells are sought, "
        f"{report['two_threads_times_segmented']:.2f} times one. Twice the fields: "
        f"{report['twice_the_fields_times']:.2f} times the seconds, "
        f"{report['twice_the_fields_memory']:.2f} times the memory."
    )
    if given.kills:
        good = sum(found["same_bytes"] for found in report["kills"])
        print(f"Killed {given.kills} times: {good} ended with the bytes of an unbroken run.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
