"""Is every image file read as its reference reader does, or refused with a cause?

    python benchmarks/readers.py --data DIR --json FILE

DIR holds `manifest.csv`: file, readable, shape, dtype, pixel_sum (first page, or one array of an
OME-Zarr), kind. Each file is read in a process of its own. Outcomes: equal (shape, type and sum
of pixels as in the manifest), refused (an error of ours that names the file and a cause), wrong
(other pixels, another error, a crash, more than 60 s, a refusal that takes more than 100 MiB).
Expected: equal where readable, else refused. Beside the manifest, files made on the spot that
claim more than they hold.

Seconds and peak memory (MiB above what the process held before) are those of reading alone.
Ends with 1 where an outcome is not the expected one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import struct
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vae_sci.errors import InputError
from vae_sci.files import write_json
from vae_sci.images.omezarr import read_array
from vae_sci.images.tiff import read_page

SECONDS = 60.0
REFUSED_MIB = 100.0


def memory(key: str) -> float:
    """VmRSS or VmHWM of this process, MiB."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def read(path: Path, kind: str) -> np.ndarray:
    return read_array(str(path)) if kind == "zarr" else read_page(path)


def attempt(path: Path, kind: str, answer: Connection) -> None:
    """Reads `path` in this process and answers what came of it."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, start = memory("VmRSS"), time.perf_counter()
    told: dict[str, Any]
    try:
        image = read(path, kind)
        seconds = time.perf_counter() - start
        # Sums of whole numbers are exact; those of floats are told as float64 adds them up.
        exact = image.dtype.kind in "biu"
        total = int(image.sum(dtype=object)) if exact else float(image.sum(dtype=np.float64))
        told = {"shape": "x".join(map(str, image.shape)), "dtype": str(image.dtype), "sum": total}
    except InputError as error:
        seconds = time.perf_counter() - start
        told = {"refused": error.found}
    except BaseException as error:
        seconds = time.perf_counter() - start
        told = {"failed": f"{type(error).__name__}: {error}"}
    answer.send(told | {"seconds": seconds, "mib": max(memory("VmHWM") - before, 0.0)})


def outcome(path: Path, kind: str) -> dict[str, Any]:
    """What a process of its own makes of `path`."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=attempt, args=(path, kind, theirs))
    process.start()
    theirs.close()
    try:
        if not ours.poll(SECONDS):
            return {"failed": f"no answer in {SECONDS:.0f} s", "seconds": SECONDS, "mib": None}
        return ours.recv()
    except EOFError:
        process.join()
        return {"failed": f"ended with {process.exitcode}", "seconds": None, "mib": None}
    finally:
        process.kill()
        process.join()


def judge(case: dict[str, Any], told: dict[str, Any], path: Path) -> tuple[str, str]:
    """The outcome and its cause, "" where there is none."""
    if "failed" in told:
        return "wrong", told["failed"]
    if "refused" in told:
        cause = told["refused"]
        if str(path) not in cause or told["mib"] > REFUSED_MIB:
            return "wrong", f"unnamed, or {told['mib']:.0f} MiB: {cause}"
        return "refused", cause
    expected = case["pixel_sum"]
    if isinstance(told["sum"], int) and expected is not None:
        same = told["sum"] == int(float(expected))
    else:
        same = expected is not None and np.isclose(told["sum"], float(expected), rtol=1e-6)
    same = same and (told["shape"], told["dtype"]) == (case["shape"], case["dtype"])
    return ("equal", "") if same else ("wrong", f"{told['shape']} {told['dtype']} {told['sum']}")


def crafted(folder: Path) -> list[dict[str, Any]]:
    """Files whose headers claim what the files do not hold."""

    def tiff(name: str, height: int, width: int, compression: int, rows: int, data: bytes) -> None:
        tags = [
            (256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, compression), (262, 3, 1),
            (273, 4, 8), (277, 3, 1), (278, 4, rows), (279, 4, len(data)),
        ]  # fmt: skip
        entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
        directory = struct.pack("<H", len(tags)) + entries + bytes(4)
        header = b"II*\0" + struct.pack("<I", 8 + len(data))
        (folder / name).write_bytes(header + data + directory)

    million = 10**6
    tiff("claims_million_squared.tif", million, million, 1, million, bytes(64))
    tiff("claims_million_squared_deflate.tif", million, million, 8, million, bytes(64))
    tiff("claims_40000_squared_lzw.tif", 40_000, 40_000, 5, 40_000, bytes(64))
    tiff("lists_one_strip_of_many.tif", 20_000, 20_000, 8, 1, bytes(2000))
    loop = bytearray(b"II*\0" + struct.pack("<I", 8))
    loop += struct.pack("<HHHIII", 1, 256, 4, 1, 1, 8)  # its next directory is itself
    (folder / "directories_in_a_circle.tif").write_bytes(loop)
    names = sorted(path.name for path in folder.iterdir())
    return [{"file": name, "readable": False, "kind": "crafted"} for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    manifest = pd.read_csv(
        arguments.data / "manifest.csv", dtype=str, keep_default_na=False
    ).replace("", None)
    rows = []
    with tempfile.TemporaryDirectory() as made:
        cases = [(arguments.data, case) for case in manifest.to_dict("records")]
        cases += [(Path(made), case) for case in crafted(Path(made))]
        for folder, case in cases:
            path = folder / case["file"]
            told = outcome(path, case["kind"])
            found, cause = judge(case, told, path)
            expected = "equal" if case["readable"] in (True, "true") else "refused"
            rows.append(
                {
                    "file": case["file"],
                    "kind": case["kind"],
                    "outcome": found,
                    "expected": expected,
                    "as_expected": found == expected,
                    "seconds": told["seconds"],
                    "peak_mib": told["mib"],
                    "cause": cause.replace(f"{path}: ", ""),
                }
            )
    table = pd.DataFrame(rows)
    for row in rows:
        print(
            f"{row['outcome']:8}{row['seconds'] or 0:7.3f} s {row['peak_mib'] or 0:7.1f} MiB  "
            f"{row['file']}  {row['cause'][:150]}"
        )
    print()
    print(table.groupby("kind")["outcome"].value_counts().unstack(fill_value=0))
    print(f"slowest {table['seconds'].max():.2f} s, most memory {table['peak_mib'].max():.1f} MiB")
    write_json({"files": rows, "as_expected": bool(table["as_expected"].all())}, arguments.json)
    sys.exit(0 if table["as_expected"].all() else 1)


if __name__ == "__main__":
    main()
