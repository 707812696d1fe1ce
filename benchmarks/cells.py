"""Does z tell mechanisms apart, and better than PCA and plain intensities do?

    python benchmarks/cells.py --data DIR --json FILE [--results DIR] [--model NAME] [--seed N]

DIR holds `cells.csv` of real drug-treated cells (BBBC021: plate, well, site, cell, compound,
concentration, moa, source, noise_like); the results are those of `make example-bbbc021 DATA=DIR`.

Scored: rows with source moa12 that are not noise-like and not DMSO, at most 20 cells per plate
and treatment (compound and concentration), classes on at least 2 plates. Compared on the same
rows and folds, under the same normalisation: z; PCA with as many components (square root of the
counts, channels at unit variance, fitted on training tiles); 30 intensity statistics (10 per
channel). Two normalisations: `controls`, the run's own (against control wells, with its
fallbacks), and `scored`, each number at mean 0 and sd 1 over the scored rows. Under `controls`
PCA and statistics are first brought to sd 1 over all cells, so that the floor of unused
dimensions means the same for all three.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from baselines import intensity_statistics, principal_components, run_settings, unit
from numpy.typing import NDArray

from vae_sci.contracts import EMBEDDINGS
from vae_sci.errors import ContractError, InputError, VaeSciError
from vae_sci.files import write_json
from vae_sci.phenotypes.make import versions
from vae_sci.phenotypes.normalize import normalize
from vae_sci.phenotypes.profiles import latent_columns
from vae_sci.phenotypes.scores import (
    balanced_accuracy,
    bootstrap_interval,
    grouped_folds,
    knn_predictions,
    linear_probe_predictions,
    not_same_compound,
)
from vae_sci.results import Results, open_results

Array = NDArray[np.float64]

MOST_CELLS = 20
PLATES_NEEDED = 2
FOLDS = 5
NEIGHBOURS = 10
RESAMPLES = 1000
METRICS = ("knn", "linear", "nsc")


def read_labels(data: Path) -> pd.DataFrame:
    """`cells.csv` with `cell_id` as the results have it: plate/well/site/cell."""
    path = data / "cells.csv"
    needed = ["plate", "well", "site", "cell", "compound", "concentration", "moa", "source"]
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(["plate", "well", "site", "cell"], str))
    except (OSError, ValueError) as error:
        raise InputError(
            required="a folder with cells.csv",
            found=f"{path}: {error}",
            action="give the folder of the BBBC021 cells with --data",
        ) from None
    lacking = [name for name in [*needed, "noise_like"] if name not in table]
    if lacking:
        raise InputError(
            required=f"columns {', '.join(needed)}, noise_like",
            found=f"no {', '.join(lacking)} in {path}",
            action="give the folder of the BBBC021 cells with --data",
        )
    return table.assign(cell_id=table[needed[:4]].agg("/".join, axis=1))


def choose_rows(labels: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows that are scored, and the classes left out with the plates they were found on."""
    usable = labels[(labels["source"] == "moa12") & ~labels["noise_like"]]
    usable = usable[usable["moa"].notna() & (usable["moa"] != "DMSO")]
    treatment = ["plate", "compound", "concentration"]
    chosen = usable.sample(frac=1, random_state=seed).groupby(treatment).head(MOST_CELLS)
    plates = chosen.groupby("moa")["plate"].nunique()
    left_out = {str(name): int(n) for name, n in plates[plates < PLATES_NEEDED].items()}
    kept = chosen[~chosen["moa"].isin(list(left_out))]
    return kept.sort_values("cell_id", ignore_index=True), left_out


def score(features: Array, rows: pd.DataFrame, folds: NDArray[Any], seed: int) -> dict[str, Any]:
    """Balanced accuracies over mechanisms and not-same-compound accuracy, with 95 % intervals."""
    moa, plates = rows["moa"].to_numpy(dtype=str), rows["plate"].to_numpy(dtype=str)
    found: dict[str, Any] = {}
    for name, predictions in (
        ("knn", knn_predictions(features, moa, folds, NEIGHBOURS)),
        ("linear", linear_probe_predictions(features, moa, folds)),
    ):

        def over(chosen: NDArray[np.int64], predictions: NDArray[Any] = predictions) -> float:
            return balanced_accuracy(moa[chosen], predictions[chosen])

        interval = bootstrap_interval(over, plates, RESAMPLES, seed=seed)
        found[name] = {"value": balanced_accuracy(moa, predictions), "interval": interval}

    about = rows[["compound", "concentration", "moa"]].reset_index(drop=True)
    means = about.join(pd.DataFrame(features)).groupby(list(about.columns)).mean().reset_index()
    compounds = means["compound"].to_numpy(dtype=str)
    profiles = means.drop(columns=list(about.columns)).to_numpy()
    right = not_same_compound(profiles, compounds, means["moa"].to_numpy(dtype=str))
    # A mechanism of one compound cannot be found again: such treatments are not asked about.
    asked = (means.groupby("moa")["compound"].transform("nunique") > 1).to_numpy()
    right, compounds = right[asked], compounds[asked]
    interval = bootstrap_interval(
        lambda chosen: float(right[chosen].mean()), compounds, RESAMPLES, seed=seed
    )
    found["nsc"] = {
        "value": float(right.mean()),
        "interval": interval,
        "treatments": len(right),
        "compounds": len(np.unique(compounds)),
    }
    return found


def compare(data: Path, run: Results, seed: int) -> dict[str, Any]:
    """All figures of the comparison; see the head of this file for the protocol."""
    rows, left_out = choose_rows(read_labels(data), seed)
    cells = run.cells
    lost = rows.loc[~rows["cell_id"].isin(cells["cell_id"]), "cell_id"]
    if len(lost):
        raise ContractError(
            required=f"the scored cells of {data} in {run.path}",
            found=f"{len(lost)} of {len(rows)} missing, the first {lost.iloc[0]}",
            action=f"make the results of this folder: make example-bbbc021 DATA={data}",
        )
    at = pd.Index(cells["cell_id"]).get_indexer(pd.Index(rows["cell_id"]))
    names = latent_columns(cells)
    z = pd.concat(
        EMBEDDINGS.read(path)
        for path in sorted((run.path / "embeddings" / run.model).glob("*.parquet"))
    )
    tiles = run.tiles(cells)
    train = (cells["split"] == "train").to_numpy()
    features = {
        f"z ({run.model})": z.set_index("cell_id").loc[cells["cell_id"], names].to_numpy(),
        f"PCA-{len(names)}": unit(principal_components(tiles, train, len(names), seed)),
    }
    statistics = intensity_statistics(tiles)
    features[f"intensity statistics ({statistics.shape[1]})"] = unit(statistics)

    folds = grouped_folds(rows["moa"].to_numpy(dtype=str), rows["plate"].to_numpy(), FOLDS, seed)
    settings = run_settings(run)
    results = [
        {"features": name, "normalization": how} | score(values, rows, folds, seed)
        for how in ("controls", "scored")
        for name, values in (
            (name, normalize(raw, cells, settings)[0][at] if how == "controls" else unit(raw[at]))
            for name, raw in features.items()
        )
    ]
    return {
        "protocol": " ".join(str(__doc__).split("\n\n")[3].split()),
        "n_cells": len(rows),
        "n_plates": int(rows["plate"].nunique()),
        "n_treatments": int(rows.groupby(["compound", "concentration"]).ngroups),
        "cells_per_class": rows["moa"].value_counts().to_dict(),
        "left_out": {name: f"on {n} plate" for name, n in left_out.items()},
        "chance": 1 / rows["moa"].nunique(),
        "plates_per_fold": [sorted(set(rows["plate"][folds == f])) for f in range(FOLDS)],
        "normalized_by": cells["normalized_by"].iloc[at].value_counts().to_dict(),
        "results": results,
        "settings": settings.model_dump(),
        "seed": seed,
        "resamples": RESAMPLES,
        "versions": versions(),
    }


def markdown(report: dict[str, Any]) -> str:
    """The figures as a table, with what was scored below it."""
    lines = [
        f"| features | normalised by | k-NN (k = {NEIGHBOURS}) | linear probe | NSC 1-NN |",
        "|---|---|---|---|---|",
    ]
    for row in report["results"]:
        figures = (
            "{value:.3f} ({0:.3f}–{1:.3f})".format(*row[m]["interval"], value=row[m]["value"])
            for m in METRICS
        )
        lines.append(f"| {row['features']} | {row['normalization']} | {' | '.join(figures)} |")
    left = ", ".join(f"{name} ({why})" for name, why in report["left_out"].items()) or "none"
    nsc = report["results"][0]["nsc"]
    return "\n".join(
        [
            *lines,
            "",
            f"{report['n_cells']} cells, {report['n_plates']} plates, "
            f"{len(report['cells_per_class'])} mechanisms (chance {report['chance']:.3f}); NSC: "
            f"{nsc['treatments']} treatments, {nsc['compounds']} compounds. "
            f"Left out: {left}. 95 % intervals by bootstrap over plates, NSC over compounds.",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with cells.csv")
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--results", type=Path, default=Path("results/bbbc021"))
    parser.add_argument("--model", default="vae")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        if not (given.results / "phenotypes" / given.model / "cells.parquet").is_file():
            raise ContractError(
                required=f"the results of a run on {given.data}",
                found=f"no phenotypes of model '{given.model}' in {given.results}",
                action=f"make example-bbbc021 DATA={given.data}",
            )
        report = compare(given.data, open_results(given.results, given.model), given.seed)
    except VaeSciError as error:
        print(error, file=sys.stderr)
        return 1
    write_json(report, given.json)
    print(markdown(json.loads(given.json.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
