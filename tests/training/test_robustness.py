"""No tile makes a step that is not finite, and a step that is not finite does no harm."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_forward_hook

from vae_sci.config import (
    ImagesSettings,
    LikelihoodSettings,
    ModelSettings,
    PlateRow,
    QualitySettings,
    TilesSettings,
    TrainingSettings,
)
from vae_sci.contracts import HISTORY, TILES
from vae_sci.errors import TrainingError
from vae_sci.model.checkpoint import load_model
from vae_sci.model.decoder import Decoded, Decoder
from vae_sci.tiles.make import make_tiles
from vae_sci.tiles.quality import select_cells
from vae_sci.training.loop import SKIPS_ALLOWED, EpochWatch, train
from vae_sci.training.stream import open_stream

pytestmark = pytest.mark.slow
SIZE, BATCH, CELLS = 16, 8, 48
FAMILIES = get_args(LikelihoodSettings.model_fields["name"].annotation)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate of awkward tiles: saturated, empty, constant, noise alone, one channel of each."""
    folder = tmp_path_factory.mktemp("awkward")
    random = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    cell = 80 + 900 * np.exp(-(y**2 + x**2) / 20)
    tiles = random.poisson(np.broadcast_to(cell, (CELLS, 2, SIZE, SIZE))).astype(float)
    tiles[0::6] = 4095
    tiles[1::6] = 0
    tiles[2::6] = 300
    tiles[3::6] = random.integers(0, 4096, tiles[3::6].shape)
    tiles[4::6, 0] = 4095
    tiles[4::6, 1] = 0
    tifffile.imwrite(
        folder / "a.tif", tiles.clip(0, 4095).astype(np.uint16), ome=True, metadata={"axes": "TCYX"}
    )
    wells = [f"A{1 + k // 6:02d}" for k in range(CELLS)]
    table = pd.DataFrame({"stack": "a.tif", "index": range(CELLS), "well": wells})
    table.to_csv(folder / "tiles.csv", index=False)
    plate = PlateRow(plate="P", kind="tiles", table=str(folder / "tiles.csv"))
    results = folder / "results"
    make_tiles(plate, folder / "fields", TilesSettings(size=SIZE), ImagesSettings(), 0, results)
    select_cells(results, "P", QualitySettings(**dict.fromkeys(QualitySettings.model_fields)))
    path = results / TILES.path.format(plate="P")
    TILES.write(TILES.read(path).assign(split="train"), path)
    return results


@pytest.fixture
def results(prepared: Path, tmp_path: Path) -> Path:
    """The same tiles in a folder of the test's own, for models."""
    (tmp_path / "tiles").symlink_to(prepared / "tiles")
    return tmp_path


def fit(
    results: Path,
    epochs: int,
    likelihood: str = "logistic_mixture",
    skip: str = "ladder",
    on_epoch: EpochWatch | None = None,
) -> pd.DataFrame:
    calibration = results / "calibration.json"
    numbers = {"gain": 1.0, "line_constant": 4.0, "offset": 0.0, "read_noise": 2.0}
    one = str({name: {"value": value} for name, value in numbers.items()}).replace("'", '"')
    calibration.write_text(f'{{"channels": [{one}, {one}]}}')
    model = ModelSettings.model_validate(
        {
            "latent_dim": 4,
            "widths": [8, 8],
            "decoder": {"skip": skip, "skip_channels": [2, 2]},
            "likelihood": {"name": likelihood, "calibration": str(calibration)},
        }
    )
    training = TrainingSettings(epochs=epochs, batch_size=BATCH, view_weight=10)
    train(results, ["P"], model, training, seed=0, device="cpu", on_epoch=on_epoch)
    return HISTORY.read(results / "models" / "vae" / "history.parquet")


@pytest.mark.parametrize("skip", ["none", "latent", "ladder"])
@pytest.mark.parametrize("likelihood", FAMILIES)
def test_300_steps_on_awkward_tiles_are_all_finite(results: Path, likelihood: str, skip: str):
    history = fit(results, 50, likelihood, skip)
    assert history["step"].iloc[-1] == 300
    assert history["skipped_steps"].sum() == 0
    assert np.isfinite(history["train_bits"]).all()
    assert history["train_bits"].iloc[-1] < history["train_bits"].iloc[0]


@contextmanager
def poisoned(steps: set[int] | None, rows: slice, channel: slice) -> Iterator[None]:
    """The decoder's numbers are NaN in the training steps given (None: all of them)."""
    seen = 0

    def hook(module: torch.nn.Module, _: object, made: object) -> Decoded | None:
        nonlocal seen
        if not isinstance(module, Decoder) or not torch.is_grad_enabled():
            return None
        assert isinstance(made, Decoded)
        seen += 1
        if steps is not None and seen - 1 not in steps:
            return None
        params = made.params.unflatten(1, (2, -1)).clone()
        params[rows, channel] = float("nan")
        return dataclasses.replace(made, params=params.flatten(1, 2))

    handle = register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def test_a_step_that_is_not_finite_is_left_out_and_counted(results: Path):
    with poisoned({0, 7, 8}, slice(2, 3), slice(None)):
        history = fit(results, 3)
    assert history["skipped_steps"].tolist() == [1, 2, 0]
    model, _ = load_model(results / "models" / "vae")
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_a_step_that_is_left_out_changes_nothing(results: Path):
    """An epoch of nothing else leaves weights, their average and the optimiser as they were."""

    def cut_off_after_an_epoch() -> dict[str, torch.Tensor]:
        with pytest.raises(KeyboardInterrupt):
            fit(results, 9, on_epoch=interrupt)
        (state,) = (results / "models" / "vae").glob(".training-*.safetensors")
        return load_file(state)

    def interrupt(row: dict[str, float]) -> None:
        raise KeyboardInterrupt

    before = cut_off_after_an_epoch()
    with poisoned(None, slice(0, 1), slice(1, 2)):
        after = cut_off_after_an_epoch()
    assert {name.split(".")[0] for name in before} == {"model", "average", "optimizer"}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    healthy = cut_off_after_an_epoch()
    assert all(value.isfinite().all() for value in healthy.values())
    assert not any(
        torch.equal(after[name], healthy[name]) for name in after if name.endswith(".step")
    )


def test_when_it_persists_the_run_stops_and_names_what_caused_it(results: Path):
    with (
        poisoned(None, slice(3, 4), slice(1, 2)),
        pytest.raises(TrainingError) as error,
    ):
        fit(results, 50, "laplace")
    # The step that was one too many: which cell stood in its fourth place?
    epoch, step = divmod(SKIPS_ALLOWED, CELLS // BATCH)
    batches = list(open_stream(results, ["P"], "train").shuffled(BATCH, (0, epoch)))
    table = TILES.read(results / TILES.path.format(plate="P")).set_index("tile")
    cell = table.loc[int(batches[step].tile[3]), "cell_id"]
    assert "laplace" in error.value.found
    assert "channels 2" in error.value.found
    assert error.value.found.endswith(f"cells {cell}")
