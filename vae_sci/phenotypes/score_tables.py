"""The scores of a run: what can be told from z of labels and treatments, and from baselines.

The encoder has seen the pixels of the training wells, never a label, a treatment or a plate. Probes
and neighbours hold out plates, wells or compounds; that z itself was fitted on most of these cells
is the same for all labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.config import PhenotypesSettings
from vae_sci.contracts import CELLS, REPLICATES, SCORES
from vae_sci.errors import InputError
from vae_sci.phenotypes.baselines import pixel_features, unit
from vae_sci.phenotypes.h5ad import read_h5ad
from vae_sci.phenotypes.normalize import normalize_fully
from vae_sci.phenotypes.permutation import SIGNIFICANT, q_values, too_few
from vae_sci.phenotypes.profiles import TREATMENT, mean_of_wells
from vae_sci.phenotypes.replicates import (
    activity,
    correlations,
    replicate_correlation,
    unrelated_correlations,
)
from vae_sci.phenotypes.sample import evenly
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

PROFILED_CELLS, PROFILED_PER_WELL = 10_000, 5
"""Cells whose tiles are read, drawn evenly from all wells, the same for z and baselines: so many in
all, or of every well, whichever is more."""

PROBED_CELLS, PROBED_PER_WELL = 5_000, 20
"""Most cells that probes see, in all and of a well."""

FEWEST_GROUPS = 5
"""With fewer plates or compounds than this to resample there is no interval."""


@dataclass(frozen=True)
class Score:
    """A figure over items, which are resampled by whole `groups` (N,) for its interval."""

    name: str
    over: Callable[[NDArray[np.int64]], float]
    """The figure over some items, by their rows."""
    groups: Labels
    unit: str
    grouped: str
    """What groups are: plates, wells or compounds."""
    remark: str
    """Why there is no value, where there is no item."""
    chance: float = float("nan")
    null: Array = field(default_factory=lambda: np.empty(0))
    """The figure under exchanges, where that tells chance and p-value."""

    @classmethod
    def mean(cls, name: str, values: Array, compounds: Labels, remark: str, **more: Any) -> Score:
        """The mean of `values` (N,) of treatments; NaN are left out."""
        there = ~np.isnan(values)
        kept = values[there]

        def over(rows: NDArray[np.int64]) -> float:
            return float(kept[rows].mean())

        return cls(name, over, compounds[there], "treatments", "compounds", remark, **more)

    @property
    def value(self) -> float:
        """The figure over all items; NaN where there is none."""
        return self.over(np.arange(len(self.groups))) if len(self.groups) else float("nan")

    def interval(self, seed: int, minus: Score | None = None) -> tuple[float, float]:
        """95 % interval of the figure, or of its paired difference to another of the same items.

        NaN with fewer than `FEWEST_GROUPS` groups.
        """
        if len(np.unique(self.groups)) < FEWEST_GROUPS:
            return float("nan"), float("nan")
        if minus is None:
            return bootstrap_interval(self.over, self.groups, seed=seed)
        return bootstrap_interval(lambda r: self.over(r) - minus.over(r), self.groups, seed=seed)

    def row(self, seed: int) -> dict[str, Any]:
        """Columns of `SCORES`."""
        low, high = self.interval(seed)
        chance, p_value = self.chance, float("nan")
        if len(self.null) and len(self.groups):
            chance = float(np.nanmean(self.null))
            as_high = self.null >= self.value * (1 - 1e-9)  # equal but for rounding
            p_value = float((1 + as_high.sum()) / (1 + len(self.null)))
        return {
            "score": self.name,
            "value": self.value,
            "low": low,
            "high": high,
            "chance": chance,
            "p_value": p_value,
            "n": len(self.groups),
            "unit": self.unit,
            "n_groups": len(np.unique(self.groups)),
            "groups": self.grouped,
            "remark": None if len(self.groups) else self.remark,
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
    cells, features = run_features(results, model, settings, seed, progress)
    scores, replicates = score_tables(features, cells, settings.labels, seed)
    folder = results / "phenotypes" / model
    SCORES.write(scores, folder / "scores.csv")
    REPLICATES.write(replicates, folder / "replicates.csv")


def run_features(
    results: Path,
    model: str,
    settings: PhenotypesSettings,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[pd.DataFrame, dict[str, Array]]:
    """The cells that are scored, and their normalised features (N, d) by name, z the first.

    z too is normalised by the cells that were drawn: so all features have the same controls. Where
    all cells are drawn it is z as the run has it.
    """
    folder = results / "phenotypes" / model
    cells = CELLS.read(folder / "cells.parquet")
    counts = cell_counts(cells)
    n_wells = len(cells[["plate", "well"]].drop_duplicates())
    kept = evenly(cells, max(PROFILED_CELLS, PROFILED_PER_WELL * n_wells), seed)
    cells, counts = cells.iloc[kept].reset_index(drop=True), counts[kept]
    raw, _ = read_h5ad(folder / "cells.h5ad")
    pixels = pixel_features(results, cells, raw.shape[1], seed, progress)
    others = {name: unit(values) for name, values in ({"cell count": counts} | pixels).items()}
    return cells, {
        name: normalize_fully(values, cells, settings, seed).z
        for name, values in ({"z": raw[kept]} | others).items()
    }


def cell_counts(cells: pd.DataFrame) -> Array:
    """log2 of the number of cells in each cell's well (N, 1)."""
    return np.log2(
        cells.groupby(["plate", "well"])["cell_id"].transform("size").to_numpy(np.float64)
    )[:, None]


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
            found = label_scores(values, cells, label, seed)
            rows += [{"label": label, "features": name, **score.row(seed)} for score in found]
        table = replicate_table(values, cells, seed)
        parts.append(REPLICATES.validate(table.assign(features=name), f"replicates by {name}"))
        rows += [{"features": name, **score.row(seed)} for score in _of_replicates(table)]
    columns = [column.name for column in SCORES.columns]
    return (
        SCORES.validate(pd.DataFrame(rows).reindex(columns=columns), "the scores of this run"),
        pd.concat(parts, ignore_index=True),
    )


def label_scores(features: Array, cells: pd.DataFrame, label: str, seed: int) -> list[Score]:
    """How well normalised features (N, d) tell column `label` of `cells`, controls left out."""
    known = (~cells["control"] & cells[label].notna()).to_numpy()
    part = cells[known].reset_index(drop=True)
    part = part.assign(label=part[label].astype(str), treatment=part["treatment"].fillna(""))
    return [*_by_cell(features[known], part, seed), *_by_treatment(features[known], part, seed)]


def _by_cell(features: Array, cells: pd.DataFrame, seed: int) -> Iterator[Score]:
    """k-NN and linear probe on single cells, plates held out; wells, where plates are too few."""
    chosen = evenly(cells, PROBED_CELLS, seed, PROBED_PER_WELL)
    part = cells.iloc[chosen]
    for held_out in ("plates", "wells"):
        groups = part["plate"] if held_out == "plates" else part["plate"] + "/" + part["well"]
        in_two = groups.groupby(part["label"]).transform("nunique").to_numpy() > 1
        if part.loc[in_two, "label"].nunique() > 1:
            break
    else:
        in_two[:] = False
    rows = chosen[in_two]
    labels = cells["label"].iloc[rows].astype("category").cat.codes.to_numpy()
    names = groups[in_two].to_numpy(dtype=str)
    predicted = dict.fromkeys(("knn", "linear"), labels)
    if len(rows):
        if held_out == "plates":
            folds = grouped_folds(labels, names, min(5, len(np.unique(names))), seed)
        else:
            folds = nested_folds(labels, names, seed=seed)
        values = features[rows]
        metric = "cosine" if values.shape[1] > 1 else "euclidean"
        predicted["knn"] = knn_predictions(values, labels, folds, metric=metric)
        predicted["linear"] = linear_probe_predictions(values, labels, folds)
    chance = 1 / len(np.unique(labels)) if len(rows) else float("nan")
    remark = "no two labels that lie in two wells each"
    for name, found in predicted.items():
        yield Score(name, _accuracy(labels, found), names, "cells", held_out, remark, chance)


def _accuracy(labels: Labels, predicted: Labels) -> Callable[[NDArray[np.int64]], float]:
    return lambda rows: balanced_accuracy(labels[rows], predicted[rows])


def treatment_means(
    features: Array, cells: pd.DataFrame, keys: list[str]
) -> tuple[pd.DataFrame, Array]:
    """Profiles of each combination of `keys`, as `mean_of_wells` has them: keys, (M, d)."""
    groups = pd.DataFrame(features).groupby(
        [cells[k] for k in ["plate", "well", *keys]], dropna=False
    )
    wells, n_cells = groups.mean(), groups.size()
    about = wells.index.to_frame(index=False)
    means = mean_of_wells(
        wells.reset_index(drop=True), n_cells.reset_index(drop=True), [about[k] for k in keys]
    )
    return means.index.to_frame(index=False), means.to_numpy()


def _by_treatment(features: Array, cells: pd.DataFrame, seed: int) -> Iterator[Score]:
    """Treatments ask for their label among other compounds, and among those of other batches."""
    about, profiles = treatment_means(features, cells, [*TREATMENT, "label"])
    compounds, labels = (about[k].to_numpy(dtype=str) for k in ("treatment", "label"))
    asked = Retrieval(profiles, compounds)
    remark = "no label has two compounds"
    for name, ask in (("nsc", asked.nearest_right), ("map", asked.average_precision)):
        null = asked.chance(ask, labels, seed)
        yield Score.mean(name, ask(labels), compounds, remark, null=null)
    about, profiles = treatment_means(features, cells, [*TREATMENT, "label", "batch"])
    compounds, labels, batches = (
        about[k].to_numpy(dtype=str) for k in ("treatment", "label", "batch")
    )
    asked = Retrieval(profiles, compounds, batches)
    null = asked.chance(asked.nearest_right, labels, seed)
    remark = "no label has two compounds in different batches"
    yield Score.mean("nscb", asked.nearest_right(labels), compounds, remark, null=null)


def replicate_table(features: Array, cells: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How alike the wells of each treatment are; columns of `REPLICATES` but `features`."""
    keys = ["plate", "well", *TREATMENT, "control"]
    means = pd.DataFrame(features).groupby([cells[k] for k in keys], dropna=False).mean()
    wells, profiles = means.index.to_frame(index=False), means.to_numpy()
    control = wells["control"].to_numpy(dtype=bool)
    treated = wells[~control & wells["treatment"].notna()]
    code = treated.groupby(TREATMENT, dropna=False).ngroup().to_numpy()
    plates = treated["plate"].to_numpy(dtype=str)
    alike = correlations(profiles[treated.index])
    rows: list[dict[str, Any]] = []
    for number, members in treated.groupby(code, sort=False):
        n = len(members)
        row: dict[str, Any] = {name: members[name].iloc[0] for name in TREATMENT} | {"n_wells": n}
        rows.append(row)
        if n < 2:
            row["untested"] = "one well"
            continue
        own = np.flatnonzero(code == number)
        row["correlation"] = replicate_correlation(alike, own)
        unrelated = unrelated_correlations(alike, code, plates, own, seed)
        if len(unrelated):
            row["unrelated"] = float(np.median(unrelated))
            row["unrelated_95"] = float(np.quantile(unrelated, 0.95))
        row |= _activity(profiles, wells, control, members.index, seed)
    columns = [column.name for column in REPLICATES.columns if column.name != "features"]
    table = pd.DataFrame(rows).reindex(columns=columns)
    table["q_value"] = q_values(table["p_value"])
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
    untested = too_few(here[rows], plates[rows], two_sided=False)
    return row | ({"untested": untested} if untested else {"p_value": p_value})


def _of_replicates(table: pd.DataFrame) -> Iterator[Score]:
    """Scores over all treatments of one `replicate_table`."""
    compounds = table["treatment"].to_numpy(dtype=str)
    t = table[["correlation", "unrelated", "unrelated_95", "map", "chance", "q_value"]].astype(
        "float64"
    )
    known = t["correlation"].notna() & t["unrelated_95"].notna()
    agree = (t["correlation"] > t["unrelated_95"]).astype("float64").where(known)
    active = (t["q_value"] <= SIGNIFICANT).astype("float64").where(t["q_value"].notna())
    correlated = "no treatment has two wells, or features are single numbers"
    among_controls = "no treatment has two wells on plates with controls"
    for name, values, chance, remark in (
        ("replicate_correlation", t["correlation"], t["unrelated"].mean(), correlated),
        ("replicating_share", agree, 0.05, correlated),
        ("replicate_map", t["map"], t["chance"].mean(), among_controls),
        ("active_share", active, np.nan, "no treatment has the wells for a p-value of 0.05"),
    ):
        kept: Array = np.asarray(values, dtype=np.float64)
        yield Score.mean(name, kept, compounds, remark, chance=float(chance))
