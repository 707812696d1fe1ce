"""Images that the model makes are what their tables say, and what the model says of the cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from vae_sci.config import ModelSettings
from vae_sci.contracts import CELLS, GENERATED, MORPHS, RESAMPLED, SAMPLES
from vae_sci.embedding.generate import N_DRAWS, TEMPERATURES, _resampled, expected_counts
from vae_sci.embedding.morphs import N_STEPS, cell_line, step_distances, treatment_line
from vae_sci.likelihoods import GreyLevels
from vae_sci.model.checkpoint import load_model
from vae_sci.model.vae import VAE, Scaling


def _cells(**columns) -> pd.DataFrame:
    n = len(columns["treatment"])
    return pd.DataFrame(
        {"cell_id": [f"c{k}" for k in range(n)], "plate": "P", "z_000": np.arange(n) * 1.0}
        | columns
    ).astype({"treatment": "string"})


def _treatments(*rows: tuple) -> pd.DataFrame:
    names = ["treatment", "concentration", "control", "n_cells", "distance"]
    return pd.DataFrame(rows, columns=names).astype({"treatment": "string"})


@pytest.mark.parametrize(
    ("far_cells", "distance", "top"),
    [(9, 2.0, "near"), (10, 0.94, "near"), (10, 1.0, "far")],
    ids=["few cells are no treatment", "ten are 0.32 away by chance", "that is farther"],
)
def test_the_strongest_treatment_is_not_the_rarest(
    far_cells: int, distance: float, top: str
) -> None:
    cells = _cells(
        treatment=["DMSO", "near", "near", "far"],
        concentration=[np.nan, 1.0, 2.0, 1.0],
        control=[True, False, False, False],
    )
    table = _treatments(
        ("DMSO", np.nan, True, 900, 0.0),
        ("near", 1.0, False, 100, 0.9),
        ("near", 2.0, False, 100, 0.2),
        ("far", 1.0, False, far_cells, distance),
    )
    line = treatment_line(cells, table)
    assert line is not None
    assert line.end == f"1 cells, {top} 1"
    assert cells["treatment"][line.at_end].tolist() == [top]
    assert cells["concentration"][line.at_end].tolist() == [1.0]
    assert cells["treatment"][line.at_start].tolist() == ["DMSO"]


def test_controls_of_the_same_plate_come_first_and_nothing_to_walk_to_is_none() -> None:
    cells = _cells(
        treatment=["DMSO", "DMSO", "x", None],
        concentration=np.nan,
        control=[True, True, False, False],
        plate=["P", "Q", "Q", "Q"],
    )
    control = ("DMSO", np.nan, True, 2, 0.0)
    line = treatment_line(cells, _treatments(control, ("x", np.nan, False, 1, 3.0)))
    assert line is not None
    assert line.at_start.tolist() == [False, True, False, False]
    assert line.at_end.tolist() == [False, False, True, False]
    assert treatment_line(cells, _treatments(control)) is None


def test_two_cells_are_exemplars_or_the_farthest_of_one_cluster() -> None:
    cells = _cells(treatment=["a"] * 4)
    clusters = pd.DataFrame({"exemplar": ["c2", "c1", "c0"], "n_cells": [5, 9, 7]})
    line = cell_line(cells, clusters)
    assert (line.start, line.end) == ("c1", "c0")
    assert (line.at_start.argmax(), line.at_end.argmax()) == (1, 0)
    assert cell_line(cells, clusters.iloc[[1]]).end == "c3"


@pytest.mark.slow
def test_stacks_match_their_tables_and_say_what_is_synthetic(tiny_results: Path) -> None:
    folder = tiny_results / "generated" / "vae"
    for contract, stacks in (
        (GENERATED, ("originals", "reconstructions", "predictive")),
        (SAMPLES, ("samples",)),
        (RESAMPLED, ("resampled",)),
        (MORPHS, ("morphs",)),
    ):
        table = contract.read(folder / contract.path.rpartition("/")[2])
        assert table["row"].tolist() == list(range(len(table)))
        for name in stacks:
            with tifffile.TiffFile(folder / f"{name}.ome.tif") as file:
                assert ("SYNTHETIC" in file.ome_metadata) == (name != "originals")
                assert file.asarray().dtype == np.uint16
                assert len(file.asarray()) == len(table)
    assert tifffile.imread(folder / "originals.ome.tif").max() <= 4095


@pytest.mark.slow
def test_the_predictive_draw_has_the_noise_that_its_mean_lacks(tiny_results: Path) -> None:
    folder = tiny_results / "generated" / "vae"
    mean, drawn = (
        tifffile.imread(folder / f"{name}.ome.tif").astype(float)
        for name in ("reconstructions", "predictive")
    )

    def grain(images: np.ndarray) -> np.ndarray:
        return np.square(np.diff(images, axis=-1)).mean(axis=(0, 2, 3))

    assert (grain(drawn) > 2 * grain(mean)).all()
    noise = (drawn - mean).swapaxes(0, 1).reshape(mean.shape[1], -1)
    standard_error = noise.std(axis=1) / np.sqrt(noise.shape[1])
    assert (np.abs(noise.mean(axis=1)) < 5 * standard_error + 1).all()  # both are rounded


@pytest.mark.slow
def test_a_draw_shrinks_with_the_temperature_towards_the_image_of_zero(
    tiny_results: Path,
) -> None:
    folder = tiny_results / "generated" / "vae"
    model, _ = load_model(tiny_results / "models" / "vae")
    with torch.no_grad():
        zero = torch.zeros(1, model.settings.latent_dim)
        origin = expected_counts(model, model.generative(zero, temperature=0.0)).astype(float)
    samples = tifffile.imread(folder / "samples.ome.tif")
    by_temperature = samples.reshape(len(TEMPERATURES), -1, *samples.shape[1:])
    away = [float(np.square(part - origin).mean()) for part in by_temperature]
    assert TEMPERATURES[0] == 1
    assert away == sorted(away, reverse=True)


@pytest.mark.slow
def test_a_walk_starts_and_ends_at_the_cells_it_names(tiny_results: Path) -> None:
    folder = tiny_results / "generated" / "vae"
    table = MORPHS.read(folder / "morphs.csv")
    images = tifffile.imread(folder / "morphs.ome.tif")
    cells = CELLS.read(tiny_results / "phenotypes" / "vae" / "cells.parquet")
    model, _ = load_model(tiny_results / "models" / "vae")
    line = table[table["line"] == "cells"]
    assert len(line) == N_STEPS
    for end in (line.iloc[0], line.iloc[-1]):
        name = end["start"] if end["position"] == 0 else end["end"]
        plate = cells.set_index("cell_id").loc[name, "plate"]
        z = pd.read_parquet(tiny_results / "embeddings" / "vae" / f"{plate}.parquet")
        z = z.set_index("cell_id").filter(regex="^z_").loc[[name]].to_numpy()
        with torch.no_grad():
            made = model.generative(torch.from_numpy(z).float(), temperature=0.0)
        expected = expected_counts(model, made)[0].astype(float)
        assert np.abs(images[int(end["row"])] - expected).max() <= 1


def _model(skip: str, plates: tuple[str, ...] = ()) -> VAE:
    torch.manual_seed(0)
    settings = ModelSettings.model_validate(
        {
            "latent_dim": 4,
            "widths": [8, 16],
            "decoder": {
                "skip": skip,
                "skip_channels": [2, 2],
                "condition": ["plate"] if plates else [],
            },
        }
    )
    scaling = Scaling((500.0, 80.0), (150.0, 20.0), (22.0, 9.0), (3.0, 1.0))
    return VAE(settings, 16, GreyLevels((0, 0), (1, 1), (4095, 4095)), scaling, plates).eval()


@pytest.mark.parametrize("plates", [(), ("a", "b")], ids=["no plates", "told plates"])
@torch.no_grad()
def test_resampled_images_start_with_z_alone_and_without_u_end_there(
    plates: tuple[str, ...],
) -> None:
    z, draws = torch.randn(3, 4), torch.Generator().manual_seed(0)
    told = torch.tensor([0, 1, -1]) if plates else None
    for skip, images in (("none", 1), ("latent", 1), ("ladder", 1 + N_DRAWS)):
        model = _model(skip, plates)
        made = _resampled(model, z, told, draws)
        assert made.shape == (3, images, 2, 16, 16)
        alone = expected_counts(model, model.generative(z, temperature=0.0, plate=told))
        np.testing.assert_array_equal(made[:, 0], alone)


@torch.no_grad()
def test_step_distances_are_in_standard_deviations_of_each_channel() -> None:
    model = _model("none")
    sd = torch.tensor(model.scaling.sd).view(-1, 1, 1)
    start = torch.zeros(1, 2, 4, 4)
    images = torch.cat([start, start + sd, start + 3 * sd])
    np.testing.assert_allclose(step_distances(model, images), [1, 2], rtol=1e-5)
