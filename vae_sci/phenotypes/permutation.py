"""Could it be chance? Wells are exchanged within plates, never cells.

Cells of a well share more than their treatment: as units they would make every difference count.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

DRAWS = 9_999
"""Exchanges that are drawn where there are more: no p-value is below 1 / (1 + DRAWS)."""

LARGEST = 0.05
"""Where not even the rarest outcome has a p-value this small, nothing is tested."""

SIGNIFICANT = 0.05
"""Largest q-value of what is taken for active or enriched."""

_BLOCK = 1_000


def arrangements(labels: NDArray[np.generic], plates: NDArray[np.str_]) -> int:
    """In how many ways the labels (W,) can be dealt out anew within plates (W,)."""
    ways = 1
    for plate in np.unique(plates):
        here = labels[plates == plate]
        ways *= math.factorial(len(here))
        for count in np.unique(here, return_counts=True)[1]:
            ways //= math.factorial(int(count))
    return ways


def too_few(
    labels: NDArray[np.generic], plates: NDArray[np.str_], two_sided: bool = True
) -> str | None:
    """Why wells with these labels cannot be tested, or None where they can.

    A two-sided statistic is the same when treated wells and controls all change places: with as
    many of both on every plate, the rarest outcome comes twice.
    """
    ways = arrangements(labels, plates)
    _, counts = np.unique(labels, return_counts=True)
    mirrored = two_sided and all(
        len(set(np.unique(labels[plates == plate], return_counts=True)[1])) == 1
        for plate in np.unique(plates)
    )
    least = (1 + (mirrored and len(counts) == 2)) / ways
    if least <= LARGEST:
        return None
    return f"{ways} ways to exchange its wells, p could not be below {least:.2g}"


def p_values(
    labels: Array, plates: NDArray[np.str_], measure: Callable[[Array], Array], seed: int
) -> Array:
    """How often labels (W,) dealt out anew within plates (W,) measure at least as much.

    `measure` takes labels (n, W) and returns statistics (n, …); p-values have the shape of one of
    them. Up to `DRAWS` arrangements all are measured, and p is exact. Of more, so many are drawn,
    and p = (1 + those at least as large) / (1 + DRAWS): never 0, and valid at any number of draws
    (Phipson & Smyth 2010).
    """
    observed = measure(labels[None])[0]
    # Equal arrangements differ by rounding alone.
    reached = observed - 1e-9 * np.abs(observed)
    every = arrangements(labels, plates) <= DRAWS
    blocks = _every(labels, plates) if every else _drawn(labels, plates, seed)
    as_large, n = np.zeros(np.shape(observed)), 0
    for dealt in blocks:
        as_large += (measure(dealt) >= reached).sum(axis=0)
        n += len(dealt)
    return np.asarray(as_large / n if every else (1 + as_large) / (1 + n))


def _every(labels: Array, plates: NDArray[np.str_]) -> Iterator[Array]:
    """All arrangements of the labels (W,) within plates, (n, W), in one block."""
    wells = [np.flatnonzero(plates == plate) for plate in np.unique(plates)]
    ways = [_distinct(labels[own]) for own in wells]
    dealt = np.empty((math.prod(map(len, ways)), len(labels)))
    for row, chosen in enumerate(itertools.product(*ways)):
        for own, values in zip(wells, chosen, strict=True):
            dealt[row, own] = values
    yield dealt


def _distinct(labels: Array) -> list[Array]:
    """The distinct orders of some labels (n,)."""
    found = [np.full(len(labels), np.nan)]
    for value, count in zip(*np.unique(labels, return_counts=True), strict=True):
        longer = []
        for partly in found:
            for places in itertools.combinations(np.flatnonzero(np.isnan(partly)), count):
                dealt = partly.copy()
                dealt[list(places)] = value
                longer.append(dealt)
        found = longer
    return found


def _drawn(labels: Array, plates: NDArray[np.str_], seed: int) -> Iterator[Array]:
    """`DRAWS` random arrangements of the labels (W,) within plates, (n, W), block by block."""
    rng = np.random.default_rng(seed)
    for start in range(0, DRAWS, _BLOCK):
        dealt = np.empty((min(_BLOCK, DRAWS - start), len(labels)))
        for plate in np.unique(plates):
            wells = np.flatnonzero(plates == plate)
            dealt[:, wells] = rng.permuted(np.tile(labels[wells], (len(dealt), 1)), axis=1)
        yield dealt


def q_values(found: pd.Series) -> pd.Series:
    """False discovery rates of all p-values there are (Benjamini & Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    result = pd.Series(np.nan, found.index)
    tested = found.notna()
    if tested.any():
        result[tested] = false_discovery_control(found[tested].to_numpy(dtype=np.float64))
    return result


def differences(treated: Array, plates: NDArray[np.str_]) -> Array:
    """Weights (n, W) that turn profiles (W, d) into treated wells minus controls of their plate.

    `treated` (n, W) is 1 for treated wells and 0 for controls; every plate has both.
    """
    weights = np.empty(treated.shape)
    for plate in np.unique(plates):
        wells = np.flatnonzero(plates == plate)
        n = treated[0, wells].sum()
        of_controls = n / (len(wells) - n)
        weights[:, wells] = np.where(treated[:, wells] == 1, 1.0, -of_controls)
    return weights / treated[0].sum()


def mahalanobis_metric(profiles: Array, plates: NDArray[np.str_]) -> Array:
    """Profiles (W, d) in which Euclidean distance is Mahalanobis distance between wells.

    The covariance is that of wells about the mean of their plate, shrunk (Ledoit & Wolf 2004).
    It does not look at which wells are treated, so that exchanging them leaves it as it is.
    """
    from sklearn.covariance import ledoit_wolf

    centred = profiles.copy()
    for plate in np.unique(plates):
        centred[plates == plate] -= centred[plates == plate].mean(axis=0)
    covariance, _ = ledoit_wolf(centred, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(centred @ vectors / np.sqrt(np.maximum(values, 1e-12)))


def distance_p_value(
    profiles: Array, treated: NDArray[np.bool_], plates: NDArray[np.str_], seed: int
) -> float:
    """p-value of the distance of treated wells from the controls of their plates, 0 to 1.

    The distance is the Mahalanobis length of the mean, over treated wells, of their profile minus
    the mean of their plate's controls.

    Parameters
    ----------
    profiles : (W, d), a row per well, treated ones and controls.
    treated, plates : (W,). Every plate has both.
    """
    metric = mahalanobis_metric(profiles, plates)

    def distance(dealt: Array) -> Array:
        return np.asarray(np.linalg.norm(differences(dealt, plates) @ metric, axis=1))

    return float(p_values(treated.astype(np.float64), plates, distance, seed))


def trend_p_value(positions: Array, ranks: Array, plates: NDArray[np.str_], seed: int) -> float:
    """p-value of positions (W,) that rise with ranks (W,) of the dose within plates; one-sided."""
    centred = positions.copy()
    for plate in np.unique(plates):
        centred[plates == plate] -= centred[plates == plate].mean()
    return float(p_values(ranks, plates, lambda dealt: np.asarray(dealt @ centred), seed))
