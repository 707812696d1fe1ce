"""The seam between a decoder and p(x | z): raw numbers in, a distribution over grey levels out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.nn import functional as F

from vae_sci.errors import ContractError
from vae_sci.likelihoods.grey_levels import GreyLevels
from vae_sci.likelihoods.light import Light

# Standard deviation, in steps, of the rounding to whole levels: the least that a channel can have.
ROUNDING_SD = 1 / math.sqrt(12)
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
TAME = 8.0  # e^8 standard deviations of a channel are wider than any range of levels


class LevelDistribution(Distribution, ABC):
    """A probability mass over integer levels, independent for every pixel and channel.

    (Where channels are coupled: of each channel, given those before it.)

    A continuous family F, in units of one level, is integrated over each level,
    ``P(x) = F(x + ½) − F(x − ½)``, with the open tails in the lowest and the highest level.
    ``batch_shape`` is (N, C, H, W); there is no event shape. Parameters below float32 are
    promoted, so that the result is float32 or better, under autocast too.

    A family gives ``_log_mass(levels)``, ``_draw(shape)`` (continuous), ``mean`` and ``variance``:

    mean : levels; expectation of the continuous family clipped to the range. It differs from the
        mean of the mass by less than half a level, and hardly at all for scales of a level or more.
    variance : levels²; of the continuous family, not clipped, with the 1/12 of rounding. Too large
        where the tails reach beyond the range, and for scales well below one level.

    Parameters
    ----------
    top : highest level per channel, integers, (C, 1, 1).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self, top: Tensor, batch_shape: torch.Size, validate_args: bool | None = None
    ) -> None:
        self.top = top
        super().__init__(batch_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.top)  # type: ignore[arg-type]

    def log_prob(self, levels: Tensor) -> Tensor:
        """Levels (…, N, C, H, W), integers → log mass in nats per pixel and channel.

        Raises
        ------
        TypeError : levels are not integers; bf16 would already have turned 4095 into 4096.
        ValueError : a level is out of range (where ``validate_args`` is on).
        """
        if levels.is_floating_point():
            raise TypeError(f"levels must be integers, not {levels.dtype}")
        if self._validate_args:
            self._validate_sample(levels)
        with torch.autocast(levels.device.type, enabled=False):
            return self._log_mass(levels)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Levels, int32, ``sample_shape + batch_shape``; drawn exactly from the mass."""
        with torch.no_grad():
            drawn = self._draw(torch.Size(sample_shape) + self.batch_shape)
            return torch.minimum(drawn.round().clamp(min=0), self.top.to(drawn)).to(torch.int32)

    @abstractmethod
    def _log_mass(self, levels: Tensor) -> Tensor:
        """As `log_prob`, of levels that were checked."""

    @abstractmethod
    def _draw(self, shape: torch.Size) -> Tensor:
        """Draws of the continuous family, in levels."""


class Likelihood(nn.Module, ABC):
    """Turns the decoder's raw output into a `LevelDistribution`.

    The decoder's head gives ``n_params`` numbers per image channel, ordered (C, n_params). Raw
    output 0 means: each channel has its mean over the training data and, unless the camera's noise
    law gives it, its standard deviation. So start the head near zero (small weights, zero bias),
    and the first loss is that of a model which knows the marginal mean and spread, nothing else.

    With uneven light the decoder tells what would be seen under even light, and means are those
    that the camera sees (`Light.seen`). A learned scale goes with the root of the light, as the
    noise of photons does: between read noise, which stays, and what the mean leaves open, which
    goes with the light itself (docs/decisions.md).

    Parameters
    ----------
    grey_levels : the grid of each channel.
    centre, scale : mean and standard deviation of each channel over the training data, **in steps
        above the lowest level**, C numbers. A scale below that of rounding is raised to it, so
        that a channel which never changes is harmless.
    """

    n_params: int
    centre: Tensor
    scale: Tensor
    top: Tensor

    def __init__(
        self, grey_levels: GreyLevels, centre: Sequence[float], scale: Sequence[float]
    ) -> None:
        super().__init__()
        numbers = torch.tensor([list(centre), list(scale)], dtype=torch.float64)
        if numbers.shape[1] != grey_levels.n_channels or not numbers.isfinite().all():
            raise ContractError(
                required=f"a finite centre and scale for each of {grey_levels.n_channels} channels",
                found=f"centre {list(centre)}, scale {list(scale)}",
                action="compute the channel statistics again from the tiles",
            )
        self.grey_levels = grey_levels
        shaped = numbers.float().view(2, -1, 1, 1)
        self.register_buffer("centre", shaped[0].clone())
        self.register_buffer("scale", shaped[1].clamp(min=ROUNDING_SD))
        self.register_buffer("top", torch.tensor(grey_levels.n_levels).view(-1, 1, 1) - 1)

    def per_channel(self, numbers: Sequence[float]) -> Tensor:
        """One number per channel → float32 (C, 1, 1).

        Raises
        ------
        ContractError : there are more or fewer numbers than channels.
        """
        if len(numbers) != self.grey_levels.n_channels:
            raise ContractError(
                required=f"one number for each of {self.grey_levels.n_channels} channels",
                found=f"{list(numbers)}",
                action="calibrate every channel of the tiles, in their order",
            )
        return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1)

    def located(self, raw: Tensor, light: Light | None) -> Tensor:
        """A mean (N, C, H, W), in levels: ``centre + scale · raw``, under this light."""
        even = self.centre + self.scale * raw
        return even if light is None else light.seen(even)

    @staticmethod
    def spread(raw: Tensor, at_zero: Tensor, floor: float, light: Light | None) -> Tensor:
        """A scale (N, C, H, W), in levels, in proportion to exp(raw) above a floor; at raw 0 it is
        `at_zero`, under even light.

        The floor is approached, never hit: the gradient fades but does not stop. See `tamed`.
        """
        above = (at_zero - floor) * tamed(raw).exp()
        return floor + (above if light is None else above * light.gain.sqrt())

    def forward(self, params: Tensor, light: Light | None = None) -> LevelDistribution:
        """Raw decoder output (N, C · n_params, H, W), any float type → p(x | z) over levels.

        light : on these tiles; None: even.
        """
        with torch.autocast(params.device.type, enabled=False):
            params = at_least_float32(params).unflatten(1, (-1, self.n_params))
            return self.distribution(params, light)

    @abstractmethod
    def distribution(self, params: Tensor, light: Light | None = None) -> LevelDistribution:
        """Raw output (N, C, n_params, H, W), float32 or float64 → p(x | z); given by a family."""


def tamed(raw: Tensor) -> Tensor:
    """A raw log scale, growing a hundred times more slowly from `TAME` on.

    Pixels at the ceiling can drive a log scale up without end: this does not overflow where exp
    would, and its gradient does not stop either.
    """
    return TAME - F.leaky_relu(TAME - raw, 0.01)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Promote bfloat16 and float16, leave the rest."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def bits_per_pixel(nats: float, n_values: int) -> float:
    """Nats over `n_values` (pixels × channels, of one tile or of many) → bits per value."""
    return nats / (n_values * math.log(2))
