"""What the likelihoods that know the camera are told: a calibration, or what the tiles tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vae_sci.config import LikelihoodSettings
from vae_sci.errors import InputError
from vae_sci.images.photon_transfer import photon_transfer
from vae_sci.likelihoods import CameraNoise, GreyLevels
from vae_sci.training.stream import TileStream

FAMILIES = ("poisson", "negative_binomial", "camera")
TILES = 1000  # looked at for the line of variance against mean: plenty
ROUNDING = 1 / 12  # levels², which integrating over a level adds by itself

Numbers = tuple[float, float, float, float]  # gain, constant, offset, read noise; grey levels


def camera_noise(
    settings: LikelihoodSettings, grey_levels: GreyLevels, stream: TileStream, seed: int
) -> CameraNoise | None:
    """The camera's noise in levels; None for a likelihood that does not ask for it.

    From the file that the settings name (`vae-sci calibrate`), else by photon transfer from up to
    1,000 tiles of `stream`.

    Raises `InputError` where the file cannot be used, or no channel's variance grows with its mean.
    """
    if settings.name not in FAMILIES:
        return None
    if settings.calibration:
        found = _read(Path(settings.calibration), grey_levels.n_channels)
        source = settings.calibration
    else:
        tiles = next(stream.shuffled(min(TILES, stream.n_tiles), (seed,))).counts
        lines = photon_transfer(tiles, seed=seed)
        found = [(line.gain.value, line.constant.value, np.nan, np.nan) for line in lines]
        source = "photon transfer of the training tiles"
    gains, offsets, variances = [], [], []
    for channel, (gain, constant, offset, read_noise) in enumerate(found):
        if not gain > 0:
            raise InputError(
                required=f"a gain above 0 for likelihood {settings.name}: camera noise grows with "
                "the signal",
                found=f"{gain:.3g} in channel {channel} ({source})",
                action="calibrate from raw frames (vae-sci calibrate), or choose a likelihood that "
                "needs no camera, such as logistic_mixture",
            )
        lowest, step = grey_levels.lowest[channel], grey_levels.step[channel]
        gains.append(gain / step)
        if np.isnan(offset):
            # Only the line is known: that of a camera without read noise, dark where it meets 0.
            line = (constant + gain * lowest) / step**2 - ROUNDING
            offsets.append(-line * step / gain)
            variances.append(0.0)
        else:
            offsets.append((offset - lowest) / step)
            variances.append((read_noise / step) ** 2)
    return CameraNoise(tuple(gains), tuple(offsets), tuple(variances))


def _read(path: Path, n_channels: int) -> list[Numbers]:
    """Gain, line constant, offset and read noise (NaN: not known) per channel of a calibration."""
    try:
        channels = json.loads(path.read_text())["channels"]
        found = [
            tuple(
                np.nan if channel[name] is None else float(channel[name]["value"])
                for name in ("gain", "line_constant", "offset", "read_noise")
            )
            for channel in channels
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            required="a calibration.json of vae-sci calibrate",
            found=f"{path}: {type(error).__name__}: {error}",
            action="calibrate again, or correct model.likelihood.calibration",
        ) from None
    if len(found) != n_channels:
        raise InputError(
            required=f"{n_channels} channels, in the order of the tiles' channels",
            found=f"{len(found)} in {path}",
            action="calibrate from images with the same channels",
        )
    return found  # type: ignore[return-value]
