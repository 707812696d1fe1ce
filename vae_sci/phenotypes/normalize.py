"""z in units of the control cells: the same cells on every plate should get the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_sci.config import PhenotypesSettings
from vae_sci.errors import InputError, SettingsError
from vae_sci.phenotypes.scores import recovery

Array = NDArray[np.float64]
Level = Literal["plate", "batch", "screen", "all", "none"]

FLOOR = 0.1
"""Smallest standard deviation of z that is scaled up to 1, in units of the prior's sd.

A dimension whose posterior means vary by less (variance 0.01) is not used by the model (the
active units of Burda et al. 2016); scaled to 1 it would fill the distances with noise.
"""

PER_DIMENSION = 10
"""Cells per dimension from which on a covariance is taken as it is, without shrinkage."""


def standardize(z: Array, reference: Array, floor: float = FLOOR) -> Array:
    """z (N, d) with each dimension at mean 0 and sd 1 over `reference` (M, d).

    A dimension whose reference sd lies below `floor` is divided by `floor`.
    """
    return (z - reference.mean(axis=0)) / np.maximum(reference.std(axis=0), floor)


def whiten(z: Array, reference: Array, floor: float = FLOOR) -> Array:
    """z (N, d) rotated back after scaling so that `reference` (M, d) has covariance I (ZCA).

    With at least `PER_DIMENSION` cells per dimension the covariance is that of `reference` itself;
    with fewer it is the shrunk estimate of Ledoit & Wolf (2004), since directions in which few
    cells happen not to differ would be blown up. Eigenvalues below `floor`² are raised to it. ZCA
    keeps each new dimension next to the old one of the same number (Kessy et al. 2018).
    """
    from sklearn.covariance import empirical_covariance, ledoit_wolf

    centre = reference.mean(axis=0)
    if len(reference) >= PER_DIMENSION * reference.shape[1]:
        covariance = empirical_covariance(reference - centre, assume_centered=True)
    else:
        covariance, _ = ledoit_wolf(reference - centre, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    scale = np.maximum(np.sqrt(np.maximum(values, 0)), floor)
    return (z - centre) @ (vectors / scale) @ vectors.T


METHODS: dict[str, Callable[[Array, Array, float], Array]] = {
    "standardize": standardize,
    "whiten": whiten,
}


def reference_cells(cells: pd.DataFrame, settings: PhenotypesSettings) -> NDArray[np.bool_]:
    """Which cells (N,) z is measured against: `settings.reference`.

    Raises `SettingsError` where it names no treatment of the screen.
    """
    if settings.reference is None:
        return cells["control"].to_numpy(dtype=bool)
    chosen = (cells["treatment"] == settings.reference).fillna(False).to_numpy(dtype=bool)
    if not chosen.any():
        names = sorted(cells["treatment"].dropna().unique())
        raise SettingsError(
            required=f"phenotypes.reference: a treatment of the screen: {', '.join(names[:20])}",
            found=f"'{settings.reference}'",
            action="correct the name, or leave the key out to take the control wells",
        )
    return chosen


def enough_controls(controls: pd.DataFrame, settings: PhenotypesSettings) -> bool:
    """Whether these control cells (columns plate, well) can stand for a population."""
    wells = len(controls[["plate", "well"]].drop_duplicates())
    return len(controls) >= settings.min_control_cells and wells >= settings.min_control_wells


def normalize(
    z: Array, cells: pd.DataFrame, settings: PhenotypesSettings, floor: float = FLOOR
) -> tuple[Array, NDArray[np.object_], list[str]]:
    """z (N, d) against the controls of each cell's plate, or of the next level that has enough.

    `cells` has a row per row of z, with columns plate, batch, well, treatment and control. Controls
    are the cells of `reference_cells`. The levels are plate, batch, screen, and, where the whole
    screen has too few controls, all: every cell.

    Returns the normalised z, the level used for each row, and a warning for each level that was
    fallen back to.
    """
    if settings.normalization == "none":
        return z.copy(), np.full(len(z), "none", dtype=object), []
    method = METHODS[settings.normalization]
    control = reference_cells(cells, settings)
    plates, batches = cells["plate"].to_numpy(), cells["batch"].to_numpy()
    result = np.empty_like(z)
    levels = np.empty(len(z), dtype=object)
    fallen: dict[str, list[str]] = {}
    for plate in pd.unique(plates):
        here = plates == plate
        level, reference = _reference(cells, control, here, batches == batches[here][0], settings)
        result[here] = method(z[here], z[reference], floor)
        levels[here] = level
        if level != "plate":
            own = cells[here & control]
            fallen.setdefault(level, []).append(
                f"{plate} ({len(own)} cells in {own['well'].nunique()} wells)"
            )
    return result, levels, [_warning(level, names, settings) for level, names in fallen.items()]


class Normalized(NamedTuple):
    """z as the tables have it, and how it came to be."""

    z: Array
    levels: NDArray[np.object_]
    """Whose controls each row was measured by."""
    warnings: list[str]
    steps: dict[str, Array]
    """z after each step, by name."""


def normalize_fully(
    z: Array, cells: pd.DataFrame, settings: PhenotypesSettings, seed: int
) -> Normalized:
    """z (N, d) after all steps that `settings` ask for; arguments and errors as of the steps."""
    done, levels, warnings = normalize(z, cells, settings)
    steps = {"raw": z, settings.normalization: done}
    if settings.harmony:
        moved = harmonize(done, cells["plate"].to_numpy(dtype=str), seed)
        # Once more, so that z is in units of the controls again.
        done, levels, _ = normalize(moved, cells, settings)
        steps["harmony"] = done
    return Normalized(done, levels, warnings, steps)


def harmonize(z: Array, plates: NDArray[np.str_], seed: int) -> Array:
    """z (N, d) with soft clusters of cells moved together across plates (Korsunsky et al. 2019).

    It takes every difference between plates for technical: where plates carry other treatments,
    what these did may go as well. The table `NORMALIZATION` tells.

    Raises `InputError` where harmonypy is not installed.
    """
    try:
        from harmonypy import run_harmony
    except ModuleNotFoundError:
        raise InputError(
            required="the package harmonypy, for phenotypes.harmony",
            found="it is not installed",
            action="pip install vae_sci[harmony], or set phenotypes.harmony to false",
        ) from None
    done = run_harmony(z, {"plate": plates}, "plate", random_state=seed, verbose=False, ncores=1)
    return np.asarray(done.result(), dtype=np.float64).reshape(z.shape)


def normalization_table(steps: dict[str, Array], cells: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table `NORMALIZATION` from z (N, d) after each step, by name, and the cells' columns."""
    wells = (cells["plate"] + "/" + cells["well"]).to_numpy(dtype=str)
    plates = cells["plate"].to_numpy(dtype=str)
    control = cells["control"].to_numpy(dtype=bool)
    every = np.ones(len(cells), dtype=bool)
    treatments = cells["treatment"].fillna("").to_numpy(dtype=str)
    treated = cells["treatment"].notna().to_numpy()
    # Treatments are told from other plates where they lie on several: on its own plate a treatment
    # would be told by the plate effect too, and to remove that would look like a loss.
    on_plates = pd.Series(plates[treated]).groupby(treatments[treated]).nunique()
    apart = plates if (on_plates > 1).sum() > 1 else wells
    targets = {
        "plate of controls": (plates, wells, control),
        "plate of all cells": (plates, wells, every),
        "treatment": (treatments, apart, treated),
    }
    rows = []
    for target, (labels, groups, chosen) in targets.items():
        found = recovery(steps, labels, groups, chosen, seed)
        about = {"chance": found["chance"], "n_cells": found["n_cells"]}
        about["n_labels"] = found["n_labels"]
        rows += [{"step": s, "target": target, "accuracy": found[s], **about} for s in steps]
    return pd.DataFrame(rows)


def normalize_new(
    new: Array, plate: str, z: Array, cells: pd.DataFrame, settings: PhenotypesSettings
) -> Array:
    """Cells that are not of the screen (M, d), normalised as cells of one of its plates are.

    z (N, d), cells : as for `normalize`, of the whole screen. They are no controls, so that what
    they are measured by stays what it was, but where a screen without controls takes all cells.

    Raises `InputError` as `refuse_harmony`.
    """
    refuse_harmony(settings)
    batch = cells.loc[cells["plate"] == plate, "batch"].iloc[0]
    about = {"plate": plate, "well": "", "batch": batch, "treatment": None, "control": False}
    both = pd.concat(
        [cells[list(about)], pd.DataFrame(about, index=range(len(new)))], ignore_index=True
    )
    return normalize(np.concatenate([z, new]), both, settings)[0][len(z) :]


def refuse_harmony(settings: PhenotypesSettings) -> None:
    """Raise `InputError` where Harmony moved the plates: cells from outside cannot follow."""
    if settings.harmony:
        raise InputError(
            required="a run whose z depends on each plate's controls alone",
            found="phenotypes.harmony: it moved the plates of the run onto each other",
            action="make the cells a plate of the run and run again, or switch Harmony off",
        )


def _reference(
    cells: pd.DataFrame,
    control: NDArray[np.bool_],
    on_plate: NDArray[np.bool_],
    in_batch: NDArray[np.bool_],
    settings: PhenotypesSettings,
) -> tuple[Level, NDArray[np.bool_]]:
    """The narrowest level with enough control cells, and which rows they are."""
    choices: tuple[tuple[Level, NDArray[np.bool_]], ...] = (
        ("plate", on_plate & control),
        ("batch", in_batch & control),
        ("screen", control),
    )
    for level, rows in choices:
        if enough_controls(cells[rows], settings):
            return level, rows
    return "all", np.ones(len(cells), dtype=bool)


def _warning(level: str, plates: list[str], settings: PhenotypesSettings) -> str:
    by = "all cells, treated ones too" if level == "all" else f"the controls of their {level}"
    return (
        f"z normalised by {by}, since these plates have fewer than {settings.min_control_cells} "
        f"control cells or {settings.min_control_wells} control wells: {', '.join(plates)}; "
        "differences between plates then remain in z"
    )
