"""Embeddings are what the model says of each tile, whatever the batches; misfits are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vae_sci.config import EmbeddingSettings
from vae_sci.contracts import EMBEDDINGS, TILES
from vae_sci.embedding.encode import embed_plate, load_levels
from vae_sci.errors import ContractError
from vae_sci.model.checkpoint import load_model
from vae_sci.model.objective import describe

pytestmark = pytest.mark.slow


@pytest.fixture
def results(tiny_results: Path, tmp_path: Path) -> Path:
    for name in ("tiles", "models"):
        shutil.copytree(tiny_results / name, tmp_path / name)
    return tmp_path


def test_a_row_is_what_the_model_says_of_the_cell(results: Path):
    embed_plate(results, "tiny1", "vae", EmbeddingSettings(batch_size=7), device="cpu")
    table = EMBEDDINGS.read(results / "embeddings" / "vae" / "tiny1.parquet")
    tiles = TILES.read(results / "tiles" / "tiny1.parquet")
    assert table["cell_id"].tolist() == tiles["cell_id"].tolist()
    model, card = load_model(results / "models" / "vae")
    row = tiles.iloc[[9]]
    seen, terms = describe(model, *load_levels(model, card, results / "tiles" / "tiny1.zarr", row))
    z = table.filter(regex="^z_").iloc[9].to_numpy()
    np.testing.assert_allclose(z, seen.z.mean[0].numpy(), rtol=1e-4, atol=1e-5)
    assert table["distortion"][9] == pytest.approx(float(terms.distortion), rel=1e-5)
    for name in ("rate_z", "rate_u"):
        assert table[name][9] == pytest.approx(float(getattr(terms, name)), rel=1e-4)


def test_the_table_does_not_depend_on_the_batch_size(results: Path):
    tables = []
    for size in (5, 1000):
        embed_plate(results, "tiny2", "vae", EmbeddingSettings(batch_size=size), device="cpu")
        tables.append(EMBEDDINGS.read(results / "embeddings" / "vae" / "tiny2.parquet"))
    numbers = [t.drop(columns="cell_id").to_numpy(float) for t in tables]
    np.testing.assert_allclose(*numbers, rtol=1e-4, atol=1e-4)


def test_novelty_is_the_percentile_among_validation_cells(results: Path):
    embed_plate(results, "tiny1", "vae", EmbeddingSettings(), device="cpu")
    table = EMBEDDINGS.read(results / "embeddings" / "vae" / "tiny1.parquet")
    card = json.loads((results / "models" / "vae" / "model.json").read_text())
    reference = np.array(card["novelty_reference"])
    cost = table[["rate_z", "rate_u", "distortion"]].sum(axis=1)
    assert table["novelty"].between(0, 100).all()
    assert (table["novelty"][cost >= reference[-1]] == 100).all()
    assert (table["novelty"][cost <= reference[0]] == 0).all()
    order = cost.argsort()
    assert table["novelty"][order].is_monotonic_increasing


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("channels", ["a", "b", "c"], "channels"),
        ("neighbours", "mask", "neighbours"),
        ("data", {}, "cut without a flat field"),
        ("grey_levels", {"lowest": [0] * 3, "step": [16] * 3, "highest": [65520] * 3}, "cell"),
    ],
)
def test_tiles_that_do_not_fit_the_model_are_refused(results: Path, key: str, value, says: str):
    path = results / "models" / "vae" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ContractError, match=says):
        embed_plate(results, "tiny1", "vae", EmbeddingSettings(), device="cpu")
    assert not (results / "embeddings" / "vae" / "tiny1.parquet").exists()
