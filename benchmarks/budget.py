"""How many epochs fit into the minutes that a comparison gives each model."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from pathlib import Path

import pandas as pd

from vae_sci import algorithms
from vae_sci.config import ModelSettings, TrainingSettings
from vae_sci.contracts import HISTORY
from vae_sci.files import write_json
from vae_sci.training.loop import train
from vae_sci.training.stream import open_stream, read_tables

SHARE = 0.05  # of the minutes, beside them: how long the speed is measured
LONGEST = 20.0  # seconds of it
WARM_STEPS = 3  # not timed: memory is allocated, threads start


class _EnoughError(Exception):
    """Ends the short run."""


def epochs_for(
    minutes: float,
    results: Path,
    plates: list[str],
    settings: ModelSettings,
    training: TrainingSettings,
    seed: int,
    device: str = "auto",
) -> int:
    """Epochs that take `minutes` with these settings on this machine as busy as it is; at least 1.

    The schedule of the learning rate needs their number beforehand: it is taken from the speed of
    a short run of the same training, a tile of validation counted as one of training.
    """
    seconds = min(LONGEST, SHARE * 60 * minutes)
    times: list[float] = []

    def watch(_step: int, _total: int, _now: dict[str, float]) -> None:
        times.append(time.perf_counter())
        if len(times) > WARM_STEPS + 1 and times[-1] - times[WARM_STEPS] > seconds:
            raise _EnoughError

    trial = settings.model_copy(update={"name": f"{settings.name}-speed"})
    with contextlib.suppress(_EnoughError):
        endless = training.model_copy(update={"epochs": 10**6})
        train(results, plates, trial, endless, seed, device, on_step=watch)
    shutil.rmtree(results / "models" / trial.name)
    step = (times[-1] - times[WARM_STEPS]) / (len(times) - 1 - WARM_STEPS)
    tiles = open_stream(results, plates, "train")
    watched = open_stream(results, plates, "validation").n_tiles
    epoch = step * tiles.steps(training.batch_size) * (1 + watched / tiles.n_tiles)
    return max(1, int(60 * minutes / epoch))


def train_for(
    minutes: float,
    results: Path,
    plates: list[str],
    settings: ModelSettings,
    training: TrainingSettings,
    seed: int,
    device: str = "auto",
) -> pd.DataFrame:
    """Train `settings.name` for `minutes`, unless that was done before; returns its history.

    The number of epochs is kept beside the model with what it was measured for: a training that
    was cut off goes on with it.
    """
    folder = results / "models" / settings.name
    plan = folder / "budget.json"
    belongs_to = {
        "minutes": minutes,
        "data": sorted(read_tables(results, plates)["store_digest"].unique()),
        "algorithm": algorithms.TRAIN,
        "model": settings.model_dump(mode="json"),
        "training": training.model_dump(mode="json", exclude={"epochs"}),
        "seed": seed,
    }
    known = json.loads(plan.read_text()) if plan.is_file() else {}
    if {name: known.get(name) for name in belongs_to} != belongs_to:
        if folder.exists():
            shutil.rmtree(folder)
        epochs = epochs_for(minutes, results, plates, settings, training, seed, device)
        write_json(belongs_to | {"epochs": epochs}, plan)
        known = {"epochs": epochs}
    if not (folder / "model.json").is_file():
        chosen = training.model_copy(update={"epochs": known["epochs"]})
        train(results, plates, settings, chosen, seed, device)
    return HISTORY.read(folder / "history.parquet")
