"""The cells on which a model is measured: not learned from, and the same for all models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_sci.embedding.encode import check_fit, load_levels, load_light, told_plate
from vae_sci.likelihoods import Light
from vae_sci.model.checkpoint import load_model
from vae_sci.model.device import pick_device
from vae_sci.model.vae import VAE
from vae_sci.tiles.light import open_light
from vae_sci.tiles.split import most_held_out
from vae_sci.training.stream import read_tables

BATCH = 128


@dataclass(frozen=True)
class HeldOut:
    """A trained model and the tiles that it is measured on.

    Parameters
    ----------
    model : in evaluation mode, on its device.
    part : test, validation or train: the most held-out part that has cells.
    levels, visible, plate, light : as for `VAE.inference` and `VAE.generative`, of all cells.
    """

    model: VAE
    part: str
    levels: Tensor
    visible: Tensor | None
    plate: Tensor | None
    light: Light | None = None

    def __len__(self) -> int:
        return len(self.levels)

    def batches(
        self,
    ) -> Iterator[tuple[slice, Tensor, Tensor | None, Tensor | None, Light | None]]:
        """(rows, levels, visible, plate, light) of consecutive cells."""
        for start in range(0, len(self), BATCH):
            rows = slice(start, start + BATCH)
            visible, plate = (
                None if part is None else part[rows] for part in (self.visible, self.plate)
            )
            light = None if self.light is None else self.light.of(rows)
            yield rows, self.levels[rows], visible, plate, light

    def inputs(self) -> Tensor:
        """What the encoder is given of all cells, (N, C, H, W)."""
        standardized = self.model.standardized
        return torch.cat([standardized(x, seen, light) for _, x, seen, _, light in self.batches()])


def open_held_out(
    results: Path, plates: list[str], model_name: str, cells: int, seed: int, device: str = "auto"
) -> HeldOut:
    """A model of `results` and up to `cells` held-out cells, drawn by `seed` alone.

    Raises `ContractError` when model and tiles do not fit.
    """
    model, card = load_model(results / "models" / model_name, pick_device(device))
    table = read_tables(results, plates)
    part, rows_of_part = most_held_out(table)
    # In an order of no meaning: neighbours in a well are alike, and cells are compared in pairs.
    chosen = rows_of_part.sample(frac=1, random_state=seed).head(cells)
    levels, visible, plate, lights, places = [], [], [], [], []
    for name, rows in chosen.groupby("plate", sort=True):
        store = results / "tiles" / f"{name}.zarr"
        check_fit(card, store)
        rows = rows.sort_values("tile")
        own, seen = load_levels(model, card, store, rows)
        levels.append(own)
        visible.append(seen)
        plate.append(told_plate(model, str(name), len(rows)))
        lights.append((own, load_light(model, open_light(store, rows), rows)))
        places.append(chosen.index.get_indexer(rows.index))
    order = np.argsort(np.concatenate(places))
    light = Light.joined(lights)
    return HeldOut(
        model,
        part,
        torch.cat(levels)[order],
        _joined(visible, order),
        _joined(plate, order),
        None if light is None else light.of(torch.from_numpy(order)),
    )


def _joined(parts: list[Tensor | None], order: np.ndarray) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return torch.cat(given)[order] if given else None
