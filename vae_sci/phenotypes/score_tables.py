"""The scores of a run: what can be told from z of labels and treatments, and from baselines.

The encoder has seen the pixels of the training wells, never a label, a treatment or a plate. Probes
and neighbours hold out plates, wells or compounds; that z itself was fitted on most of these cells
is the same for all labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from vae_sci.config import PhenotypesSettings
from vae_sci.contracts import CELLS, REPLICATES, SCORES
from vae_sci.errors import InputError
from vae_sci.phenotypes.baselines import pixel_features, unit
from vae_sci.phenotypes.normalize import normalize
from vae_sci.phenotypes.permutation import LARGEST, arrangements
from vae_sci.phenotypes.profiles import TREATMENT, latent_columns
from vae_sci.phenotypes.replicates import activity, replicate_correlations, unrelated_correlations
from vae_sci.phenotypes.scores import (
    Labels,
    Retrieval,
    balanced_accuracy,
    bootstrap_interval,
    grouped_folds,
    knn_predictions,
    linear_probe_predictions,
    nested_folds,
)

Array = NDArray[np.float64]

PROFILED_CELLS = 10_000
"""Most cells whose tiles are read: drawn evenly from all wells, the same for z and baselines."""

PROBED_CELLS, PROBED_PER_WELL = 5_000, 20
"""Most cells that probes see, in all and of a well."""

FEWEST_GROUPS = 5
"""With fewer plates or compounds than this to resample there is no interval."""

FDR = 0.05


@dataclass(frozen=True)
class Items:
    """What a score is the mean of, or is counted over: resampled by whole `groups` (N,)."""

    statistic: Callable[[NDArray[np.int64]], float]
    groups: Labels

    @classmethod
    def mean(cls, values: Array, groups: Labels) -> Items:
        """The mean of `values` (N,); NaN are left out."""
        there = ~np.isnan(values)
        kept = values[there]
        return cls(lambda rows: float(kept[rows].mean()), groups[there])

    def row(self, seed: int) -> dict[str, Any]:
        """Value, 95 % interval and numbers, as columns of `SCORES`."""
        n_groups = len(np.unique(self.groups))
        if not n_groups:
            return {"n": 0, "n_groups": 0}
        low = high = float("nan")
        if n_groups >= FEWEST_GROUPS:
            low, high = bootstrap_interval(self.statistic, self.groups, seed=seed)
        value = self.statistic(np.arange(len(self.groups)))
        return {
            "value": value,
            "low": low,
            "high": high,
            "n": len(self.groups),
            "n_groups": n_groups,
        }


def make_scores(
    results: Path,
    model: str,
    settings: PhenotypesSettings,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the tables `SCORES` and `REPLICATES` of a model whose phenotypes are there.

    Features: z as the run normalised it; cell count of the well, intensity statistics and PCA of
    the tiles, under the same normalisation. `progress` is called with (tiles read, all).

    Raises `InputError` for a label that is no column of the cells.
    """
    folder = results / "phenotypes" / model
    cells = CELLS.read(folder / "cells.parquet")
    counts = cell_counts(cells)
    kept = draw_cells(cells, PROFILED_CELLS, seed)
    cells, counts = cells.iloc[kept].reset_index(drop=True), counts[kept]
    z = cells[latent_columns(cells)].to_numpy()
    others = {"cell count": counts} | pixel_features(results, cells, z.shape[1], seed, progress)
    features = {"z": z} | {
        name: normalize(unit(values), cells, settings)[0] for name, values in others.items()
    }
    scores, replicates = score_tables(features, cells, settings.labels, seed)
    SCORES.write(scores, folder / "scores.csv")
    REPLICATES.write(replicates, folder / "replicates.csv")


def cell_counts(cells: pd.DataFrame) -> Array:
    """log2 of the number of cells in each cell's well (N, 1)."""
    return np.log2(
        cells.groupby(["plate", "well"])["cell_id"].transform("size").to_numpy(np.float64)
    )[:, None]


def draw_cells(
    cells: pd.DataFrame, most: int, seed: int, per_well: int | None = None
) -> NDArray[np.int64]:
    """Rows of at most `most` cells (columns plate, well), as evenly from wells as they allow."""
    order = np.random.default_rng(seed).permutation(len(cells))
    turn = cells.iloc[order].groupby(["plate", "well"]).cumcount().to_numpy()
    if per_well is not None:
        order, turn = order[turn < per_well], turn[turn < per_well]
    return np.asarray(np.sort(order[np.argsort(turn, kind="stable")[:most]]))


def score_tables(
    features: dict[str, Array], cells: pd.DataFrame, labels: tuple[str, ...], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `SCORES` and `REPLICATES` of normalised features (N, d) of `cells`, by name.

    `labels` are columns of `cells`; controls and cells without a label are not asked about.
    """
    for label in labels:
        if label not in cells:
            raise InputError(
                required="labels that are columns of the cells (phenotypes: labels)",
                found=f"no column '{label}' among {', '.join(map(str, cells.columns))}",
                action="add it to the platemaps, or correct its name",
            )
    rows: list[dict[str, Any]] = []
    parts = []
    for name, values in features.items():
        for label in labels:
            known = (~cells["control"] & cells[label].notna()).to_numpy()
            part = cells[known].reset_index(drop=True)
            part = part.assign(
                label=part[label].astype(str), treatment=part["treatment"].fillna("")
            )
            found = [
                *_by_cell(values[known], part, seed),
                *_by_treatment(values[known], part, seed),
            ]
            rows += [{"label": label, "features": name, **row} for row in found]
        table = replicate_table(values, cells, seed)
        parts.append(table.assign(features=name))
        rows += [{"features": name, **row} for row in _of_replicates(table, seed)]
    columns = [column.name for column in SCORES.columns]
    return (
        SCORES.validate(pd.DataFrame(rows).reindex(columns=columns), "the scores of this run"),
        REPLICATES.validate(pd.concat(parts, ignore_index=True), "the replicates of this run"),
    )


def _by_cell(features: Array, cells: pd.DataFrame, seed: int) -> Iterator[dict[str, Any]]:
    """k-NN and linear probe on single cells, plates held out; wells, where plates are too few."""
    chosen = draw_cells(cells, PROBED_CELLS, seed, PROBED_PER_WELL)
    for held_out in ("plates", "wells"):
        part = cells.iloc[chosen]
        groups = part["plate"] if held_out == "plates" else part["plate"] + "/" + part["well"]
        in_two = groups.groupby(part["label"]).transform("nunique").to_numpy() > 1
        if part.loc[in_two, "label"].nunique() > 1:
            break
    else:
        for score in ("knn", "linear"):
            remark = "no two labels that lie in two wells each"
            yield {"score": score, "n": 0, "n_groups": 0, "remark": remark}
        return
    rows = chosen[in_two]
    labels = cells["label"].iloc[rows].astype("category").cat.codes.to_numpy()
    names = groups[in_two].to_numpy(dtype=str)
    if held_out == "plates":
        folds = grouped_folds(labels, names, min(5, len(np.unique(names))), seed)
    else:
        folds = nested_folds(labels, names, seed=seed)
    values = features[rows]
    metric = "cosine" if values.shape[1] > 1 else "euclidean"
    for score, predicted in (
        ("knn", knn_predictions(values, labels, folds, metric=metric)),
        ("linear", linear_probe_predictions(values, labels, folds)),
    ):
        yield {
            "score": score,
            **_accuracy(labels, predicted, names).row(seed),
            "chance": 1 / len(np.unique(labels)),
            "unit": "cells",
            "groups": held_out,
        }


def _accuracy(labels: Labels, predicted: Labels, groups: Labels) -> Items:
    return Items(lambda rows: balanced_accuracy(labels[rows], predicted[rows]), groups)


def treatment_means(
    features: Array, cells: pd.DataFrame, keys: list[str]
) -> tuple[pd.DataFrame, Array]:
    """Means over wells of the wells' means, one row per combination of `keys`: keys, (M, d)."""
    wells = pd.DataFrame(features).groupby(
        [cells[k] for k in ["plate", "well", *keys]], dropna=False
    )
    means = wells.mean().groupby(level=keys, dropna=False).mean()
    return means.index.to_frame(index=False), means.to_numpy()


def _by_treatment(features: Array, cells: pd.DataFrame, seed: int) -> Iterator[dict[str, Any]]:
    """Treatments ask for their label among other compounds, and among those of other batches."""
    about, profiles = treatment_means(features, cells, [*TREATMENT, "label"])
    compounds, labels = (about[k].to_numpy(dtype=str) for k in ("treatment", "label"))
    asked = Retrieval(profiles, compounds)
    remark = "no label has two compounds"
    yield {"score": "nsc", **_retrieved(asked, asked.nearest_right, labels, seed, remark)}
    yield {"score": "map", **_retrieved(asked, asked.average_precision, labels, seed, remark)}
    about, profiles = treatment_means(features, cells, [*TREATMENT, "label", "batch"])
    compounds, labels, batches = (
        about[k].to_numpy(dtype=str) for k in ("treatment", "label", "batch")
    )
    asked = Retrieval(profiles, compounds, batches)
    remark = "no label has two compounds in different batches"
    yield {"score": "nscb", **_retrieved(asked, asked.nearest_right, labels, seed, remark)}


def _retrieved(
    asked: Retrieval, ask: Callable[[Labels], Array], labels: Labels, seed: int, remark: str
) -> dict[str, Any]:
    """Value, interval, chance and p-value of one way to ask, or `remark`."""
    about = {"unit": "treatments", "groups": "compounds"}
    row = Items.mean(ask(labels), asked.compounds).row(seed)
    if not row["n"]:
        return row | about | {"remark": remark}
    null = asked.chance(ask, labels, seed)
    as_high = null >= row["value"] * (1 - 1e-9)  # equal but for rounding
    return (
        row
        | about
        | {
            "chance": float(np.nanmean(null)),
            "p_value": float((1 + as_high.sum()) / (1 + len(null))),
        }
    )


def replicate_table(features: Array, cells: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How alike the wells of each treatment are; columns of `REPLICATES` but `features`."""
    keys = ["plate", "well", *TREATMENT, "control"]
    means = pd.DataFrame(features).groupby([cells[k] for k in keys], dropna=False).mean()
    wells, profiles = means.index.to_frame(index=False), means.to_numpy()
    control = wells["control"].to_numpy(dtype=bool)
    treated = wells[~control & wells["treatment"].notna()]
    code = treated.groupby(TREATMENT, dropna=False).ngroup().astype(str)
    correlations = replicate_correlations(profiles[treated.index], code.to_numpy(dtype=str))
    null: dict[int, Array] = {}
    rows: list[dict[str, Any]] = []
    for number, members in treated.groupby(code, sort=False):
        n = len(members)
        row: dict[str, Any] = {name: members[name].iloc[0] for name in TREATMENT} | {"n_wells": n}
        rows.append(row)
        if n < 2:
            row["untested"] = "one well"
            continue
        if n not in null:
            all_codes = code.to_numpy(dtype=str)
            null[n] = unrelated_correlations(profiles[treated.index], all_codes, n, seed)
        if len(null[n]):
            row["correlation"] = correlations[str(number)]
            row["unrelated"] = float(np.median(null[n]))
            row["unrelated_95"] = float(np.quantile(null[n], 0.95))
        row |= _activity(profiles, wells, control, members.index, seed)
    columns = [column.name for column in REPLICATES.columns if column.name != "features"]
    table = pd.DataFrame(rows).reindex(columns=columns)
    tested = table["p_value"].notna()
    if tested.any():  # all treatments together (Benjamini & Hochberg 1995)
        found = table.loc[tested, "p_value"].to_numpy(dtype=np.float64)
        table.loc[tested, "q_value"] = stats.false_discovery_control(found)
    return table.sort_values(TREATMENT, ignore_index=True)


def _activity(
    profiles: Array,
    wells: pd.DataFrame,
    control: NDArray[np.bool_],
    members: pd.Index,
    seed: int,
) -> dict[str, Any]:
    """mAP of a treatment's wells among the controls of their plates, or why there is none."""
    plates = wells["plate"].to_numpy(dtype=str)
    with_controls = np.isin(plates, plates[control])
    here = np.zeros(len(wells), dtype=bool)
    here[members] = True
    here &= with_controls
    if here.sum() < 2:
        return {"untested": "fewer than two wells on plates with controls"}
    rows = here | (control & np.isin(plates, plates[here]))
    found, chance, p_value = activity(profiles[rows], here[rows], plates[rows], seed)
    row: dict[str, Any] = {
        "n_controls": int(rows.sum() - here.sum()),
        "map": found,
        "chance": chance,
    }
    ways = arrangements(here[rows], plates[rows])
    if ways * LARGEST < 1:
        return row | {
            "untested": f"{ways} ways to exchange its wells, p could not be below {1 / ways:.2g}"
        }
    return row | {"p_value": p_value}


def _of_replicates(table: pd.DataFrame, seed: int) -> Iterator[dict[str, Any]]:
    """Scores over all treatments of one `replicate_table`."""
    compounds = table["treatment"].to_numpy(dtype=str)
    t = table[["correlation", "unrelated", "unrelated_95", "map", "chance", "q_value"]].astype(
        "float64"
    )
    agree = (t["correlation"] > t["unrelated_95"]).astype("float64").where(t["correlation"].notna())
    active = (t["q_value"] <= FDR).astype("float64").where(t["q_value"].notna())
    correlated = "no treatment has two wells; or fewer treatments than wells of one; or one number"
    among_controls = "no treatment has two wells on plates with controls"
    for score, values, chance, remark in (
        ("replicate_correlation", t["correlation"], t["unrelated"], correlated),
        ("replicating_share", agree, agree.where(agree.isna(), 0.05), correlated),
        ("replicate_map", t["map"], t["chance"], among_controls),
        ("active_share", active, None, "no treatment has the wells for a p-value of 0.05"),
    ):
        scored: Array = np.asarray(values, dtype=np.float64)
        row = Items.mean(scored, compounds).row(seed)
        yield {
            "score": score,
            **row,
            "chance": np.nan if chance is None else chance[values.notna()].mean(),
            "unit": "treatments",
            "groups": "compounds",
            **({} if row["n"] else {"remark": remark}),
        }
