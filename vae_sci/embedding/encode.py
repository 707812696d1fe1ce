"""Tiles + model → one row per cell: where it lies in latent space and how well it is described."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Normal

from vae_sci.config import EmbeddingSettings
from vae_sci.contracts import EMBEDDINGS, TILES
from vae_sci.errors import ContractError, InputError
from vae_sci.files import publish
from vae_sci.likelihoods import Light
from vae_sci.likelihoods.grey_levels import need_step
from vae_sci.model.checkpoint import load_model
from vae_sci.model.device import pick_device, tune_cpu
from vae_sci.model.objective import Terms, describe
from vae_sci.model.vae import VAE
from vae_sci.tiles.light import TileLight, light_digest, open_light
from vae_sci.tiles.store import (
    NEIGHBOUR,
    need_table_of,
    read_rows,
    store_about,
    store_array,
)

FIRST_TILES = 512  # of a plate, whose grey levels are looked at before any is embedded


def embed_plate(
    results: Path,
    plate: str,
    model_name: str,
    settings: EmbeddingSettings,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `results/embeddings/{model}/{plate}.parquet`, streamed batch by batch.

    The table appears whole or not at all; memory does not grow with the plate.

    Raises `ContractError` when tiles and model do not fit: other channels, size, neighbours or
    grey levels, or a flat field on one side alone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tune_cpu()
    model, card = load_model(results / "models" / model_name, pick_device(device))
    store = results / "tiles" / f"{plate}.zarr"
    table = TILES.read(results / "tiles" / f"{plate}.parquet")
    check_fit(card, store)
    need_table_of(store, table)
    known = open_light(store, table)
    try:
        first = np.arange(min(len(table), FIRST_TILES))
        need_step(model.grey_levels, read_rows(store_array(store), first))
    except InputError as error:
        raise _another_camera(error, store) from None
    out = results / "embeddings" / model_name / f"{plate}.parquet"
    reference = np.array(card["novelty_reference"])
    with publish(out) as temporary:
        writer = None
        for start in range(0, len(table), settings.batch_size):
            rows = table.iloc[start : start + settings.batch_size]
            levels, visible = load_levels(model, card, store, rows)
            light = load_light(model, known, rows)
            told = told_plate(model, plate, len(rows))
            seen, terms = describe(model, levels, visible, told, light)
            frame = _frame(rows["cell_id"], seen.z, terms)
            cost = frame[["distortion", "rate_z", "rate_u"]].sum(axis=1).to_numpy()
            # Percentile among the validation cells, by the reference's own percentiles.
            frame["novelty"] = np.interp(cost, reference, np.arange(101.0))
            arrow = pa.Table.from_pandas(EMBEDDINGS.validate(frame, str(out)), preserve_index=False)
            writer = writer or pq.ParquetWriter(temporary, arrow.schema)
            writer.write_table(arrow)
            if progress:
                progress(min(start + settings.batch_size, len(table)), len(table))
        if writer is None:
            raise InputError(
                required="at least one tile to embed",
                found=f"no row in the tile table of plate {plate}",
                action="look in the ledger for the step that dropped every cell",
            )
        writer.close()


@torch.no_grad()
def encode_tiles(folder: Path, tiles: np.ndarray) -> np.ndarray:
    """z, the posterior mean (N, d), of tiles (N, C, H, W) of raw grey levels.

    All pixels are seen, and light is taken as even.
    folder : of the model; it runs on the CPU.
    Raises `InputError` where the tiles are of another size, channels or grey levels than those
    that the model was trained on.
    """
    model, card = load_model(folder)
    wanted = (len(card["channels"]), card["size"], card["size"])
    if tiles.shape[1:] != wanted:
        raise InputError(
            required=f"tiles of {wanted[0]} channels ({', '.join(card['channels'])}) and "
            f"{card['size']} × {card['size']} pixels, as the model was trained on",
            found=f"shape (channels, height, width) {tiles.shape[1:]}",
            action="cut the tile to that size around its nucleus, at the same magnification, with "
            "its channels in that order",
        )
    levels = model.grey_levels.to_steps(tiles)
    need_step(model.grey_levels, tiles)
    return model.inference(levels).z.mean.double().numpy()


def check_fit(card: dict[str, Any], store: Path) -> None:
    """Raise `ContractError` unless the store's tiles are such as the model was trained on."""
    about = store_about(store)
    for name in ("channels", "size", "neighbours"):
        if about[name] != card[name]:
            raise ContractError(
                required=f"tiles with {name} {card[name]}, as the model was trained on",
                found=f"{name} {about[name]} in {store}",
                action="embed with a model trained on such tiles",
            )
    # Ready-made tiles have no place in a field, and go with either.
    had, has = bool(card["data"].get("flat_fields")), light_digest(store) is not None
    if about["kind"] == "images" and had != has:
        raise ContractError(
            required=f"tiles cut with{'' if had else 'out'} a flat field, as those that the model "
            "was trained on",
            found=f"{store}, cut with{'' if has else 'out'} one",
            action="set images: flat_field as it was then, and tile the plate again",
        )


def told_plate(model: VAE, plate: str, n: int) -> Tensor | None:
    """What the decoder is told of n tiles of a plate: see `VAE.generative`."""
    if not model.plates:
        return None
    return torch.full((n,), model.plate_number(plate))


def load_levels(
    model: VAE, card: dict[str, Any], store: Path, rows: pd.DataFrame
) -> tuple[Tensor, Tensor | None]:
    """Grey levels (N, C, H, W) of the tiles in `rows`, and their visible pixels (N, 1, H, W).

    Raises `ContractError` naming the cell whose values do not lie on the model's grey levels.
    """
    wanted = rows["tile"].to_numpy(dtype=np.int64)
    device = next(model.parameters()).device
    counts = read_rows(store_array(store), wanted)
    try:
        levels = model.grey_levels.to_steps(counts)
    except InputError as error:
        cell = f"counted from cell {rows['cell_id'].iloc[0]} of {store}"
        raise _another_camera(error, cell) from None
    visible = None
    if card["neighbours"] == "mask":
        masks = read_rows(store_array(store, "masks"), wanted)
        visible = torch.from_numpy(masks != NEIGHBOUR)[:, None].to(device)
    return levels.to(device), visible


def load_light(model: VAE, known: TileLight | None, rows: pd.DataFrame) -> Light | None:
    """The light on the tiles in `rows`, by what is known of their plate's; None: even."""
    if known is None:
        return None
    gain = known.gain(rows["tile"].to_numpy(dtype=np.int64))
    device = next(model.parameters()).device
    return Light.on(model.grey_levels, gain, known.offset).to(device)


def _another_camera(error: InputError, where: str | Path) -> ContractError:
    return ContractError(
        required=error.required,
        found=f"{error.found}, {where}",
        action="embed with a model trained on images of this camera and bit depth",
    )


def _frame(cells: pd.Series, z: Normal, terms: Terms) -> pd.DataFrame:
    columns: dict[str, Any] = {"cell_id": cells.to_numpy()}
    for prefix, values in (("z", z.mean), ("sd", z.stddev)):
        array = values.cpu().numpy().astype(np.float64)
        columns |= {f"{prefix}_{i:03d}": array[:, i] for i in range(array.shape[1])}
    for name in ("rate_z", "rate_u", "distortion"):
        columns[name] = getattr(terms, name).cpu().numpy().astype(np.float64)
    return pd.DataFrame(columns)
