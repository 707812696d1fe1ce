"""Does z find what was really done to the cells? On simulated screens, whose truth is known.

    python benchmarks/truth.py --seeds 5 --json FILE [--work DIR] [--config FILE]

Every seed is another screen by resources/simulate/screen.yaml and another model, run through the
whole workflow. Scored is the AUROC of a linear probe, treatment against controls of the same
screen, cross-validated by well (a well is never in two folds; both plates together). Compared on
the same cells, wells and normalisation against control wells: z; PCA with as many components
(square root of the counts, channels at unit variance, fitted on training tiles); 30 intensity
statistics (10 per channel). Screens that are done are taken up again, so that a benchmark that
was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from runs import run_settings
from scipy import stats

from vae_sci.errors import VaeSciError
from vae_sci.files import write_json
from vae_sci.phenotypes.baselines import pixel_features, unit
from vae_sci.phenotypes.make import versions
from vae_sci.phenotypes.normalize import normalize
from vae_sci.phenotypes.profiles import latent_columns
from vae_sci.phenotypes.scores import probe_auroc
from vae_sci.results import open_results

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "resources" / "simulate" / "screen.yaml"


def run_screen(work: Path, seed: int, config: Path) -> Path:
    """The results folder of the workflow on the screen of `seed`, made unless it is there."""
    folder = work / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    recipe = yaml.safe_load(RECIPE.read_text())
    # The recipe's own seed is the demo's; the benchmark's screens are others.
    (folder / "screen.yaml").write_text(yaml.safe_dump(recipe | {"seed": 1000 + seed}))
    rows = ["plate\timages\tplatemap\trecipe"]
    for plate in recipe["plates"]:
        base = folder / "results" / "simulated" / plate["name"]
        rows.append(
            f"{plate['name']}\t{base}/images\t{base}/platemap.csv\t{folder / 'screen.yaml'}"
        )
    (folder / "plates.tsv").write_text("\n".join(rows) + "\n")
    results = folder / "results"
    subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--cores", "all", "--rerun-triggers"),
            *("mtime", "params", "input"),
            *("--configfile", str(config), "--config", f"results={results}"),
            *(f"plates={folder / 'plates.tsv'}", f"seed={seed}", "--"),
            str(results / "phenotypes" / "vae" / "cells.parquet"),
        ],
        cwd=ROOT,
        check=True,
    )
    return results


def score_screen(results: Path, seed: int) -> list[dict[str, Any]]:
    """AUROC of every treatment and concentration against controls, for each kind of feature."""
    run = open_results(results)
    cells = run.cells
    names = latent_columns(cells)
    settings = run_settings(run)

    def normalized(features: np.ndarray) -> np.ndarray:
        return normalize(unit(features), cells, settings)[0]

    pca, intensity = pixel_features(run.path, cells, len(names), seed).values()
    features = {
        "z": cells[names].to_numpy(),
        "pca": normalized(pca),
        "intensity": normalized(intensity),
    }
    wells = (cells["plate"] + "/" + cells["well"]).to_numpy(dtype=str)
    control = cells["control"].to_numpy(dtype=bool)
    rows = []
    for (treatment, dose), members in cells[~control].groupby(["treatment", "concentration"]):
        chosen = control | cells.index.isin(members.index)
        treated = ~control[chosen]
        rows.append(
            {"seed": seed, "treatment": treatment, "concentration": dose, "n_cells": len(members)}
            | {
                name: probe_auroc(values[chosen], treated, wells[chosen], seed=seed)
                for name, values in features.items()
            }
        )
    return rows


def summary(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean over seeds with its 95 % t-interval, per treatment and concentration."""
    moved = {t["name"]: t["factor"] for t in yaml.safe_load(RECIPE.read_text())["treatments"]}
    found = []
    for (treatment, dose), part in rows.groupby(["treatment", "concentration"]):
        top = dose == rows.loc[rows["treatment"] == treatment, "concentration"].max()
        line: dict[str, Any] = {
            "treatment": treatment,
            "factor": moved[treatment],
            "concentration": dose,
            "top": bool(top),
        }
        for name in ("z", "pca", "intensity"):
            values = part[name].to_numpy()
            half = math.nan
            if len(values) > 1:
                half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
            line[name] = {"mean": float(values.mean()), "half_interval": half}
        found.append(line)
    return found


def markdown(report: dict[str, Any]) -> str:
    """The top doses as a table."""
    d, seeds = report["latent_dim"], report["seeds"]
    lines = [
        f"| treatment (top dose) | acts on | z | PCA-{d} | intensity statistics |",
        "|---|---|---|---|---|",
    ]
    for row in report["summary"]:
        if row["top"]:
            figures = " | ".join(
                f"{row[n]['mean']:.3f} ± {row[n]['half_interval']:.3f}"
                for n in ("z", "pca", "intensity")
            )
            acts = (row["factor"] or "nothing (inert)").replace("_", " ")
            lines.append(f"| {row['treatment']} | {acts} | {figures} |")
    note = f"Mean over {seeds} screens ± half of its 95 % t-interval."
    return "\n".join([*lines, "", note])


def main() -> int:
    """Run all seeds; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="number of screens")
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--work", type=Path, default=ROOT / "results" / "truth")
    parser.add_argument(
        "--config", type=Path, default=ROOT / "config" / "examples" / "demo" / "config.yaml"
    )
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    try:
        for seed in range(given.seeds):
            results = run_screen(given.work.resolve(), seed, given.config.resolve())
            rows += score_screen(results, seed)
            print(pd.DataFrame(rows[-20:]).to_string(), file=sys.stderr)
    except VaeSciError as error:
        print(error, file=sys.stderr)
        return 1
    card = json.loads((results / "models" / "vae" / "model.json").read_text())
    report = {
        "seeds": given.seeds,
        "latent_dim": card["latent_dim"],
        "model": card["model"],
        "training": card["training"],
        "summary": summary(pd.DataFrame(rows)),
        "rows": rows,
        "versions": versions() | card["versions"],
    }
    write_json(report, given.json)
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
