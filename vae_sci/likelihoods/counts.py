"""What the two families of counts share: positive means, levels below the dark, log-gammas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vae_sci.errors import ContractError
from vae_sci.likelihoods.base import Likelihood
from vae_sci.likelihoods.grey_levels import GreyLevels
from vae_sci.likelihoods.light import Light

# Share of the lowest count that the levels below it divide up, each e times less than the next:
# counts cannot be negative, but read noise can, and a level without mass would stop a training.
LEAK = 0.01
MIN_SIGNAL = 1e-3  # levels above dark that are always there, so that a mean is never 0
# Signal at raw output 0, in standard deviations of the channel, at least: a channel whose mean
# is at the dark level, or below it by an error of calibration, starts there.
MIN_START = 0.05
STIRLING = 10.0  # from here the series of `stirling_rest` is exact to 1e-12


class CountLikelihood(Likelihood):
    """A family of counts above the camera's dark level.

    Parameters
    ----------
    dark : levels, the mean without light, one number per channel.
    """

    dark: Tensor
    start: Tensor

    def __init__(
        self,
        grey_levels: GreyLevels,
        centre: Sequence[float],
        scale: Sequence[float],
        dark: Sequence[float],
    ) -> None:
        super().__init__(grey_levels, centre, scale)
        self.register_buffer("dark", self.per_channel(dark))
        if not (self.dark < self.top).all():
            raise ContractError(
                required="a dark level below each channel's highest level",
                found=f"dark {list(dark)}, highest {self.top.flatten().tolist()}",
                action="calibrate again; gain, offset and read variance are in levels, not counts",
            )
        signal = (self.centre - self.dark) / self.scale
        self.register_buffer("start", signal.clamp(min=MIN_START).expm1().log())

    def signal(self, raw: Tensor, light: Light | None = None) -> Tensor:
        """Raw output → mean above dark, levels, above 0: the channel's at 0, then linear.

        ``scale · softplus(start + raw)``: a bright spot costs the same effort at any brightness.
        Times the share of the light: above the camera's dark, not the flat field's, so that it
        stays above 0.
        """
        even = MIN_SIGNAL + self.scale * F.softplus(self.start + raw)
        return even if light is None else even * light.gain


def log_share(levels: Tensor, first: Tensor) -> Tensor:
    """Log share of the lowest count that each level gets, for levels up to `first`.

    levels, first : integers, broadcastable; beyond `first` the answer is that at `first`.
    Level `first` keeps all but `LEAK`; those below get the rest, each e times less than the one
    above it. The shares of levels 0 … first sum to 1.
    """
    below = (first - levels).double()
    tail = math.log(LEAK) + 1 - below
    tail = tail + torch.where(levels > 0, math.log(-math.expm1(-1.0)), 0.0)
    kept = torch.where(first > 0, math.log1p(-LEAK), 0.0)
    return torch.where(below > 0, tail, kept)


def draw_share(first: Tensor, shape: torch.Size) -> Tensor:
    """Levels by which draws of the lowest count fall below `first`, float64; see `log_share`."""
    uniform = torch.rand((2, *shape), dtype=torch.float64, device=first.device)
    depth = 1 + torch.floor(-torch.log1p(-uniform[0]))
    return torch.where(uniform[1] < LEAK, depth, 0.0)


def log_rising(z: Tensor, k: Tensor) -> Tensor:
    """log Γ(z + k) − log Γ(z) − k log z, float64, for z > 0 and k ≥ 0: without cancellation.

    It goes to 0 as z grows; the difference of two log-gammas, each of order z log z, does not.
    """
    large = z > STIRLING
    wide = torch.where(large, z, STIRLING)
    series = (wide + k - 0.5) * torch.log1p(k / wide) - k
    series = series + (stirling_rest(wide + k) - stirling_rest(wide))
    small = torch.where(large, 1.0, z)
    direct = torch.lgamma(small + k) - torch.lgamma(small) - k * torch.log(small)
    return torch.where(large, series, direct)


def stirling_rest(z: Tensor) -> Tensor:
    """log Γ(z) − [(z − ½) log z − z + ½ log 2π], for z ≥ `STIRLING` (A & S 6.1.41)."""
    r = 1 / (z * z)
    return (1 / 12 + r * (-1 / 360 + r * (1 / 1260 - r / 1680))) / z
