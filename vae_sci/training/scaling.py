"""What the model must know of its data before the first step: grey levels and channel scales."""

from __future__ import annotations

import numpy as np

from vae_sci.errors import InputError
from vae_sci.likelihoods import GreyLevels, Light, detect_grey_levels
from vae_sci.model.vae import Scaling
from vae_sci.training.stream import TileStream

BLOCK = 128  # tiles looked at together


def measure(every: TileStream, training: TileStream) -> tuple[GreyLevels, Scaling]:
    """Grey levels of `every` tile of the screen, and scaling of the `training` tiles.

    The camera's ceiling must hold for cells that training never sees. The scaling is that of levels
    under even light.

    Raises `InputError` when there are no tiles.
    """
    if training.n_tiles == 0:
        raise InputError(
            required="at least one tile to train on",
            found="no cell in a training well on any plate",
            action="raise tiles.split.train, add plates, or look into results/ledger",
        )
    levels = detect_grey_levels(batch.counts for batch in every.in_order(BLOCK))
    count, sums = 0, np.zeros((3, levels.n_channels))
    for batch in training.in_order(BLOCK):
        seen, light = levels.to_steps(batch.counts), training.light(batch)
        even = seen if light is None else Light.on(levels, *light).evened(seen)
        values = even.numpy().astype(np.float64)
        count += values.shape[0] * values.shape[2] * values.shape[3]
        for row, power in enumerate((1.0, 2.0, 0.5)):
            sums[row] += (values**power).sum(axis=(0, 2, 3))
    mean, square, root = sums / count
    sd = np.sqrt(np.maximum(square - mean**2, 0))
    root_sd = np.sqrt(np.maximum(mean - root**2, 0))
    return levels, Scaling(
        mean=tuple(mean.tolist()),
        sd=tuple(sd.tolist()),
        root_mean=tuple(root.tolist()),
        # A channel that never changes is given as 0 everywhere, not as 0/0.
        root_sd=tuple(np.maximum(root_sd, 1e-3).tolist()),
    )
