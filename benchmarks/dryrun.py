"""How long does the workflow take to plan? Many plates, and many raw files to watch.

    python benchmarks/dryrun.py --json FILE [--plates 100] [--files 3000]

Timed is `snakemake -n` as a user calls it, on a table of plates whose images are empty files: the
workflow looks at names, sizes and times alone. Once without any file, once with `--files` a plate;
beside it, the scan of all those files in one folder.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vae_sci.config import PlateRow
from vae_sci.files import write_json
from vae_sci.images.watch import digest

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 3


def make_files(folder: Path, count: int) -> None:
    """`count` empty images, one field each, of up to 384 wells."""
    folder.mkdir(parents=True)
    for number in range(count):
        well, site = divmod(number, max(1, -(-count // 384)))
        name = f"P_{chr(ord('A') + well // 24)}{well % 24 + 1:02d}_s{site + 1}_w1.tif"
        (folder / name).touch()


def seconds_to_plan(project: Path, plates: int) -> float:
    """Of `snakemake -n` in `project`, which must find work for every one of its `plates`."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "2"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    text = done.stdout + done.stderr
    if done.returncode or not re.search(rf"^tiles +{plates}$", text, re.M):
        raise SystemExit(text)
    return seconds


def main() -> int:
    """Plan and scan; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--plates", type=int, default=100)
    parser.add_argument(
        "--files", type=int, default=3000, help="a plate: as many as 1,000 fields of 3 channels"
    )
    given = parser.parse_args()
    report: dict[str, object] = {"plates": given.plates, "files": given.files}
    with tempfile.TemporaryDirectory() as place:
        project = Path(place)
        for name in ("workflow", "environment.yml"):
            (project / name).symlink_to(ROOT / name)
        (project / "config").mkdir()
        (project / "config" / "config.yaml").symlink_to(ROOT / "config" / "config.yaml")
        (project / "map.csv").write_text("well,control\nA01,true\n")
        rows = [f"P{n}\traw/P{n}\tmap.csv" for n in range(given.plates)]
        (project / "config" / "plates.tsv").write_text(
            "\n".join(["plate\timages\tplatemap", *rows]) + "\n"
        )
        empty = [seconds_to_plan(project, given.plates) for _ in range(REPEATS)]
        for number in range(given.plates):
            make_files(project / "raw" / f"P{number}", given.files)
        full = [seconds_to_plan(project, given.plates) for _ in range(REPEATS)]
        total = 100_000
        make_files(project / "one", total)
        row = PlateRow(plate="P", images=str(project / "one"), platemap="map.csv")
        scans = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            digest(row)
            scans.append(time.perf_counter() - start)
    report |= {"plan_s": empty, "plan_with_files_s": full, "scan_s": scans, "scan_files": total}
    write_json(report, given.json)
    for what, times in (
        (f"snakemake -n, {given.plates} plates", empty),
        (f"snakemake -n, {given.plates} plates × {given.files} files", full),
        (f"scan of {total} files in one folder", scans),
    ):
        print(f"{what}: {min(times):.2f} to {max(times):.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
