"""How well labels can be read from z by cells, wells or plates that were held out.

All functions take z (N, d) with a label per row, and say in `folds` (N,), numbered from 0, which
rows are predicted from which others: a fold's rows are predicted from all other folds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[Any]

RECOVERY_CELLS = 5_000
"""Most cells on which `recovery` is measured."""

PERMUTATIONS = 999
"""Times that labels are dealt out anew: the smallest p-value is 1 / (1 + PERMUTATIONS)."""

_RANKED = 1_000_000_000
"""Entries of ranked lists that are looked through for one null."""

WIDE = 100
"""Features from which on probes are fitted without the Hessian, of side features × classes."""


def grouped_folds(labels: Labels, groups: Labels, n_folds: int = 5, seed: int = 0) -> Labels:
    """Fold (N,) of each row: groups (plates) whole, classes spread as evenly as that allows."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, rows) in enumerate(splitter.split(labels, labels, groups)):
            folds[rows] = number
    return folds


def nested_folds(labels: Labels, groups: Labels, n_folds: int = 5, seed: int = 0) -> Labels:
    """Fold (N,) of each row: groups (wells) whole, the groups of each class dealt out in turn.

    For groups that lie within one class each; a class of two groups is then in two folds.
    """
    rng = np.random.default_rng(seed)
    folds = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        names, group = np.unique(groups[rows], return_inverse=True)
        folds[rows] = ((rng.permutation(len(names)) + rng.integers(n_folds)) % n_folds)[group]
    return folds


def balanced_accuracy(labels: Labels, predictions: Labels) -> float:
    """Mean over the classes in `labels` of the share of their rows that are predicted right."""
    _, codes = np.unique(labels, return_inverse=True)
    return float(np.mean(np.bincount(codes, labels == predictions) / np.bincount(codes)))


def knn_predictions(
    z: Array, labels: Labels, folds: Labels, k: int = 10, metric: str = "cosine"
) -> Labels:
    """Label (N,) by the majority of the k nearest rows of other folds."""
    from sklearn.neighbors import KNeighborsClassifier

    predictions = np.empty_like(labels)
    for train, test in _splits(folds):
        model = KNeighborsClassifier(min(k, int(train.sum())), metric=metric, algorithm="brute")
        predictions[test] = model.fit(z[train], labels[train]).predict(z[test])
    return predictions


def knn_balanced_accuracy(
    z: Array, labels: Labels, folds: Labels, k: int = 10, metric: str = "cosine"
) -> float:
    """Balanced accuracy of `knn_predictions`; chance is 1 / number of classes."""
    return balanced_accuracy(labels, knn_predictions(z, labels, folds, k, metric))


def linear_probe_predictions(z: Array, labels: Labels, folds: Labels) -> Labels:
    """Label (N,) by logistic regression on the standardised rows of other folds.

    L2 penalty with C = 1, classes weighted alike; standardised by the training rows.
    """
    predictions = np.empty_like(labels)
    for train, test in _splits(folds):
        model = _probe(z.shape[1]).fit(z[train], labels[train])
        predictions[test] = model.predict(z[test])
    return predictions


def linear_probe_balanced_accuracy(z: Array, labels: Labels, folds: Labels) -> float:
    """Balanced accuracy of `linear_probe_predictions`; chance is 1 / number of classes."""
    return balanced_accuracy(labels, linear_probe_predictions(z, labels, folds))


def probe_auroc(
    z: Array, is_treated: NDArray[np.bool_], groups: Labels, folds: int = 5, seed: int = 0
) -> float:
    """Area under the ROC of a linear probe for treated rows against the rest, on held-out groups.

    Groups (wells) are of one class each and never in two folds. Pairs of a treated and a control
    row are counted within folds only, since the probes of different folds have no common scale
    (pooling them pulls the null below 0.5: Airola et al. 2011). NaN with fewer than two groups in
    either class.
    """
    from scipy.stats import mannwhitneyu

    n_groups = min(len(np.unique(groups[is_treated])), len(np.unique(groups[~is_treated])))
    if n_groups < 2:
        return float("nan")
    right = pairs = 0.0
    for train, test in _splits(nested_folds(is_treated, groups, min(folds, n_groups), seed)):
        model = _probe(z.shape[1]).fit(z[train], is_treated[train])
        score = model.decision_function(z[test])
        treated = is_treated[test]
        right += mannwhitneyu(score[treated], score[~treated]).statistic
        pairs += treated.sum() * (~treated).sum()
    return float(right / pairs)


def similarities(profiles: Array) -> Array:
    """How alike profiles (N, d) are to each other (N, N), larger is more alike.

    Cosine; of single numbers (d = 1), whose cosine knows their sign alone, minus their distance.
    """
    if profiles.shape[1] == 1:
        return np.asarray(-np.abs(profiles - profiles.T))
    unit = profiles / np.maximum(np.linalg.norm(profiles, axis=1, keepdims=True), 1e-12)
    return np.asarray(unit @ unit.T)


class Retrieval:
    """Every profile asks for others of its label, of another compound (and batch, where given).

    `profiles` (N, d) are means of treatments (compound and concentration, and batch).
    """

    def __init__(self, profiles: Array, compounds: Labels, batches: Labels | None = None) -> None:
        barred = compounds[:, None] == compounds
        if batches is not None:
            barred = barred | (batches[:, None] == batches)
        similarity = np.where(barred, -np.inf, similarities(profiles))
        self.compounds = compounds
        self.order = np.argsort(-similarity, axis=1, kind="stable")
        """Profiles by falling similarity to each (N, N), those it may not find last."""
        self.allowed = ~np.take_along_axis(barred, self.order, axis=1)

    def nearest_right(self, labels: Labels) -> Array:
        """1 where the nearest has the same of `labels` (N,), 0 where not, (N,).

        NaN where none that may be found has it. Without batches the mean is NSC, the accuracy of
        not-same-compound (Ljosa et al. 2013), with them NSCB (Ando et al. 2017).
        """
        right = self._right(labels)
        return np.where(right.any(axis=1), right[:, :1].any(axis=1), np.nan)

    def average_precision(self, labels: Labels) -> Array:
        """How early those with the same of `labels` (N,) come, (N,).

        Of the profiles that may be found, ranked by similarity: the mean, over those with the same
        label, of the share of that label down to them. 1 where they come first, NaN where there
        are none. The mean over profiles is mAP (Kalinin et al. 2025, copairs).
        """
        return ranked_precision(self._right(labels))

    def chance(
        self, score: Callable[[Labels], Array], labels: Labels, seed: int, n: int = PERMUTATIONS
    ) -> Array:
        """Mean of `score` (a method above) when labels are dealt out anew to compounds, (n,).

        A compound's doses and batches keep one label. Each label keeps its number of compounds.
        Of more than 1,000 profiles fewer than n are drawn, at least 99.
        """
        n = min(n, max(99, _RANKED // max(1, len(labels)) ** 2))
        rng = np.random.default_rng(seed)
        _, codes = np.unique(labels, return_inverse=True)
        units, unit_of = np.unique(np.stack([self.compounds, labels]), axis=1, return_inverse=True)
        label_of = np.empty(units.shape[1], dtype=codes.dtype)
        label_of[unit_of.ravel()] = codes
        drawn = (score(rng.permutation(label_of)[unit_of.ravel()]) for _ in range(n))
        return np.array([np.nan if np.isnan(s).all() else np.nanmean(s) for s in drawn])

    def _right(self, labels: Labels) -> NDArray[np.bool_]:
        return np.asarray((labels[self.order] == labels[:, None]) & self.allowed)


def ranked_precision(right: NDArray[np.bool_]) -> Array:
    """Average precision (…) of ranked lists `right` (…, N), the first found first.

    Lists may end in entries that are not candidates, as long as these are false. NaN where nothing
    is right.
    """
    precision = np.cumsum(right, axis=-1) / np.arange(1, right.shape[-1] + 1)
    number = right.sum(axis=-1)
    total = np.where(right, precision, 0).sum(axis=-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    groups: Labels,
    n: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of `statistic(rows)` over resamples of whole groups (Efron 1979)."""
    rng = np.random.default_rng(seed)
    _, codes = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    draws = rng.integers(len(members), size=(n, len(members)))
    drawn = [statistic(np.concatenate([members[g] for g in draw])) for draw in draws]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def recovery(
    features: dict[str, Array],
    labels: Labels,
    groups: Labels,
    among: NDArray[np.bool_],
    seed: int,
) -> dict[str, float | int | None]:
    """k-NN balanced accuracy of `labels` from each of `features` (N, d), groups held out.

    On at most `RECOVERY_CELLS` rows of those `among` (N,) which it asks, drawn by `seed`; labels
    found in one group alone are left out. With fewer than two labels the figures are None.
    """
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(among))[:RECOVERY_CELLS]
    rows = np.sort(drawn)
    pairs = np.unique(np.stack([labels[rows], groups[rows]]), axis=1)
    names, n_groups = np.unique(pairs[0], return_counts=True)
    names = names[n_groups >= 2]
    rows = rows[np.isin(labels[rows], names)]
    result: dict[str, float | int | None] = {"n_cells": len(rows), "n_labels": len(names)}
    if len(names) < 2:
        return result | dict.fromkeys([*features, "chance"])
    nested = len(np.unique(pairs[1])) == pairs.shape[1]  # every group (well) within one label
    folds = (
        nested_folds(labels[rows], groups[rows], seed=seed)
        if nested
        else grouped_folds(labels[rows], groups[rows], min(5, len(np.unique(groups[rows]))), seed)
    )
    scores = {
        name: knn_balanced_accuracy(z[rows], labels[rows], folds) for name, z in features.items()
    }
    return result | scores | {"chance": 1 / len(names)}


def _splits(folds: Labels) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    for number in np.unique(folds):
        yield folds != number, folds == number


def _probe(n_features: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    solver = "newton-cholesky" if n_features < WIDE else "lbfgs"
    model = LogisticRegression(class_weight="balanced", solver=solver, max_iter=1000)
    return make_pipeline(StandardScaler(), model)
