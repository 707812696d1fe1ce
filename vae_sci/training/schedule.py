"""How the step size and beta move over a run."""

from __future__ import annotations

import math


def learning_rate(step: int, total: int, peak: float, warmup: float) -> float:
    """Linear rise over the share `warmup` of `total` steps, then a cosine to a hundredth of it."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return peak * (step + 1) / rise
    done = (step - rise) / max(1, total - rise)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def beta(step: int, total: int, final: float, warmup: float) -> float:
    """Linear rise from 0 to `final` over the share `warmup` of `total` steps (Bowman 2016)."""
    rise = warmup * total
    return final if rise == 0 else final * min(1.0, step / rise)
