"""Uneven light: how the grey levels that a camera sees differ from those under even light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_sci.likelihoods.grey_levels import GreyLevels


# A tuple, not a frozen dataclass: Lightning Fabric rebuilds what passes through a wrapped model.
class Light(NamedTuple):
    """The light on some tiles: level = dark + gain · (level under even light − dark).

    Parameters
    ----------
    gain : (N, C, H, W), share of the light that reaches each pixel, above 0; 1: even light.
    dark : (N, C, 1, 1), levels without light.
    """

    gain: Tensor
    dark: Tensor

    @classmethod
    def on(cls, grey_levels: GreyLevels, gain: np.ndarray, offset: np.ndarray) -> Light:
        """In levels, from gain (N, C, H, W) and offset (N, C) or (C,), raw grey levels."""
        dark = (offset - np.array(grey_levels.lowest)) / np.array(grey_levels.step)
        dark = np.broadcast_to(dark, gain.shape[:2]).astype(np.float32)
        return cls(torch.from_numpy(gain), torch.from_numpy(dark)[:, :, None, None])

    @classmethod
    def joined(cls, parts: Sequence[tuple[Tensor, Light | None]]) -> Light | None:
        """That on several batches of tiles together: levels (n, C, H, W) of each, and its light."""
        if all(light is None for _, light in parts):
            return None
        gains, darks = [], []
        for levels, light in parts:
            even = torch.ones_like(levels, dtype=torch.float32)
            gains.append(even if light is None else light.gain)
            darks.append(torch.zeros_like(even[:, :, :1, :1]) if light is None else light.dark)
        return cls(torch.cat(gains), torch.cat(darks))

    def to(self, device: torch.device) -> Light:
        return Light(self.gain.to(device), self.dark.to(device))

    def of(self, rows: slice | Tensor) -> Light:
        """That on some of the tiles."""
        return Light(self.gain[rows], self.dark[rows])

    # Both written so that a gain of 1 changes not the last digit.
    def seen(self, even: Tensor) -> Tensor:
        """Levels (N, C, H, W) under even light → those that the camera sees."""
        return even * self.gain + self.dark * (1 - self.gain)

    def evened(self, levels: Tensor) -> Tensor:
        """The inverse of `seen`; from 0, since roots are taken."""
        return ((levels - self.dark * (1 - self.gain)) / self.gain).clamp(min=0)
