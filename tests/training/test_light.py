"""Uneven light: the model is told of it, and z does not tell where in its field a cell lies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
import zarr
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score

from vae_sci.config import (
    EmbeddingSettings,
    ImagesSettings,
    ModelSettings,
    PlateRow,
    QualitySettings,
    TilesSettings,
    TrainingSettings,
)
from vae_sci.contracts import EMBEDDINGS, TILES
from vae_sci.diagnostics.held_out import open_held_out
from vae_sci.diagnostics.make import _bits
from vae_sci.embedding.encode import embed_plate
from vae_sci.embedding.generate import reconstruct
from vae_sci.images.flat_field import FlatField
from vae_sci.likelihoods import GreyLevels, Light
from vae_sci.model.checkpoint import load_model
from vae_sci.model.vae import VAE, Scaling
from vae_sci.tiles.crop import crop
from vae_sci.tiles.light import write_light
from vae_sci.tiles.make import make_tiles
from vae_sci.tiles.quality import select_cells
from vae_sci.tiles.store import read_rows, store_array
from vae_sci.training import loop
from vae_sci.training.augment import augment, draw_moves
from vae_sci.training.scaling import measure
from vae_sci.training.stream import Source, TileStream, open_stream

FIELD, SIZE, CELLS, OFFSET = 256, 16, 480, 100


def planted() -> FlatField:
    """Light that falls to the corners, by two fifths and by a quarter."""
    axis = np.linspace(-1, 1, FIELD)
    far = (axis[:, None] ** 2 + axis**2) / 2
    gain = np.stack([1 - loss * far for loss in (0.4, 0.25)])
    gain /= gain.mean(axis=(1, 2), keepdims=True)
    known = np.zeros(2)
    return FlatField(gain.astype(np.float32), known + OFFSET, known, known, known == 0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate of like cells, at random places of vignetted fields, as ready-made tiles."""
    folder = tmp_path_factory.mktemp("vignetted")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    cell = np.exp(-(y**2 + x**2) / 20)
    stain = 500 * np.exp(rng.normal(0, 0.1, (CELLS, 2, 1, 1)))
    first = rng.integers(0, FIELD - SIZE, (CELLS, 2))
    light = crop(planted().gain, first, SIZE) * (20 + stain * cell)
    tiles = OFFSET + rng.poisson(light).clip(0, 3900)
    tifffile.imwrite(folder / "a.tif", tiles.astype(np.uint16), ome=True, metadata={"axes": "TCYX"})
    wells = [f"{'ABCDEF'[k % 6]}{1 + k // 60:02d}" for k in range(CELLS)]
    table = pd.DataFrame({"stack": "a.tif", "index": range(CELLS), "well": wells})
    table[["y0", "x0"]] = first
    table.to_csv(folder / "tiles.csv", index=False)
    plate = PlateRow(plate="P", kind="tiles", table=str(folder / "tiles.csv"))
    results = folder / "results"
    make_tiles(plate, folder / "fields", TilesSettings(size=SIZE), ImagesSettings(), 0, results)
    select_cells(results, "P", QualitySettings(**dict.fromkeys(QualitySettings.model_fields)))
    return results


def copied(prepared: Path, results: Path, flat: bool) -> Path:
    """The plate in a folder of its own, cut as if with a flat field, or without."""
    shutil.copytree(prepared / "tiles", results / "tiles")
    if flat:
        write_light(zarr.open_group(results / "tiles" / "P.zarr"), planted())
    return results


@pytest.fixture(scope="module")
def even(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(prepared, tmp_path_factory.mktemp("even"), flat=False)


@pytest.fixture(scope="module")
def lit(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(prepared, tmp_path_factory.mktemp("lit"), flat=True)


def model_of(widths: tuple[int, ...] = (8, 8)) -> VAE:
    scaling = Scaling((300.0, 200.0), (150.0, 90.0), (17.0, 14.0), (4.0, 3.0))
    grey = GreyLevels((0, 0), (1, 1), (4095, 4095))
    return VAE(ModelSettings(latent_dim=4, widths=widths), SIZE, grey, scaling).eval()


def test_a_constant_gain_leaves_the_encoders_input_as_it_is():
    """Counts of offset + g · signal, for g told, are those of g = 1: up to rounding to counts."""
    model, signal = model_of(), 2000 * torch.rand(4, 2, SIZE, SIZE)
    dark = torch.full((4, 2, 1, 1), float(OFFSET))
    plain = model.standardized((OFFSET + signal).round().int())
    for g in (0.5, 1.0, 1.6):
        levels = (OFFSET + g * signal).round().int()
        seen = model.standardized(levels, None, Light(torch.full(levels.shape, g), dark))
        # Half a level at root 10, in units of the root's sd.
        assert (seen - plain).abs().max() < 0.5 * (1 + 1 / g) / (2 * 10 * 3.0)
        assert ((model.standardized(levels) - plain).abs().max() > 1) == (g != 1.0)


def test_light_moves_with_its_tile():
    model, light = model_of(), crop(planted().gain, np.array([[3, 200], [150, 9]]), SIZE)
    levels = torch.randint(100, 3000, (2, 2, SIZE, SIZE), dtype=torch.int32)
    on = Light.on(model.grey_levels, light, np.array([OFFSET, OFFSET]))
    random = torch.Generator().manual_seed(0)
    for _ in range(8):
        moves = draw_moves(2, 3, random)
        moved = model.standardized(*loop._augment(levels, None, on, moves))
        assert torch.equal(moved, augment(model.standardized(levels, None, on), moves))


def test_the_stream_tells_the_light_on_every_tile(lit: Path):
    """Also of a plate among others that have even light."""
    own = open_stream(lit, ["P"]).sources[0]
    assert own.light is not None
    both = TileStream([Source("Q", own.store, own.rows[:40]), own])
    table = TILES.read(lit / "tiles" / "P.parquet").set_index("tile")
    for batch in both.shuffled(32, (0, 0)):
        found = both.light(batch)
        assert found is not None
        gain, offset = found
        has = batch.plate == 1
        corners = table.loc[batch.tile[has], ["y0", "x0"]].to_numpy(np.int64)
        np.testing.assert_allclose(gain[has], crop(planted().gain, corners, SIZE), rtol=1e-3)
        assert (gain[~has] == 1).all()
        assert (offset == np.where(has, OFFSET, 0)[:, None]).all()
    alone = TileStream([Source("Q", own.store, own.rows)])
    assert alone.light(next(alone.in_order(8))) is None


def test_channels_are_scaled_as_under_even_light(even: Path, lit: Path):
    """Cells of one kind differ less once they are seen under one light."""
    (_, raw), (_, corrected) = (
        measure(open_stream(r, ["P"]), open_stream(r, ["P"], "train")) for r in (even, lit)
    )
    rng, flat = np.random.default_rng(1), planted().gain
    first = rng.integers(0, FIELD - SIZE, (400, 2))
    mean_gain = crop(flat, first, SIZE).mean(axis=(0, 2, 3))
    dimmed = (np.array(raw.mean) - OFFSET) / (np.array(corrected.mean) - OFFSET)
    np.testing.assert_allclose(dimmed, mean_gain, rtol=0.02)


def fit(results: Path, epochs: int = 4, on_epoch: Callable | None = None) -> None:
    model = ModelSettings(latent_dim=4, widths=(8, 8), decoder={"skip_channels": (2, 2)})
    training = TrainingSettings(epochs=epochs, batch_size=32, shift=1)
    loop.train(results, ["P"], model, training, seed=0, device="cpu", on_epoch=on_epoch)


def told_of_place(results: Path) -> float:
    """R² of the light at a cell by its z: a linear probe, on cells that it was not fitted to."""
    embed_plate(results, "P", "vae", EmbeddingSettings(), device="cpu")
    z = EMBEDDINGS.read(results / "embeddings" / "vae" / "P.parquet").filter(regex="^z_")
    table = TILES.read(results / "tiles" / "P.parquet")
    gain = crop(planted().gain, table[["y0", "x0"]].to_numpy(np.int64), SIZE)
    probe = RidgeCV(np.logspace(-4, 2, 7))
    return float(cross_val_score(probe, z, np.log(gain[:, 0].mean(axis=(1, 2))), cv=5).mean())


@pytest.fixture(scope="module")
def trained(even: Path, lit: Path) -> None:
    """A model in both."""
    fit(even)
    fit(lit)


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_z_tells_the_place_in_the_field_only_where_the_light_is_not_told(even: Path, lit: Path):
    assert told_of_place(even) > 0.4
    assert told_of_place(lit) < 0.2  # what noise tells, which is stronger in the corners


@pytest.mark.slow
def test_an_encoder_that_is_not_told_puts_the_place_into_z(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A planted bug, which the test above would find."""
    results = copied(prepared, tmp_path, flat=True)
    standardized = VAE.standardized
    monkeypatch.setattr(VAE, "standardized", lambda self, *tiles: standardized(self, *tiles[:2]))
    fit(results)
    assert told_of_place(results) > 0.4


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_what_is_measured_and_shown_is_under_the_light_on_the_cell(even: Path, lit: Path):
    held = open_held_out(lit, ["P"], "vae", 60, seed=0, device="cpu")
    table = TILES.read(lit / "tiles" / "P.parquet")
    assert held.light is not None
    assert held.light.gain.std() > 0.05
    told, not_told = (_bits(h, 0)["bits"] for h in (held, replace(held, light=None)))
    assert told < not_told
    made = reconstruct(lit, "P", "vae", table) - OFFSET
    seen = read_rows(store_array(lit / "tiles" / "P.zarr"), table["tile"].to_numpy(np.int64))
    excess = np.log(made.mean(axis=(2, 3)) / (seen.astype(float) - OFFSET).mean(axis=(2, 3)))
    gain = np.log(crop(planted().gain, table[["y0", "x0"]].to_numpy(np.int64), SIZE)).mean((2, 3))
    # Reconstructions under even light would be brighter than their cells by 1 / gain: slope −1.
    slope = np.polyfit(gain[:, 0], excess[:, 0], 1)[0]
    assert abs(slope) < 0.3


@pytest.mark.slow
def test_a_state_of_another_light_is_not_taken_up(prepared: Path, tmp_path: Path):
    def kill(row: dict[str, float]) -> None:
        raise KeyboardInterrupt

    even, lit = (copied(prepared, tmp_path / name, flat=name == "lit") for name in ("even", "lit"))
    with pytest.raises(KeyboardInterrupt):
        fit(even, 2, kill)
    shutil.copytree(even / "models", lit / "models")
    epochs: list[float] = []
    fit(lit, 2, lambda row: epochs.append(row["epoch"]))
    assert epochs == [1, 2]
    _, card = load_model(lit / "models" / "vae")
    assert list(card["data"]["flat_fields"]) == ["P"]
