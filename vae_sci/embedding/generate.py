"""Images that the model makes: held-out cells again, cells from the prior, one z with other u."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vae_sci.contracts import GENERATED, RESAMPLED, SAMPLES
from vae_sci.embedding.encode import check_fit, load_levels, load_light, told_plate
from vae_sci.files import publish
from vae_sci.likelihoods import Light
from vae_sci.model.checkpoint import load_model
from vae_sci.model.device import pick_device
from vae_sci.model.objective import describe
from vae_sci.model.vae import VAE, Generated
from vae_sci.tiles.light import open_light
from vae_sci.tiles.split import most_held_out
from vae_sci.training.stream import read_tables

N_IMAGES = 24  # held-out cells, and draws from the prior
TEMPERATURES = (1.0, 0.7, 0.5)  # the prior itself first
N_RESAMPLED, N_DRAWS = 5, 6  # cells whose u is drawn anew, and how often


@torch.no_grad()
def generate(
    results: Path, plates: list[str], model_name: str, seed: int, device: str = "auto"
) -> None:
    """Write image stacks and their tables to `results/generated/{model}/`.

    Cells are drawn from the test wells (validation, then training, where there are none), evenly
    over plates. Each is shown as it is (`originals`), as E[x|z,u] at the posterior means of z and
    u (`reconstructions`) and as a draw of p(x|z,u) there, with camera noise (`predictive`).
    `samples`: E[x|z,u] for z and u from the prior, at several temperatures. `resampled`: for a few
    of the cells, E[x|z,u] at the posterior mean of z with u from its prior. All are rounded to
    counts; OME metadata of what the model made say that it is synthetic. What stands beside a cell
    is under the light on the cell, samples are under even light.
    """
    model, card = load_model(results / "models" / model_name, pick_device(device))
    folder = results / "generated" / model_name
    where = next(model.parameters()).device
    draws = torch.Generator().manual_seed(seed)

    originals, reconstructions, predictive, records = [], [], [], []
    z: list[Tensor] = []
    told: list[Tensor] = []
    lights: list[tuple[Tensor, Light | None]] = []
    # Likelihoods draw from torch's own generator.
    with torch.random.fork_rng([where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        for plate, rows in _chosen(read_tables(results, plates), seed).groupby("plate", sort=False):
            store = results / "tiles" / f"{plate}.zarr"
            levels, visible = load_levels(model, card, store, rows)
            light = load_light(model, open_light(store, rows), rows)
            lights.append((levels, light))
            own = told_plate(model, str(plate), len(rows))
            seen, terms = describe(model, levels, visible, own, light)
            made = model.generative(
                seen.z.mean, seen.skips, temperature=0.0, plate=own, light=light
            )
            if own is not None:
                told.append(own)
            z.append(seen.z.mean)
            originals.append(_counts(model, levels))
            reconstructions.append(expected_counts(model, made))
            predictive.append(_counts(model, made.p.sample()))
            figures = {
                name: getattr(terms, name).cpu().double().numpy()
                for name in ("rate_z", "rate_u", "bits")
            }
            records.append(rows[["cell_id", "split"]].assign(**figures))
    cells = numbered(pd.concat(records))
    write_stack(np.concatenate(originals), folder / "originals.ome.tif", card, synthetic=False)
    write_stack(np.concatenate(reconstructions), folder / "reconstructions.ome.tif", card)
    write_stack(np.concatenate(predictive), folder / "predictive.ome.tif", card)
    GENERATED.write(cells, folder / "cells.csv")

    write_stack(_samples(model, draws), folder / "samples.ome.tif", card)
    grid = pd.MultiIndex.from_product(
        [TEMPERATURES, range(N_IMAGES)], names=["temperature", "draw"]
    )
    SAMPLES.write(numbered(grid.to_frame()), folder / "samples.csv")

    some = np.unique(np.linspace(0, len(cells) - 1, N_RESAMPLED).round().astype(int))
    of_some = torch.cat(told)[some] if told else None
    light = Light.joined(lights)
    if light is not None:
        light = light.of(torch.from_numpy(some))
    images = _resampled(model, torch.cat(z)[some], of_some, draws, light)
    write_stack(images.reshape(-1, *images.shape[2:]), folder / "resampled.ome.tif", card)
    grid = pd.MultiIndex.from_product(
        [cells["cell_id"].iloc[some], range(images.shape[1])], names=["cell_id", "draw"]
    )
    table = numbered(grid.to_frame())
    table["temperature"] = (table["draw"] > 0).astype(float)
    RESAMPLED.write(table, folder / "resampled.csv")


@torch.no_grad()
def reconstruct(results: Path, plate: str, model_name: str, rows: pd.DataFrame) -> np.ndarray:
    """E[x|z,u] of tiles of a plate at the posterior means of z and u: counts (N, C, H, W), under
    the light on the tiles.

    rows : of the plate's tile table. Raises `ContractError` where model and tiles do not fit.
    """
    model, card = load_model(results / "models" / model_name)
    store = results / "tiles" / f"{plate}.zarr"
    check_fit(card, store)
    levels, visible = load_levels(model, card, store, rows)
    light = load_light(model, open_light(store, rows), rows)
    seen = model.inference(levels, visible, light)
    told = told_plate(model, plate, len(rows))
    made = model.generative(seen.z.mean, seen.skips, temperature=0.0, plate=told, light=light)
    return expected_counts(model, made)


def _samples(model: VAE, draws: torch.Generator) -> np.ndarray:
    """Counts (temperatures × draws, C, H, W); a draw is the same numbers at every temperature."""
    noise = model.draw_noise(N_IMAGES, draws).share(slice(None), next(model.parameters()).device)
    return np.concatenate(
        [
            expected_counts(model, model.generative(t * noise.z, temperature=t, noise=noise.u))
            for t in TEMPERATURES
        ]
    )


def _resampled(
    model: VAE,
    z: Tensor,
    told: Tensor | None,
    draws: torch.Generator,
    light: Light | None = None,
) -> np.ndarray:
    """Counts (cells, 1 + draws, C, H, W): u at its prior's mean, then drawn from its prior.

    A decoder without u has but the first. z (cells, latent_dim); told (cells,), their plates, where
    the decoder is told them; light : on them.
    """
    made = model.generative(z, temperature=0.0, plate=told, light=light)
    plain = expected_counts(model, made)[:, None]
    noise = model.draw_noise(len(z) * N_DRAWS, draws).share(slice(None), z.device)
    if not noise.u:
        return plain
    each = torch.arange(len(z)).repeat_interleave(N_DRAWS)
    made = model.generative(
        z[each],
        noise=noise.u,
        plate=None if told is None else told[each],
        light=None if light is None else light.of(each),
    )
    counts = expected_counts(model, made)
    return np.concatenate([plain, counts.reshape(len(z), N_DRAWS, *counts.shape[1:])], axis=1)


def expected_counts(model: VAE, made: Generated) -> np.ndarray:
    """E[x | z, u] as raw counts (N, C, H, W), uint16, rounded."""
    return _counts(model, made.p.mean.round().to(torch.int64))


def _counts(model: VAE, levels: Tensor) -> np.ndarray:
    return model.grey_levels.to_counts(levels.cpu()).numpy().clip(0, 65535).astype(np.uint16)


def numbered(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the column `row`, the position in an image stack, from 0."""
    table = table.reset_index(drop=True)
    table.insert(0, "row", np.arange(len(table)))
    return table


def write_stack(
    counts: np.ndarray, path: Path, card: dict[str, Any], synthetic: bool = True
) -> None:
    """An OME-TIFF stack (N, C, H, W), uint16; the description says what it is."""
    import tifffile

    what = "SYNTHETIC: generated by a model, not a photograph" if synthetic else "camera counts"
    with publish(path) as temporary:
        tifffile.imwrite(
            temporary,
            counts,
            ome=True,
            compression="zlib",
            metadata={
                "axes": "TCYX",
                "Channel": {"Name": list(card["channels"])},
                "Description": what,
            },
        )


def _chosen(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """`N_IMAGES` cells of the most held-out part there is, in order of plate."""
    rows = most_held_out(table)[1].sample(frac=1, random_state=seed)
    turn = rows.groupby("plate").cumcount()
    return rows.assign(turn=turn).sort_values("turn", kind="stable").head(N_IMAGES).sort_values(
        ["plate", "tile"]
    )  # fmt: skip
