"""How fast is a question to the tables of a large screen answered?

    python benchmarks/query.py --rows N --json FILE [--dimensions D] [--neighbors] [--folder DIR]

Makes the table of the cells of a run as the pipeline writes it (N rows sorted by cell_id, D columns
of z) and asks it, in Python and through the command line: a grouped query, lookups by cell_id, a
well by plate and name (which reads what holds it) and by the beginning of cell_id (which reads that
column whole), and with --neighbors the 20 nearest cells. Python calls are timed with the file in
the page cache, the median of `REPEATS`, and so is their processor time over all threads (`cpu_…`),
which depends less on what else the machine does; `neighbors_first` is the first call, which reads
z. The command line's time is that of its whole process.

The table is deleted at the end, unless --folder names a place to keep it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vae_sci.contracts import CELLS, ROW_GROUP
from vae_sci.files import publish, write_json
from vae_sci.results import open_results

REPEATS = 5
WELLS, CELLS_PER_WELL = 384, 2000
GROUPED = (
    "SELECT treatment, concentration, count(*) AS n, avg(novelty) AS novelty, "
    "avg((cluster = '3')::INT) AS share FROM cells GROUP BY ALL ORDER BY ALL"
)


def cells(first: int, rows: int, dimensions: int) -> pd.DataFrame:
    """Rows `first` … of a screen of 384-well plates with 2,000 cells a well, by cell_id."""
    draw = np.random.default_rng(first)
    number = np.arange(first, first + rows)
    well = number // CELLS_PER_WELL
    on_plate = well % WELLS
    names = np.array([f"{chr(65 + w // 24)}{w % 24 + 1:02d}" for w in range(WELLS)], dtype=object)
    plates = np.char.mod("plate%03d", well // WELLS).astype(object)
    label = np.char.mod("%04d", number % CELLS_PER_WELL).astype(object)
    wells = names[on_plate]
    table = {
        "cell_id": plates + "/" + wells + "/1/" + label,
        "plate": plates,
        "well": wells,
        "site": "1",
        "batch": "screen",
        "treatment": np.char.mod("treatment%03d", on_plate // 6).astype(object),
        "concentration": (10.0 ** -(on_plate % 6)),
        "control": on_plate < 6,
        "split": "train",
        "cluster": draw.integers(0, 20, rows).astype(str).astype(object),
        "fitted": True,
        "normalized_by": "plate",
    }
    plain = [c.name for c in CELLS.columns if c.type == "float64" and not c.family]
    latent = [f"z_{i:03d}" for i in range(dimensions)]
    table |= {name: draw.normal(size=rows) for name in [*plain, *latent] if name not in table}
    frame = pd.DataFrame(table)
    return CELLS.validate(frame, "the synthetic cells")


def make(folder: Path, rows: int, dimensions: int) -> Path:
    """`cells.parquet` of so many rows, in blocks; as `Contract.write` would."""
    path = folder / CELLS.path.format(model="vae")
    with publish(path) as temporary:
        writer = None
        for first in range(0, rows, ROW_GROUP):
            block = cells(first, min(ROW_GROUP, rows - first), dimensions)
            arrow = pa.Table.from_pandas(block, preserve_index=False)
            repeated = [field.name for field in arrow.schema if field.type != pa.float64()]
            writer = writer or pq.ParquetWriter(temporary, arrow.schema, use_dictionary=repeated)
            writer.write_table(arrow, row_group_size=ROW_GROUP)
        if writer is not None:
            writer.close()
    return path


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def timed_often(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of a call, and of all processors, medians of `REPEATS`."""
    wall, processors = [], []
    for _ in range(REPEATS):
        start = time.process_time()
        wall.append(timed(call))
        processors.append(time.process_time() - start)
    return statistics.median(wall), statistics.median(processors)


def measure(folder: Path, rows: int, neighbours: bool) -> dict[str, Any]:
    """Seconds by question: Python, warm, and the command line's whole process."""
    run = open_results(folder)
    (cell_id,) = run.query(f"SELECT cell_id FROM cells LIMIT 1 OFFSET {rows // 2}")["cell_id"]
    plate, well, *_ = cell_id.split("/")
    where = f"{plate}/{well}/1"
    several = ", ".join(f"'{where}/{i:04d}'" for i in range(0, 100, 10))
    questions = {
        "grouped": GROUPED,
        "lookup": f"SELECT * FROM cells WHERE cell_id = '{cell_id}'",
        "lookup_few_columns": f"SELECT treatment, cluster FROM cells WHERE cell_id = '{cell_id}'",
        "lookup_ten": f"SELECT * FROM cells WHERE cell_id IN ({several})",
        "well": f"SELECT * FROM cells WHERE plate = '{plate}' AND well = '{well}'",
        "prefix": f"SELECT treatment, cluster FROM cells WHERE cell_id LIKE '{where}/%'",
    }
    seconds: dict[str, Any] = {}
    for name, sql in questions.items():
        seconds[name], seconds[f"cpu_{name}"] = timed_often(lambda sql=sql: run.query(sql))
        seconds[f"cli_{name}"] = command("query", sql, "--results", str(folder))
    if neighbours:
        seconds["neighbors_first"] = timed(lambda: run.neighbors(cell_id))
        found = timed_often(lambda: run.neighbors(cell_id))
        seconds["neighbors"], seconds["cpu_neighbors"] = found
        seconds["cli_neighbors"] = command("neighbors", cell_id, "--results", str(folder))
    for name, value in seconds.items():
        print(f"{name:24} {value:8.3f} s")
    return seconds


def command(*arguments: str) -> float:
    """Seconds of a whole process of the command line, the median of three."""
    call = [sys.executable, "-m", "vae_sci", *arguments]
    return statistics.median(
        timed(lambda: subprocess.run(call, check=True, stdout=subprocess.DEVNULL)) for _ in range(3)
    )


def main(arguments: list[str] | None = None) -> int:
    """Make the tables, ask, write the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--dimensions", type=int, default=32, help="columns of z")
    parser.add_argument("--folder", type=Path, help="keep the tables here; taken up if there")
    parser.add_argument("--neighbors", action="store_true", help="time the nearest cells as well")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        path = folder / CELLS.path.format(model="vae")
        if not path.is_file():
            make(folder, given.rows, given.dimensions)
        seconds = measure(folder, given.rows, given.neighbors)
        record = {
            "rows": given.rows,
            "dimensions": given.dimensions,
            "bytes": path.stat().st_size,
            "row_groups": pq.ParquetFile(path).num_row_groups,
            "seconds": seconds,
            "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
        }
    write_json(record, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
