"""Could a treatment's wells lie so far off by chance? Wells are exchanged within plates."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DRAWS = 9_999
"""Exchanges that are drawn: the smallest p-value that can be told is 1 / (1 + DRAWS)."""

LARGEST = 0.05
"""Where not even the rarest outcome has a p-value this small, nothing is tested."""


def arrangements(treated: NDArray[np.bool_], plates: NDArray[np.str_]) -> int:
    """In how many ways the labels treated (W,) can be dealt out anew within plates (W,)."""
    return math.prod(
        math.comb(int((plates == plate).sum()), int(treated[plates == plate].sum()))
        for plate in np.unique(plates[treated])
    )


def permutation_p_value(
    profiles: Array, treated: NDArray[np.bool_], plates: NDArray[np.str_], seed: int
) -> float:
    """How often wells exchanged with controls of their plate lie as far from these, 0 to 1.

    The distance is the length of the mean, over treated wells, of their profile minus the mean of
    their plate's controls. Wells are exchanged, never cells: cells of a well share more than their
    treatment. p = (1 + those as far) / (1 + DRAWS): never 0, and valid at any number of draws
    (Phipson & Smyth 2010).

    Parameters
    ----------
    profiles : (W, d), a row per well, treated ones and controls.
    treated, plates : (W,). Every plate with a treated well has a control.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((1 + DRAWS, len(treated)))
    n_treated = treated.sum()
    for plate in np.unique(plates[treated]):
        wells = np.flatnonzero(plates == plate)
        here = treated[wells]
        # The first row is what was done, the others are exchanges.
        dealt = np.vstack([here, rng.permuted(np.tile(here, (DRAWS, 1)), axis=1)])
        of_controls = here.sum() / (~here).sum()
        weights[:, wells] = np.where(dealt, 1.0, -of_controls) / n_treated
    distances = np.linalg.norm(weights @ profiles, axis=1)
    # Equal arrangements differ by rounding alone.
    as_far = distances[1:] >= distances[0] * (1 - 1e-9)
    return float((1 + as_far.sum()) / (1 + DRAWS))
