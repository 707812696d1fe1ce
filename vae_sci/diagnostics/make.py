"""Measure a model on held-out cells, hold it to its thresholds, and write what was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vae_sci.config import DiagnosticsSettings
from vae_sci.contracts import DIAGNOSTICS, RINGS
from vae_sci.diagnostics.bypass import measure_bypass
from vae_sci.diagnostics.held_out import HeldOut, open_held_out
from vae_sci.diagnostics.nuisance import nuisance_sensitivity
from vae_sci.diagnostics.sharpness import band_mean, checkerboard, fourier_rings, period_two_power
from vae_sci.errors import DiagnosticsError
from vae_sci.model.objective import Terms, bound
from vae_sci.tiles.store import store_about

MEANINGS = {
    "bits": "the bound on what the model needs for a tile, all rates counted",
    "distortion": "−log p(x | z, u) at a draw from the posterior",
    "rate_z": "KL(q(z|x) ‖ p(z)): what z carries of a cell",
    "rate_u": "KL of all skip latents: what they carry of a cell",
    "z_share": "of what z and u know of a cell, the share that z carries itself (S)",
    "frc": "Fourier ring correlation of reconstruction and tile, 0.1 to 0.2 cycles per pixel",
    "power": "power of the reconstruction over that of the tile, the same band",
    "checkerboard": "power of the reconstruction's patterns of period 2 over their neighbours'",
    "period_two_power": "power of the reconstruction's patterns of period 2 over the tile's",
    "quarter_turns": "how far z, in sds, moves when a tile is turned by quarters",
    "angles": "how far z, in sds, moves when a tile's central disc is turned by other angles",
    "shifts": "how far z, in sds, moves when a tile is shifted by 2 pixels",
}
UNITS = {
    "bits": "bits per pixel and channel",
    "distortion": "nats per tile",
    "rate_z": "nats per tile",
    "rate_u": "nats per tile",
    "quarter_turns": "distances between random cells",
    "angles": "distances between random cells",
    "shifts": "distances between random cells",
}
REMEDIES = {
    "z_share": "raise training.skip_dropout or training.beta_skips, or lower "
    "model.decoder.skip_channels",
    "rate_z": "lower training.beta, or raise training.free_bits, training.view_weight or "
    "training.beta_warmup",
}


def diagnose(
    results: Path,
    plates: list[str],
    model_name: str,
    settings: DiagnosticsSettings,
    seed: int,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Write `diagnostics.csv` and `rings.csv` of a model; returns the first.

    Raises
    ------
    DiagnosticsError : a threshold is not reached, and the settings make that an error. The tables
        are written all the same.
    ContractError : model and tiles do not fit.
    """
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, 5)

    held = open_held_out(results, plates, model_name, settings.cells, seed, device)
    step()
    found = _bits(held, seed)
    step()
    found["z_share"] = measure_bypass(held, seed).share
    step()
    channels = list(store_about(results / "tiles" / f"{plates[0]}.zarr")["channels"])
    rings, sharp = _sharpness(held, channels)
    found |= sharp
    step()
    found |= nuisance_sensitivity(held, seed)
    step()

    table = _judged(found, settings)
    folder = results / "diagnostics" / model_name
    RINGS.write(rings, folder / "rings.csv")
    DIAGNOSTICS.write(table, folder / "diagnostics.csv")
    failed = table[table["verdict"] == "failed"]
    if len(failed) and settings.on_failure == "error":
        first = failed.iloc[0]
        raise DiagnosticsError(
            required=f"{first['diagnostic']} of at least {first['at_least']:g}: {first['meaning']}",
            found=f"{first['value']:.3g} for model {model_name}, {len(held)} {held.part} cells",
            action=f"{first['remedy']}; or set diagnostics.on_failure to warn",
        )
    return table


@torch.no_grad()
def _bits(held: HeldOut, seed: int) -> dict[str, float]:
    """The bound and its parts at one draw from the posterior, means over cells."""
    random = torch.Generator().manual_seed(seed)
    parts: list[Terms] = []
    for _, levels, visible, plate, light in held.batches():
        noise = held.model.draw_noise(len(levels), random).share(slice(None), levels.device)
        parts.append(bound(held.model, levels, visible, noise, plate, light)[1])

    def mean(name: str) -> float:
        return float(torch.cat([getattr(part, name) for part in parts]).double().mean())

    found = {name: mean(name) for name in ("bits", "distortion", "rate_z", "rate_u")}
    levels_of_u = torch.cat([part.levels for part in parts]).double().mean(dim=0).tolist()
    return found | {f"rate_u_{k}": rate for k, rate in enumerate(levels_of_u, start=1)}


@torch.no_grad()
def _sharpness(held: HeldOut, channels: list[str]) -> tuple[pd.DataFrame, dict[str, float]]:
    """Reconstructions at the posterior means against the tiles, ring by ring and in short."""
    made = []
    for _, levels, visible, plate, light in held.batches():
        seen = held.model.inference(levels, visible, light)
        p = held.model.generative(
            seen.z.mean, seen.skips, temperature=0.0, plate=plate, light=light
        ).p
        made.append(p.mean.cpu().numpy())
    images, reference = np.concatenate(made), held.levels.cpu().numpy().astype(np.float64)
    if held.visible is not None:  # what the model need not explain is neither right nor wrong
        hidden = ~np.broadcast_to(held.visible.cpu().numpy(), images.shape)
        images[hidden] = reference[hidden] = 0
    rings = fourier_rings(images, reference)
    # A channel in which the tiles have no power has no ratio.
    power, period_two = (
        np.where(np.isfinite(ratio), ratio, np.nan)
        for ratio in (rings.power_ratio, period_two_power(images, reference))
    )
    n = len(rings.frequency)
    table = pd.DataFrame(
        {
            "channel": np.repeat(channels, n),
            "frequency": np.tile(rings.frequency, len(channels)),
            "correlation": rings.correlation.ravel(),
            "power_ratio": power.ravel(),
        }
    )
    return table, {
        "frc": float(band_mean(rings.correlation, rings.frequency).mean()),
        "power": float(np.nanmean(band_mean(power, rings.frequency))),
        "checkerboard": float(np.max(checkerboard(images))),
        "period_two_power": float(np.nanmax(period_two)),
    }


def _judged(found: dict[str, float], settings: DiagnosticsSettings) -> pd.DataFrame:
    """The figures with threshold, verdict and remedy."""
    least = {"z_share": settings.min_share, "rate_z": settings.min_rate_z}

    def row(name: str, value: float) -> dict[str, object]:
        threshold = least.get(name)
        verdict = "measured" if threshold is None else "failed"
        if threshold is not None and value >= threshold:  # NaN fails
            verdict = "passed"
        level = name.removeprefix("rate_u_")
        meaning = MEANINGS.get(name, f"KL of the skip latent of resolution {level}, 1 the coarsest")
        return {
            "diagnostic": name,
            "value": value,
            "unit": UNITS.get(name, "nats per tile" if name.startswith("rate_u") else "no unit"),
            "at_least": np.nan if threshold is None else threshold,
            "verdict": verdict,
            "meaning": meaning,
            "remedy": REMEDIES.get(name) if verdict == "failed" else None,
        }

    return pd.DataFrame([row(name, value) for name, value in found.items()])
