"""Ten times kill -9: does the rerun end, with the same embeddings and every cell in the ledger?

    python benchmarks/kill.py --json FILE [--times 10] [--recipe FILE] [--config FILE]
                              [--in-a-row] [--seed 0]

First the whole workflow runs unbroken on the CPU. Then, for each time, a run in a fresh folder is
killed (Snakemake and all its jobs, SIGKILL) at a random moment of that length and started again.
With --in-a-row one run is killed `times` times, at random shares of what is then left. Compared
with the unbroken run: every value of every embedding, the tile tables, the ledgers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from vae_sci.files import write_json

ROOT = Path(__file__).resolve().parent.parent
SIMULATE = ROOT / "resources" / "simulate"


def make_project(folder: Path, recipe: Path, config: Path) -> list[str]:
    """A project on the simulated screen of `recipe` with settings `config`; its plates."""
    folder.mkdir(parents=True)
    for name in ("workflow", "environment.yml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "config").mkdir()
    (folder / "config" / "config.yaml").symlink_to(ROOT / "config" / "config.yaml")
    shutil.copy(recipe, folder / "recipe.yaml")
    shutil.copy(config, folder / "settings.yaml")
    plates = [plate["name"] for plate in yaml.safe_load(recipe.read_text())["plates"]]
    rows = ["plate\timages\tplatemap\trecipe"]
    for plate in plates:
        base = f"results/simulated/{plate}"
        rows.append(f"{plate}\t{base}/images\t{base}/platemap.csv\trecipe.yaml")
    (folder / "config" / "plates.tsv").write_text("\n".join(rows) + "\n")
    return plates


def run(project: Path, kill_after: float | None = None) -> dict[str, Any]:
    """One call of the workflow, killed after so many seconds; how it ended and how long it took."""
    start = time.perf_counter()
    with (project / "run.log").open("a") as log:
        running = subprocess.Popen(
            [
                *(sys.executable, "-m", "snakemake", "--cores", "all"),
                *("--configfile", "settings.yaml", "--resources", "gpu=0"),
            ],
            cwd=project,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            status = running.wait(kill_after)
        except subprocess.TimeoutExpired:
            # Snakemake and its jobs: the session is theirs alone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            return {"killed_after_s": kill_after, "during": last_log(project)}
    return {"status": status, "seconds": time.perf_counter() - start}


def last_log(project: Path) -> str:
    """Rule whose log was written last: about where the kill fell."""
    logs = list(project.glob("results/logs/**/*.log")) + list(
        project.glob("results/simulated/logs/**/*.log")
    )
    newest = max(logs, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return "before any job"
    return newest.parts[newest.parts.index("logs") + 1]


def differences(unbroken: Path, project: Path, plates: list[str]) -> list[str]:
    """What of embeddings, tile tables and ledgers is not the same in both projects."""
    found = []
    for plate in plates:
        for name in (f"embeddings/vae/{plate}.parquet", f"tiles/{plate}.parquet"):
            one, two = (pd.read_parquet(p / "results" / name) for p in (unbroken, project))
            if not one.equals(two):
                found.append(name)
        ledgers = [
            json.loads((p / "results" / "ledger" / f"{plate}.json").read_text())
            for p in (unbroken, project)
        ]
        rows = len(pd.read_parquet(project / "results" / "embeddings" / "vae" / f"{plate}.parquet"))
        if ledgers[0] != ledgers[1] or ledgers[1]["steps"][-1]["kept"] != rows:
            found.append(f"ledger/{plate}.json")
    return found


def main() -> int:
    """Run, kill, rerun, compare; returns 0 where every rerun ended the same."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--recipe", type=Path, default=SIMULATE / "screen.yaml")
    parser.add_argument(
        "--config", type=Path, default=ROOT / "config" / "examples" / "demo" / "config.yaml"
    )
    parser.add_argument("--in-a-row", action="store_true", help="one run, killed over and over")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    outcomes: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        unbroken = Path(place) / "unbroken"
        plates = make_project(unbroken, given.recipe.resolve(), given.config.resolve())
        whole = run(unbroken)
        if whole["status"]:
            raise SystemExit((unbroken / "run.log").read_text())
        print(f"unbroken: {whole['seconds']:.0f} s", flush=True)
        project, left = Path(place) / "killed", float(whole["seconds"])
        while len(outcomes) < given.times:
            last = len(outcomes) == given.times - 1
            if not outcomes or not given.in_a_row:
                shutil.rmtree(project, ignore_errors=True)
                make_project(project, given.recipe.resolve(), given.config.resolve())
                left = float(whole["seconds"])
            share = random.uniform() / (given.times - len(outcomes) if given.in_a_row else 1)
            outcome = run(project, kill_after=share * left)
            left -= share * left
            if outcome.get("status") == 0:
                print("the run ended before its moment: drawn again", flush=True)
                continue
            if "status" in outcome:
                raise SystemExit((project / "run.log").read_text())
            if last or not given.in_a_row:
                again = run(project)
                if again["status"]:
                    raise SystemExit((project / "run.log").read_text())
                outcome |= {"rerun_s": again["seconds"]}
                outcome["different"] = differences(unbroken, project, plates)
            outcomes.append(outcome)
            print(len(outcomes), outcome, flush=True)
    bad = [o for o in outcomes if o.get("different")]
    write_json({"unbroken": whole, "outcomes": outcomes, "seed": given.seed}, given.json)
    print(f"{len(outcomes)} kills, {len(bad)} with another result")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
