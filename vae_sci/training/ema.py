"""Averaged weights: what is published, smoother than any single step (Polyak & Juditsky 1992)."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update(average: nn.Module, current: nn.Module, decay: float, step: int) -> None:
    """Move `average` toward `current`; early on faster, so that the start is soon forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.parameters(), current.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
