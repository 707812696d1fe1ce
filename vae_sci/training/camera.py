"""What the likelihoods that know the camera are told: a calibration, or what the tiles tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vae_sci.config import LikelihoodSettings
from vae_sci.errors import InputError
from vae_sci.images.calibrate import Numbers, read_numbers
from vae_sci.images.photon_transfer import photon_transfer
from vae_sci.likelihoods import CAMERA_FAMILIES, CameraNoise, GreyLevels
from vae_sci.training.stream import TileStream

TILES = 1000  # looked at for the line of variance against mean: plenty
ROUNDING = 1 / 12  # levels², which integrating over a level adds by itself


def camera_noise(
    settings: LikelihoodSettings, grey_levels: GreyLevels, stream: TileStream, seed: int
) -> CameraNoise | None:
    """The camera's noise in levels; None for a likelihood that does not ask for it.

    From the file that the settings name (`vae-sci calibrate`), else by photon transfer from up to
    1,000 tiles of `stream`.

    Raises `InputError` where the file cannot be used, or a channel's variance does not grow with
    its mean.
    """
    if settings.name not in CAMERA_FAMILIES:
        return None
    if settings.calibration:
        found = read_numbers(Path(settings.calibration), grey_levels.n_channels)
        source = settings.calibration
    else:
        tiles = next(stream.shuffled(min(TILES, stream.n_tiles), (seed,))).counts
        lines = photon_transfer(tiles, seed=seed)
        found = [Numbers(line.gain.value, line.constant.value) for line in lines]
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
