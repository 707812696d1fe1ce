"""The camera's noise law, in levels: what the families that know the camera are told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vae_sci.errors import ContractError

NAMES = ("gain", "offset", "read_variance")


@dataclass(frozen=True)
class CameraNoise:
    """``variance = gain · (mean − offset) + read_variance``, per channel (Foi 2008).

    Everything is in levels, as likelihoods are, not in raw counts. The variance against the mean
    is a line, and only that line matters here: its slope is the gain, and offset and read
    variance enter as ``read_variance − gain · offset`` alone. Where only that is known, give
    offset ``−constant / gain`` and read variance 0.

    Parameters
    ----------
    gain : levels per photo-electron, above 0, one number per channel.
    offset : levels, mean of a dark frame, one number per channel.
    read_variance : levels², variance of a dark frame, one number per channel.

    Raises
    ------
    ContractError : the numbers describe no camera.
    """

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    read_variance: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = [*self.gain, *self.offset, *self.read_variance]
        sound = (
            len(self.gain) == len(self.offset) == len(self.read_variance) > 0
            and all(math.isfinite(number) for number in numbers)
            and min(self.gain) > 0
            and min(self.read_variance) >= 0
        )
        if not sound:
            raise ContractError(
                required="a camera's noise with one gain (above 0), offset and read variance "
                "(0 or more) per channel, in levels",
                found=f"gain {self.gain}, offset {self.offset}, read_variance {self.read_variance}",
                action="calibrate again, or restore the calibration's file",
            )

    @property
    def constant(self) -> tuple[float, ...]:
        """levels², the variance that the line gives at level 0: read variance − gain · offset."""
        return tuple(
            r - g * o for g, o, r in zip(self.gain, self.offset, self.read_variance, strict=True)
        )

    @property
    def dark(self) -> tuple[float, ...]:
        """levels, the mean at which the line gives variance 0.

        Counted from there, photons and read noise are together close to one Poisson variable of
        the same gain: the read variance is that of ``read_variance / gain²`` more photons
        (Huang et al. 2013).
        """
        return tuple(-c / g for g, c in zip(self.gain, self.constant, strict=True))

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists for the model's JSON file."""
        return {name: list(numbers) for name, numbers in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CameraNoise:
        """The inverse of `to_dict`."""
        if set(record) != set(NAMES):
            raise ContractError(
                required=f"a record of camera noise with {', '.join(NAMES)}",
                found=f"{sorted(record)}",
                action="calibrate again, or restore the calibration's file",
            )
        return cls(*(tuple(float(number) for number in record[name]) for name in NAMES))
