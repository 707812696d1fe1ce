"""Do damaged TIFFs end as tifffile's array or as our error, without crash, hang or great memory?

    python benchmarks/fuzz_readers.py --data DIR --json FILE [--files 10000] [--seed 0]

DIR holds `valid/*.tif*` (reader_cases); beside them small files made on the spot (OME, ImageJ,
BigTIFF, tiles, pyramids, several compressions). Each case is one of them with bytes changed by a
generator of that seed: bits flipped, numbers of 2, 4 and 8 bytes set to extremes, stretches
copied, removed or zeroed, the end cut off; half of the changes hit the header and directories.

A case is read twice in a process with a limit on its address space: its first page (compared with
tifffile's own answer for it, where tifffile gives one) and all planes as a field. Outcomes: equal,
refused (an error of ours that names the file), wrong (another error, other pixels), crash, hang
(more than 20 s), memory (more than 1 GiB above the start). All but the first two are failures;
their files are kept beside FILE. Ends with 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from vae_sci.errors import InputError
from vae_sci.files import write_json
from vae_sci.images.read import read_planes
from vae_sci.images.tiff import read_page

SECONDS = 20
MEMORY = 1 << 30  # bytes above the start
SPACE = 8 << 30  # bytes of address space
GOOD = {"equal", "refused"}
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 10**6, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**64 - 1)


def seeds(data: Path) -> list[bytes]:
    """Whole TIFFs to damage."""
    found = [path.read_bytes() for path in sorted((data / "valid").glob("*.tif*"))]
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4000, (2, 3, 48, 64)).astype(np.uint16)
    made: list[tuple[np.ndarray, dict[str, Any]]] = [
        (image, {"ome": True, "metadata": {"axes": "CZYX"}}),
        (image, {"imagej": True, "metadata": {"axes": "ZCYX"}}),
        (image, {"bigtiff": True}),
        (image[0, 0], {"tile": (16, 16), "compression": "zlib", "predictor": True}),
        (image[0, 0], {"compression": "lzw", "rowsperstrip": 8}),
        (image[0, 0], {"compression": "zstd"}),
        (image[0, 0], {"compression": "jpeg2000"}),
        (image[0], {"compression": "lzma", "byteorder": ">"}),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for number, (pixels, how) in enumerate(made):
            path = Path(folder, f"{number}.tif")
            tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **how})
            found.append(path.read_bytes())
        path = Path(folder, "pyramid.ome.tif")
        with tifffile.TiffWriter(path) as tif:
            tile = {"tile": (16, 16), "compression": "zlib"}
            tif.write(image[0, 0], subifds=1, metadata={"axes": "YX"}, **tile)
            tif.write(image[0, 0, ::2, ::2], subfiletype=1, **tile)
        found.append(path.read_bytes())
    return [data for data in found if len(data) < 200_000]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` with one to four changes."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if not changed:
            break
        start = _place(changed, rng)
        length = int(2 ** rng.uniform(0, 8))
        match rng.integers(6):
            case 0:
                changed[start] ^= 1 << int(rng.integers(8))
            case 1:
                changed[start] = int(rng.integers(256))
            case 2:
                width = int(rng.choice([2, 4, 8]))
                value = int(EXTREMES[rng.integers(len(EXTREMES))]) % (1 << 8 * width)
                order = "little" if changed[:2] == b"II" else "big"
                number = value.to_bytes(width, order)[: len(changed) - start]
                changed[start : start + len(number)] = number
            case 3:
                source = int(rng.integers(len(changed)))
                piece = changed[source : source + length]
                changed[start : start + len(piece)] = piece
            case 4:
                del changed[start : start + length]
            case 5 if rng.random() < 0.3:
                del changed[start:]
            case _:
                end = min(start + length, len(changed))
                changed[start:end] = bytes(end - start)
    return bytes(changed)


def _place(data: bytearray, rng: np.random.Generator) -> int:
    """A position: half of the time in the header or the first directory."""
    if rng.random() < 0.5 and len(data) > 8:
        order = "little" if data[:2] == b"II" else "big"
        big = data[2:4] in (b"\x2b\0", b"\0\x2b")
        directory = int.from_bytes(data[8:16] if big else data[4:8], order)
        near = int(rng.integers(400))
        if directory + near < len(data):
            return directory + near if rng.random() < 0.8 else int(rng.integers(16))
    return int(rng.integers(len(data)))


def cases(files: list[bytes], seed: int, first: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Cases `first` … of the run of `seed`: the same whatever ran before."""
    for number in range(first, first + count):
        rng = np.random.default_rng((seed, number))
        yield number, mutated(files[int(rng.integers(len(files)))], rng)


def reference(path: Path) -> np.ndarray | None:
    """What tifffile gives for the first page; None where it gives nothing."""
    try:
        with tifffile.TiffFile(path) as tif:
            return tif.pages[0].asarray()
    except Exception:
        return None


def attempt(path: Path) -> tuple[str, str]:
    """The outcome of reading `path`, and its cause."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    causes = []
    try:
        page = read_page(path)
    except InputError as error:
        if str(path) not in error.found:
            return "wrong", f"unnamed: {error.found}"
        causes.append(error.found)
    else:
        told = reference(path)
        same = told is not None and (page.shape, page.dtype) == (told.shape, told.dtype)
        if not same or page.tobytes() != told.tobytes():
            return "wrong", "other pixels than tifffile's"
    try:
        read_planes(path, z="max", time=1)
    except InputError as error:
        if str(path) not in error.found:
            return "wrong", f"unnamed: {error.found}"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    if grown * 1024 > MEMORY:
        return "memory", f"{grown / 1024:.0f} MiB"
    return ("refused", causes[0].replace(str(path), "")) if causes else ("equal", "")


def work(data: Path, seed: int, first: int, count: int) -> None:
    """Reads cases one by one; a line of JSON before and after each."""
    resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "case.tif")
        for number, content in cases(seeds(data), seed, first, count):
            path.write_bytes(content)
            print(json.dumps({"case": number}), flush=True)
            # The system ends the process where a codec does not return.
            signal.alarm(SECONDS)
            start = time.perf_counter()
            try:
                found, cause = attempt(path)
            except BaseException as error:
                found, cause = "wrong", f"{type(error).__name__}: {error}"
            seconds = time.perf_counter() - start
            signal.alarm(0)
            told = {"case": number, "outcome": found, "cause": cause, "seconds": seconds}
            print(json.dumps(told), flush=True)


def run(data: Path, seed: int, count: int) -> list[dict[str, Any]]:
    """All cases, in worker processes: a new one where one has died."""
    results: list[dict[str, Any]] = []
    while len(results) < count:
        first = len(results)
        command = [sys.executable, __file__, "--work", str(first), "--files", str(count - first)]
        worker = subprocess.run(
            [*command, "--data", str(data), "--seed", str(seed)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONFAULTHANDLER": "1"},
            check=False,
        )
        lines = [json.loads(line) for line in worker.stdout.splitlines()]
        results += [line for line in lines if "outcome" in line]
        if len(results) == count:
            break
        if not lines:
            raise RuntimeError(f"the worker did not start: {worker.stderr[-500:]}")
        kind = "hang" if worker.returncode == -signal.SIGALRM else "crash"
        cause = f"ended with {worker.returncode}: {worker.stderr[:300]}"
        results.append({"case": len(results), "outcome": kind, "cause": cause, "seconds": None})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.data, arguments.seed, arguments.work, arguments.files)
        return
    results = run(arguments.data, arguments.seed, arguments.files)
    outcomes = Counter(result["outcome"] for result in results)
    for outcome, number in outcomes.most_common():
        print(f"{outcome:8}{number:7}")
    failures = [result for result in results if result["outcome"] not in GOOD]
    files = seeds(arguments.data) if failures else []
    for failure in failures:
        print(f"case {failure['case']}: {failure['outcome']}: {failure['cause'][:300]}")
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            kept = arguments.json.parent / f"fuzz_{arguments.seed}_{failure['case']}.tif"
            kept.write_bytes(next(cases(files, arguments.seed, failure["case"], 1))[1])
    slowest = max(result["seconds"] or 0 for result in results)
    print(f"slowest {slowest:.2f} s; seed {arguments.seed}, {len(results)} files")
    if arguments.json:
        summary = {"seed": arguments.seed, "outcomes": dict(outcomes), "failures": failures}
        write_json(summary | {"slowest_s": slowest}, arguments.json)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
