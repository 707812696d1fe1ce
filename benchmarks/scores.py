"""All scores of a run with intervals and baselines, and what each normalisation does to them.

    python benchmarks/scores.py --results DIR --labels TABLE --json FILE [--model NAME] [--seed N]
                                [--column moa] [--features NAME=FILE.parquet ...]

TABLE is a CSV with a column of labels (`--column`) and what tells to whom they belong: plate and
well, or else treatment (also called compound) and, if they differ by it, concentration. The cells
are those of the run (at most 10,000, evenly from all wells), the scores those of scores.csv
(vae_sci/phenotypes/score_tables.py), under the run's normalisation: of z, cell count, PCA,
intensity statistics, and every table of `--features` (as for benchmarks/cells.py).

Then z alone, without normalisation, standardised and whitened against the controls: the same
scores, and how well plates mix in the treatment that lies on most of them, for whose cells
everything but the plate is the same. `other_plates`: how often the ten nearest cells of other wells
lie on other plates, over how often they would by chance (1: mixed). `plate`: balanced accuracy of
telling the plate by the ten nearest cells, wells held out. `batch`: of telling the batch by the ten
nearest cells of other plates; its chance is that of batches exchanged between plates. Differences
to z without normalisation are paired. 95 % intervals by bootstrap over plates, of scores of
treatments over compounds.

The encoder was trained, without labels, on the pixels of most of these cells: what is held out is
held out from what reads z.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from runs import latent_vectors, named_file, read_features, run_settings

from vae_sci.errors import InputError, VaeSciError
from vae_sci.files import write_json
from vae_sci.phenotypes.make import versions
from vae_sci.phenotypes.normalize import normalize
from vae_sci.phenotypes.score_tables import Score, label_scores, run_features, score_tables
from vae_sci.phenotypes.scores import balanced_accuracy, knn_predictions, nested_folds, similarities
from vae_sci.results import Results, open_results

Array = NDArray[np.float64]

NORMALIZATIONS = ("none", "standardize", "whiten")
NEIGHBOURS = 10
EXCHANGES = 199


def with_labels(cells: pd.DataFrame, path: Path, column: str) -> pd.DataFrame:
    """`cells` with `column` as the table at `path` has it; empty where it names no label."""
    try:
        table = pd.read_csv(path, dtype={"plate": str, "well": str}).rename(
            columns={"compound": "treatment"}
        )
    except (OSError, ValueError) as error:
        raise InputError(
            required="a CSV of labels", found=f"{path}: {error}", action="give it with --labels"
        ) from None
    keys = ["plate", "well"]
    if not set(keys) <= set(table):
        keys = [key for key in ("treatment", "concentration") if key in table]
    if not keys or column not in table:
        raise InputError(
            required=f"a column {column}, and plate and well or treatment",
            found=f"columns {', '.join(map(str, table.columns))} in {path}",
            action="name the column of labels with --column",
        )
    table = table[[*keys, column]].drop_duplicates()
    if table.duplicated(keys).any():
        first = table[table.duplicated(keys)].iloc[0]
        raise InputError(
            required=f"one label per {', '.join(keys)}",
            found=f"several for {', '.join(str(first[key]) for key in keys)} in {path}",
            action="correct the table",
        )
    return cells.drop(columns=column, errors="ignore").merge(table, on=keys, how="left")


def mixing(z: Array, cells: pd.DataFrame, seed: int) -> list[Score]:
    """How well plates and batches of one treatment's cells, z (N, d), mix; see the head."""
    # Where a plate has one well, none of the cells of other wells is of this plate.
    several = cells.groupby("plate")["well"].transform("nunique").to_numpy() > 1
    cells, z = cells[several], z[several]
    plates, batches = (cells[name].to_numpy(dtype=str) for name in ("plate", "batch"))
    wells = (cells["plate"] + "/" + cells["well"]).to_numpy(dtype=str)
    similarity = similarities(z)

    def nearest(barred: NDArray[np.bool_]) -> NDArray[np.int64]:
        ranked = np.argsort(-np.where(barred, -np.inf, similarity), axis=1, kind="stable")
        return np.asarray(ranked[:, :NEIGHBOURS])

    own_well, own_plate = (names[:, None] == names for names in (wells, plates))
    found = np.take_along_axis(~own_plate, nearest(own_well), axis=1).mean(axis=1)
    expected = (~own_plate).sum(axis=1) / (~own_well).sum(axis=1)
    plate = knn_predictions(z, plates, nested_folds(plates, wells, seed=seed), NEIGHBOURS)

    names, first, number = np.unique(plates, return_index=True, return_inverse=True)
    _, batch_of = np.unique(batches[first], return_inverse=True)
    of_others = number[nearest(own_plate)]

    def told(batch_of: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
        votes = batch_of[of_others[rows]][:, :, None] == np.arange(batch_of.max() + 1)
        return balanced_accuracy(batch_of[number[rows]], votes.sum(axis=1).argmax(axis=1))

    # Without its plate, a batch has fewer cells to vote for it: chance is below 1 / batches.
    rng, everyone = np.random.default_rng(seed), np.arange(len(cells))
    null = np.array([told(rng.permutation(batch_of), everyone) for _ in range(EXCHANGES)])
    about = ("cells", "plates", "no plate with two wells of the treatment")
    return [
        Score("other_plates", lambda r: found[r].mean() / expected[r].mean(), plates, *about, 1.0),
        Score(
            "plate",
            lambda r: balanced_accuracy(plates[r], plate[r]),
            plates,
            *about,
            1 / max(1, len(names)),
        ),
        Score("batch", lambda r: told(batch_of, r), plates, *about, null=null),
    ]


def normalizations(run: Results, cells: pd.DataFrame, column: str, seed: int) -> dict[str, Any]:
    """Scores of `cells` and mixing of plates by z under each of `NORMALIZATIONS`."""
    settings = run_settings(run)
    raw = latent_vectors(run.path / "embeddings" / run.model, run.cells)
    kept = pd.Index(run.cells["cell_id"]).get_indexer(pd.Index(cells["cell_id"]))
    treated = cells[~cells["control"]]
    widest = treated.groupby(["treatment", "concentration"])["plate"].nunique().idxmax()
    here = ((cells["treatment"] == widest[0]) & (cells["concentration"] == widest[1])).to_numpy()
    one = cells[here].reset_index(drop=True)
    found: dict[str, list[Score]] = {}
    levels = {}
    for how in NORMALIZATIONS:
        z, by, _ = normalize(raw, run.cells, settings.model_copy(update={"normalization": how}))
        levels[how] = pd.Series(by[kept]).value_counts().to_dict()
        found[how] = [
            *label_scores(z[kept], cells, column, seed),
            *mixing(z[kept][here], one, seed),
        ]
    rows = []
    for how, scores in found.items():
        for score, before in zip(scores, found["none"], strict=True):
            row = {"normalization": how, **score.row(seed)}
            if how != "none":
                row["minus_none"] = score.value - before.value
                row["minus_none_interval"] = score.interval(seed, before)
            rows.append(row)
    return {
        "treatment": widest[0],
        "concentration": widest[1],
        "n_cells": len(one),
        "n_plates": int(one["plate"].nunique()),
        "cells_normalized_by": levels,
        "rows": rows,
    }


def markdown(rows: pd.DataFrame, lines: str) -> str:
    """Value and interval of every score, one line per value of the column `lines`."""
    scores = list(rows["score"].unique())
    text = [f"| {lines} | {' | '.join(scores)} |", "|---" * (1 + len(scores)) + "|"]
    for name in rows[lines].unique():
        part = rows[rows[lines] == name].set_index("score")
        shown = [
            "–"
            if pd.isna(part.loc[score, "value"])
            else "{value:.3f} ({low:.3f} to {high:.3f})".format(**part.loc[score])
            for score in scores
        ]
        text.append(f"| {name} | {' | '.join(shown)} |")
    first = rows.drop_duplicates("score")
    numbers = "; ".join(
        f"{row.score}: {row.n} {row.unit}, {row.n_groups} {row.groups}"
        for row in first.itertuples()
    )
    return "\n".join([*text, "", numbers])


def main(arguments: list[str] | None = None) -> int:
    """Score a run; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--labels", type=Path, required=True, help="CSV of labels")
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--model", help="where the results hold several")
    parser.add_argument("--column", default="moa", help="column of labels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--features",
        type=named_file,
        action="append",
        default=[],
        metavar="NAME=FILE.parquet",
        help="score these features too; may be given several times",
    )
    given = parser.parse_args(arguments)
    try:
        run = open_results(given.results, given.model)
        settings = run_settings(run)
        cells, features = run_features(run.path, run.model, settings, given.seed)
        cells = with_labels(cells, given.labels, given.column)
        for name, path in given.features:
            values = read_features(path, cells)
            features[f"{name} ({values.shape[1]})"] = normalize(values, cells, settings)[0]
        scores, replicates = score_tables(features, cells, (given.column,), given.seed)
        compared = normalizations(run, cells, given.column, given.seed)
    except VaeSciError as error:
        print(error, file=sys.stderr)
        return 1
    report = {
        "n_cells": len(cells),
        "scores": scores.astype(object).where(scores.notna(), None).to_dict("records"),
        "replicates": replicates.astype(object).where(replicates.notna(), None).to_dict("records"),
        "normalizations": compared,
        "seed": given.seed,
        "versions": versions(),
    }
    write_json(report, given.json)
    print(markdown(scores, "features"))
    print(f"\nz of {compared['n_cells']} cells of {compared['treatment']}: plates, batches\n")
    print(markdown(pd.DataFrame(compared["rows"]), "normalization"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
