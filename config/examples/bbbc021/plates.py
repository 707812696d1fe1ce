"""Write the table of plates for a folder of cropped BBBC021 cells.

    python config/examples/bbbc021/plates.py FOLDER

FOLDER holds `cells.csv` (one row per cell), `platemap.csv` (one row per well) and the stacks that
`cells.csv` names; README.md beside this file describes them. Any folder of that layout works, with
other plates or labels too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

OUT = Path(__file__).parent / "plates.tsv"
COLUMNS = "compound:treatment,tile_file:stack,tile_index:index,cell:label"


def main(arguments: list[str]) -> int:
    """Write `plates.tsv` beside this file; returns the exit status."""
    folder = Path(arguments[0]).resolve() if arguments else None
    table = folder / "cells.csv" if folder else None
    if folder is None or table is None or not table.is_file():
        print(
            "error\nrequired: a folder with cells.csv, platemap.csv and stacks of cells\n"
            f"   found: {f'no {table}' if table else 'no folder'}\n"
            "   to do: make example-bbbc021 DATA=folder (config/examples/bbbc021/README.md)",
            file=sys.stderr,
        )
        return 1
    plates = sorted(pd.read_csv(table, usecols=["plate"], dtype=str)["plate"].unique())
    lines = ["plate\tkind\tbatch\ttable\tplatemap\tcolumns"]
    for plate in plates:
        # BBBC021 names plates by week; plates of a week were imaged together.
        batch = plate.split("_")[0]
        row = (plate, "tiles", batch, str(table), str(folder / "platemap.csv"), COLUMNS)
        lines.append("\t".join(row))
    OUT.write_text("\n".join(lines) + "\n")
    print(f"{len(plates)} plates in {OUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
