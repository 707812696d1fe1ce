"""Does z tell mechanisms apart, and better than other features of the same cells do?

    python benchmarks/cells.py --data DIR --json FILE [--results DIR] [--model NAME] [--seed N]
                               [--features NAME=FILE.parquet ...] [--minutes M]

DIR holds `cells.csv` of real drug-treated cells (BBBC021: plate, well, site, cell, compound,
concentration, moa, source, noise_like); the results are those of `make example-bbbc021 DATA=DIR`.

Scored: rows with source moa12 that are not noise-like and not DMSO, at most 20 cells per plate
and treatment (compound and concentration), classes on at least 2 plates. Compared on the same
rows and folds, under the same normalisation: z; PCA with as many components (square root of the
counts, channels at unit variance, fitted on training tiles); 30 intensity statistics (10 per
channel); every table of `--features` (benchmarks/opponents makes some). Three normalisations:
`controls`, the run's own (against control wells, with its fallbacks); `whitened`, the same and then
whitened on all control cells of the screen (on all cells where controls are too few); `scored`,
each number at mean 0 and sd 1 over the scored rows. Before `controls` all but latent vectors are
brought to sd 1 over all cells, so that the floor of unused dimensions means the same for all.

Scores: balanced accuracy of mechanisms by k-NN (cosine) and by a linear probe, cells, five folds
by plate; NSC, the share of treatment means whose nearest neighbour among other compounds has the
same mechanism; mAP, the mean average precision with which they find their mechanism among other
compounds. 95 % intervals by bootstrap over plates, of NSC and mAP over compounds. Differences of z
to each of the others are taken on the same resamples (paired).

A table has `cell_id` and a row for every cell of the run (extra ones are passed over). Where it
has columns z_000 …, these are a latent vector and alone are read; otherwise all its numbers are.

With `--minutes M` the default model and its variants (variants.py: other likelihoods, other skips,
consistency; `--variants` names some) are trained for M minutes each on the tiles of the run, into
the work folder (beside FILE), where they are taken up again. Then there are three tables more: what
each variant pays for the held-out tiles in bits, how much of it is rate, whether z is bypassed, how
sharp reconstructions are and how far nuisances move z (1: as far as another cell, in sds of z);
what lossless codecs pay for the same tiles; and the mechanisms by z of each variant. Differences
are then those of the first variant, by default the default model.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from lossless import codec_costs, held_out_levels
from lossless import markdown as codec_table
from numpy.typing import NDArray
from runs import latent_vectors, named_file, open_run, read_features, run_settings
from variants import VARIANTS, measure

from vae_sci.errors import ContractError, InputError, VaeSciError
from vae_sci.files import write_json
from vae_sci.phenotypes.baselines import pixel_features, unit
from vae_sci.phenotypes.make import versions
from vae_sci.phenotypes.normalize import enough_controls, normalize, whiten
from vae_sci.phenotypes.scores import (
    Retrieval,
    balanced_accuracy,
    bootstrap_interval,
    grouped_folds,
    knn_predictions,
    linear_probe_predictions,
)
from vae_sci.results import Results

Array = NDArray[np.float64]

MOST_CELLS = 20
PLATES_NEEDED = 2
FOLDS = 5
NEIGHBOURS = 10
RESAMPLES = 1000
METRICS = {"knn": f"k-NN (k = {NEIGHBOURS})", "linear": "linear", "nsc": "NSC", "map": "mAP"}
NORMALIZATIONS = ("controls", "whitened", "scored")


class Outcome(NamedTuple):
    """One score of one set of features: `over` rows, which are resampled by `groups` (N,)."""

    over: Callable[[NDArray[np.int64]], float]
    groups: NDArray[Any]

    @property
    def value(self) -> float:
        return self.over(np.arange(len(self.groups)))


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


def outcomes(features: Array, rows: pd.DataFrame, folds: NDArray[Any]) -> dict[str, Outcome]:
    """The scores of features (N, d) on `rows`, by name."""
    moa = rows["moa"].astype("category").cat.codes.to_numpy()
    plates = rows["plate"].to_numpy(dtype=str)

    def of_cells(predictions: NDArray[Any]) -> Outcome:
        return Outcome(lambda c: balanced_accuracy(moa[c], predictions[c]), plates)

    about = rows[["compound", "concentration", "moa"]].reset_index(drop=True)
    means = about.join(pd.DataFrame(features)).groupby(list(about.columns)).mean().reset_index()
    compounds, labels = (means[name].to_numpy(dtype=str) for name in ("compound", "moa"))
    profiles = means.drop(columns=list(about.columns)).to_numpy()
    asking = Retrieval(profiles, compounds)

    def of_treatments(right: NDArray[Any]) -> Outcome:
        # A mechanism of one compound cannot be found again: such treatments are not asked about.
        asked = ~np.isnan(right)
        return Outcome(lambda c: float(right[asked][c].mean()), compounds[asked])

    return {
        "knn": of_cells(knn_predictions(features, moa, folds, NEIGHBOURS)),
        "linear": of_cells(linear_probe_predictions(features, moa, folds)),
        "nsc": of_treatments(asking.nearest_right(labels)),
        "map": of_treatments(asking.average_precision(labels)),
    }


def figure(outcome: Outcome, seed: int) -> dict[str, Any]:
    """Value and 95 % interval of an outcome."""
    interval = bootstrap_interval(outcome.over, outcome.groups, RESAMPLES, seed=seed)
    return {"value": outcome.value, "interval": interval}


def difference(one: Outcome, other: Outcome) -> Outcome:
    """`one` − `other` on the same rows, so that both see the same resamples."""
    return Outcome(lambda chosen: one.over(chosen) - other.over(chosen), one.groups)


def compare(
    data: Path, run: Results, seed: int, tables: dict[str, Path], variants: dict[str, Path]
) -> dict[str, Any]:
    """The figures of label recovery; see the head of this file for the protocol. `variants` are
    folders of embeddings by name; differences are those of the first one, if there is any."""
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
    folders = variants or {run.model: run.path / "embeddings" / run.model}
    features = {f"z ({name})": latent_vectors(folder, cells) for name, folder in folders.items()}
    ours = next(iter(features))
    pixels = pixel_features(run.path, cells, features[ours].shape[1], seed)
    features |= {name: unit(values) for name, values in pixels.items()}
    for name, path in tables.items():
        values = read_features(path, cells)
        features[f"{name} ({values.shape[1]})"] = values

    folds = grouped_folds(rows["moa"].to_numpy(dtype=str), rows["plate"].to_numpy(), FOLDS, seed)
    settings = run_settings(run)
    control = cells["control"].to_numpy(dtype=bool)
    if not enough_controls(cells[control], settings):
        control = np.ones(len(cells), dtype=bool)

    def normalized(raw: Array, how: str) -> Array:
        if how == "scored":
            return unit(raw[at])
        values = normalize(raw, cells, settings)[0]
        return (values if how == "controls" else whiten(values, values[control]))[at]

    found = {
        (how, name): outcomes(normalized(raw, how), rows, folds)
        for how in NORMALIZATIONS
        for name, raw in features.items()
    }
    asked = found[NORMALIZATIONS[0], ours]["nsc"].groups
    return {
        "protocol": " ".join(str(__doc__).split("\n\n")[3].split()),
        "scores": " ".join(str(__doc__).split("\n\n")[4].split()),
        "n_cells": len(rows),
        "n_plates": int(rows["plate"].nunique()),
        "n_treatments": int(rows.groupby(["compound", "concentration"]).ngroups),
        "cells_per_class": rows["moa"].value_counts().to_dict(),
        "nsc_treatments": len(asked),
        "nsc_compounds": len(np.unique(asked)),
        "left_out": {name: f"on {n} plate" for name, n in left_out.items()},
        "chance": 1 / rows["moa"].nunique(),
        "plates_per_fold": [sorted(set(rows["plate"][folds == f])) for f in range(FOLDS)],
        "normalized_by": cells["normalized_by"].iloc[at].value_counts().to_dict(),
        "results": [
            {"features": name, "normalization": how}
            | {metric: figure(outcome, seed) for metric, outcome in scores.items()}
            for (how, name), scores in found.items()
        ],
        "differences": [
            {"features": ours, "minus": name, "normalization": how}
            | {
                metric: figure(difference(found[how, ours][metric], outcome), seed)
                for metric, outcome in scores.items()
            }
            for (how, name), scores in found.items()
            if name != ours
        ],
        "settings": settings.model_dump(),
        "seed": seed,
        "resamples": RESAMPLES,
        "versions": versions(),
    }


def table(head: str, rows: Iterable[tuple[str, dict[str, Any]]], form: str) -> list[str]:
    """Lines of a table: a name, the normalisation, and each score as `form` with its interval."""
    lines = [f"| {head} | normalised by | {' | '.join(METRICS.values())} |", "|---" * 6 + "|"]
    for name, row in rows:
        figures = (
            "{value:{form}} ({0:{form}} – {1:{form}})".format(
                *row[metric]["interval"], value=row[metric]["value"], form=form
            )
            for metric in METRICS
        )
        lines.append(f"| {name} | {row['normalization']} | {' | '.join(figures)} |")
    return lines


def markdown(report: dict[str, Any]) -> str:
    """The figures as two tables, with what was scored below them."""
    left = ", ".join(f"{name} ({why})" for name, why in report["left_out"].items()) or "none"
    ours = report["results"][0]["features"]
    return "\n".join(
        [
            *table("features", ((row["features"], row) for row in report["results"]), ".3f"),
            "",
            *table(f"{ours} minus", ((row["minus"], row) for row in report["differences"]), "+.3f"),
            "",
            f"{report['n_cells']} cells, {report['n_plates']} plates, "
            f"{len(report['cells_per_class'])} mechanisms (chance {report['chance']:.3f}); NSC and "
            f"mAP: {report['nsc_treatments']} treatments, {report['nsc_compounds']} compounds. "
            f"Left out: {left}. 95 % intervals by bootstrap over plates, NSC and mAP over "
            "compounds; differences paired.",
        ]
    )


def variant_table(models: list[dict[str, Any]]) -> str:
    """What each variant pays and keeps, one line each."""
    columns = {
        "bits": ("bits/pixel/channel", ".3f"),
        "rate_z": ("rate of z, nats", ".0f"),
        "rate_u": ("of u", ".0f"),
        "z_share": ("S", ".2f"),
        "frc": ("FRC 0.1–0.2", ".2f"),
        "quarter_turns": ("quarter turns", ".3f"),
        "angles": ("angles", ".3f"),
        "shifts": ("shifts", ".3f"),
        "epochs": ("epochs", "d"),
    }
    lines = [
        f"| model | {' | '.join(head for head, _ in columns.values())} |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for row in models:
        figures = (format(row[name], form) for name, (_, form) in columns.items())
        lines.append(f"| {row['model']} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with cells.csv")
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--results", type=Path, default=Path("results/bbbc021"))
    parser.add_argument("--model", default="vae")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--features",
        type=named_file,
        action="append",
        default=[],
        metavar="NAME=FILE.parquet",
        help="score these features too; may be given several times",
    )
    parser.add_argument("--minutes", type=float, help="train the variants, so long each")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--work", type=Path, help="folder of the variants; beside the JSON")
    given = parser.parse_args(arguments)
    work = given.work or given.json.with_suffix("")
    report: dict[str, Any] = {}
    folders: dict[str, Path] = {}
    try:
        run = open_run(given.data, given.results, given.model)
        if given.minutes:
            report = {"models": [], "codecs": codec_costs(held_out_levels(run))}
            for name in given.variants:
                print(f"{name}: {given.minutes:g} minutes, unless it is there", file=sys.stderr)
                report["models"].append(measure(name, run, work, given.minutes, given.seed))
                folders[name] = work / "embeddings" / name
                write_json(report, given.json)
        report |= compare(given.data, run, given.seed, dict(given.features), folders)
    except VaeSciError as error:
        print(error, file=sys.stderr)
        return 1
    write_json(report, given.json)
    report = json.loads(given.json.read_text())
    if given.minutes:
        print(variant_table(report["models"]), codec_table(report["codecs"]), "", sep="\n\n")
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
