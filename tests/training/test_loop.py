"""Training as a whole, on the tiny simulated screen: resuming, failing, publishing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from safetensors import safe_open

from vae_sci.config import ModelSettings, TrainingSettings
from vae_sci.contracts import HISTORY, TILES
from vae_sci.diagnostics.held_out import open_held_out
from vae_sci.diagnostics.nuisance import nuisance_sensitivity
from vae_sci.errors import InputError, TrainingError
from vae_sci.training.loop import train

pytestmark = pytest.mark.slow
PLATES = ["tiny1", "tiny2"]


@pytest.fixture
def results(tiny_results: Path, tmp_path: Path) -> Path:
    """A results folder with the tiny screen's tiles and nothing else."""
    shutil.copytree(tiny_results / "tiles", tmp_path / "tiles")
    return tmp_path


def fit(results: Path, name: str = "vae", epochs: int = 3, on_epoch=None, **changes) -> Path:
    model = ModelSettings(name=name, latent_dim=4, widths=(8, 8, 8, 8))
    training = TrainingSettings(epochs=epochs, batch_size=16, **changes)
    train(results, PLATES, model, training, seed=0, device="cpu", on_epoch=on_epoch)
    return results / "models" / name


def weights(folder: Path) -> dict[str, list[float]]:
    with safe_open(folder / "model.safetensors", framework="np") as file:
        return {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118


class KilledError(Exception):
    pass


def test_a_run_cut_off_after_any_epoch_ends_with_the_same_weights(results: Path):
    unbroken = weights(fit(results, "vae"))
    history = HISTORY.read(results / "models" / "vae" / "history.parquet")
    shutil.rmtree(results / "models")

    for epoch in (1, 2):

        def kill(row: dict[str, float], epoch: int = epoch) -> None:
            if row["epoch"] == epoch:
                raise KilledError

        with pytest.raises(KilledError):
            fit(results, "vae", on_epoch=kill)
    assert not (results / "models" / "vae" / "model.json").exists()
    assert weights(fit(results, "vae")) == unbroken
    resumed = HISTORY.read(results / "models" / "vae" / "history.parquet")
    same = [c for c in history if c not in ("tiles_per_second", "data_wait")]
    assert resumed[same].equals(history[same])
    assert [p.name for p in (results / "models" / "vae").glob(".training*")] == []


def test_consistency_makes_z_move_less_with_shifts(results: Path):
    found = []
    for name, weight in (("free", 0.0), ("tied", 1e6)):
        fit(results, name, consistency=weight, any_angle=True)
        held = open_held_out(results, PLATES, name, 500, seed=0, device="cpu")
        found.append(nuisance_sensitivity(held, seed=0)["shifts"])
    free, tied = found
    assert 0 < tied < 0.9 * free


def test_other_settings_do_not_take_up_anothers_state(results: Path):
    def kill(row: dict[str, float]) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        fit(results, on_epoch=kill)
    epochs = []
    fit(results, learning_rate=5e-4, on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == [1, 2, 3]


def test_other_cells_kept_do_not_take_up_anothers_state(results: Path):
    """A changed limit of `quality` keeps other rows of the same store: the state is not of them."""
    path = results / "tiles" / "tiny1.parquet"
    kept = TILES.read(path)

    def epochs_after(cells: pd.DataFrame) -> list[float]:
        """Epochs that remain for these cells, of three, after one on all `kept` of them."""
        shutil.rmtree(results / "models", ignore_errors=True)
        TILES.write(kept, path)
        with pytest.raises(KilledError):
            fit(results, on_epoch=kill)
        TILES.write(cells, path)
        epochs: list[float] = []
        fit(results, on_epoch=lambda row: epochs.append(row["epoch"]))
        return epochs

    def kill(row: dict[str, float]) -> None:
        raise KilledError

    # One of the validation cells: neither wells nor training cells change.
    watched = kept.index[kept["split"] == "validation"]
    assert kept.loc[watched, "well"].duplicated().any()
    assert epochs_after(kept.drop(watched[-1])) == [1, 2, 3]
    assert epochs_after(kept) == [2, 3]


def test_training_that_diverges_stops_and_names_the_likelihood(results: Path):
    with pytest.raises(TrainingError, match="logistic_mixture"):
        fit(results, epochs=20, learning_rate=1e8, warmup=0.0, gradient_clip=1e30)


def test_the_card_says_what_the_model_was_trained_on(results: Path):
    card = json.loads((fit(results, epochs=1) / "model.json").read_text())
    assert card["channels"] == ["nucleus", "mitochondria", "fibres"]
    assert card["grey_levels"]["highest"] == [4095] * 3
    assert set(card["data"]["stores"]) == set(PLATES)
    assert len(card["novelty_reference"]) == 101
    assert card["novelty_reference"] == sorted(card["novelty_reference"])


def test_a_device_that_is_not_there_is_refused(results: Path):
    with pytest.raises(InputError, match="auto, cpu or cuda"):
        train(results, PLATES, ModelSettings(), TrainingSettings(), seed=0, device="tpu")
