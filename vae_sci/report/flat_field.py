"""The flat field of a plate: how much light reaches each pixel, how strong and how sure that is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vae_sci.images.flat_field import FlatField
from vae_sci.report.style import Picture, canvas, drawing, finish, number, save


def report(plate: str, found: FlatField, channels: list[str], stem: Path) -> None:
    """Draw `stem`.png and .svg; print each channel's strength."""
    with drawing():
        save(flat_field(plate, found, channels), stem)
    for c, channel in enumerate(channels):
        print(f"{channel}: {_told(found, c)}")


def flat_field(plate: str, found: FlatField, channels: list[str]) -> Picture:
    """One map per channel, on one scale."""
    figure = canvas(max(4.2, 2.4 * len(channels)), 2.4)
    axes = figure.subplots(1, len(channels), squeeze=False).ravel()
    reach = max(0.05, float(np.abs(found.gain - 1).max()))
    for c, (axis, channel) in enumerate(zip(axes, channels, strict=True)):
        step = max(1, found.gain.shape[1] // 256)
        image = axis.imshow(
            found.gain[c, ::step, ::step], cmap="RdBu", vmin=1 - reach, vmax=1 + reach
        )
        axis.set_title(channel)
        axis.set_xlabel(_told(found, c).replace("; ", "\n"))
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(image, ax=list(axes), label="light over its mean", shrink=0.8)
    return finish(
        figure,
        f"Flat field of plate {plate}",
        "Share of the light that reaches each pixel, by the plate's own images. Below: its range "
        "over its mean with one standard error. A channel that is not corrected counts as even.",
    )


def _told(found: FlatField, channel: int) -> str:
    """Strength, uncertainty and what follows from them, in words."""
    if np.isnan(found.strength[channel]):
        return "not told; not corrected"
    range_ = f"{100 * found.strength[channel]:.1f} ± {100 * found.uncertainty[channel]:.1f} %"
    if not found.used[channel]:
        return f"{range_}; not corrected"
    return f"{range_}; offset {number(found.offset[channel])}"
