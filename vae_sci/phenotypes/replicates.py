"""Do the wells of a treatment agree with each other, and stand apart from the controls?

Profiles are means of wells (W, d). Cells of a well share more than their treatment, so that wells
are compared, and exchanged, never cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vae_sci.phenotypes.scores import Labels, similarities

Array = NDArray[np.float64]

DRAWS = 1_999
"""Exchanges of wells, and groups of wells of different treatments, that are drawn."""

FEWEST_GROUPS = 100
"""Groups of unrelated wells that a percentile is read from, at least."""

_AT_A_TIME = 20_000_000
"""Places in ranked lists in memory at a time."""


def correlations(profiles: Array) -> Array:
    """Pearson correlation of wells (W, d) with each other, (W, W); 0 with one that does not vary.

    NaN where profiles are single numbers, which have no correlation.
    """
    if profiles.shape[1] < 2:
        return np.full((len(profiles), len(profiles)), np.nan)
    return similarities(profiles - profiles.mean(axis=1, keepdims=True))


def replicate_correlation(correlation: Array, own: NDArray[np.int64]) -> float:
    """Median `correlation` (W, W) of all pairs of a treatment's wells, two rows at least."""
    return float(_median_of_pairs(correlation, own[None])[0])


def unrelated_correlations(
    correlation: Array, treatments: Labels, plates: Labels, own: NDArray[np.int64], seed: int
) -> Array:
    """The same of groups of wells of different treatments, in place of the wells `own` of one.

    Each well is replaced by one of its own plate: wells of a plate are alike whatever was done to
    them, and replicates often share one. `treatments`, `plates` (W,). Up to `DRAWS` groups, those
    in which a treatment comes twice left out; of fewer wells where there are too few treatments on
    the plates, empty where not two are left.
    """
    rng = np.random.default_rng(seed)
    others = treatments != treatments[own[0]]
    choices = [np.flatnonzero(others & (plates == plates[well])) for well in rng.permutation(own)]
    choices = [wells for wells in choices if len(wells)]
    _, codes = np.unique(treatments, return_inverse=True)
    while len(choices) > 1:
        groups = np.column_stack([rng.choice(wells, DRAWS) for wells in choices])
        apart = (np.diff(np.sort(codes[groups], axis=1), axis=1) > 0).all(axis=1)
        if apart.sum() >= FEWEST_GROUPS:
            return _median_of_pairs(correlation, groups[apart])
        choices.pop()
    return np.empty(0)


def activity(
    profiles: Array, treated: NDArray[np.bool_], plates: Labels, seed: int
) -> tuple[float, float, float]:
    """How early a treatment's wells find each other among the controls: mAP, chance and p-value.

    Each treated well ranks all others, treated ones and controls, by similarity; its average
    precision is that of the treated ones, and their mean is the phenotypic activity of Kalinin et
    al. (2025, copairs). Chance and p-value, (1 + those as high) / (1 + DRAWS), come from wells
    that change places with controls of their own plate: other than for shuffled ranks, the null
    then knows that wells of a plate are alike, and that two wells rank each other.

    Parameters
    ----------
    profiles : (W, d), wells of one treatment, at least two, and the controls of their plates.
    treated, plates : (W,).
    """
    similarity = similarities(profiles)
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(1, len(order) + 1)[None], axis=1)
    rng = np.random.default_rng(seed)
    dealt = np.tile(treated, (1 + DRAWS, 1))
    for plate in np.unique(plates):
        here = np.flatnonzero(plates == plate)
        dealt[1:, here] = rng.permuted(dealt[1:, here], axis=1)
    n = int(treated.sum())
    wells = np.nonzero(dealt)[1].reshape(len(dealt), n)
    parts = []
    block = max(1, _AT_A_TIME // n**2)
    for part in np.array_split(wells, range(block, len(wells), block)):
        # The places of the others in each well's list; itself comes last. Down to the k-th of them
        # found, k are right.
        places = np.sort(place[part[:, :, None], part[:, None, :]], axis=2)[:, :, :-1]
        parts.append((np.arange(1, n) / places).mean(axis=(1, 2)))
    found = np.concatenate(parts)
    # Equal arrangements differ by rounding alone.
    as_high = found[1:] >= found[0] * (1 - 1e-9)
    return float(found[0]), float(found[1:].mean()), float((1 + as_high.sum()) / (1 + DRAWS))


def _median_of_pairs(matrix: Array, groups: NDArray[np.int64]) -> Array:
    """Median of the entries of all pairs of each group (G, n) of rows, (G,)."""
    one, other = np.triu_indices(groups.shape[1], 1)
    return np.asarray(np.median(matrix[groups[:, one], groups[:, other]], axis=1))
