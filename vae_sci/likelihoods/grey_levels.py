"""The grey levels that a camera can give, per channel: detected, recorded, and used as the unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_sci.errors import ContractError, InputError

BIT_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class GreyLevels:
    """The grid of counts of each channel: ``lowest, lowest + step, …, highest``.

    A *level* is a count's index on that grid, ``0 … n_levels − 1``; likelihoods work in levels.

    Parameters
    ----------
    lowest, step, highest : one integer per channel, in raw counts.

    Raises
    ------
    ContractError : the numbers describe no grid.
    """

    lowest: tuple[int, ...]
    step: tuple[int, ...]
    highest: tuple[int, ...]

    def __post_init__(self) -> None:
        sound = len(self.lowest) == len(self.step) == len(self.highest) > 0 and all(
            step >= 1 and high > low and (high - low) % step == 0
            for low, step, high in zip(self.lowest, self.step, self.highest, strict=True)
        )
        if not sound:
            raise ContractError(
                required="grey levels with one lowest, step and highest per channel, step 1 or "
                "more, and highest a whole number of steps above lowest",
                found=f"lowest {self.lowest}, step {self.step}, highest {self.highest}",
                action="detect the grey levels again from the tiles, or restore the model's file",
            )

    @property
    def n_channels(self) -> int:
        return len(self.step)

    @property
    def n_levels(self) -> tuple[int, ...]:
        """Number of grey levels of each channel, 4096 for a 12-bit camera."""
        return tuple(
            (high - low) // step + 1
            for low, step, high in zip(self.lowest, self.step, self.highest, strict=True)
        )

    def to_steps(self, counts: np.ndarray | Tensor) -> Tensor:
        """Counts ``(N, C, H, W)``, raw grey levels of integer type → levels, int32, same shape.

        Raises
        ------
        InputError : a value lies off the grid or outside its range. The message names the channel,
            the value and where it lies; the caller adds the file or the cell.
        """
        counts = torch.as_tensor(counts)
        if counts.ndim != 4 or counts.shape[1] != self.n_channels or _not_integer(counts.dtype):
            raise InputError(
                required=f"counts of an integer type, shape (N, {self.n_channels}, H, W)",
                found=f"{counts.dtype}, shape {tuple(counts.shape)}",
                action="give the raw counts with the channels that the model was made for",
            )
        values = counts.to(torch.int64)
        lowest, step, highest = (
            torch.tensor(numbers, device=values.device).view(-1, 1, 1)
            for numbers in (self.lowest, self.step, self.highest)
        )
        levels = (values - lowest).div(step, rounding_mode="floor")
        wrong = (values < lowest) | (values > highest) | (levels * step + lowest != values)
        if wrong.any():
            tile, channel, y, x = wrong.nonzero()[0].tolist()
            raise InputError(
                required=f"channel {channel}: counts {self.lowest[channel]}, "
                f"{self.lowest[channel] + self.step[channel]}, … {self.highest[channel]} "
                f"(step {self.step[channel]})",
                found=f"{int(values[tile, channel, y, x])} in channel {channel} of tile {tile}, "
                f"at y {y}, x {x} ({int(wrong.sum())} such values)",
                action="leave out the image, or detect the grey levels again with it included; "
                "an image that was rescaled, averaged or compressed with loss has no such grid",
            )
        return levels.to(torch.int32)

    def to_counts(self, levels: Tensor) -> Tensor:
        """Levels ``(…, C, H, W)`` → raw counts of the same shape; the inverse of `to_steps`.

        Integers stay integers, exactly; real numbers, such as a predicted mean, become float64.
        """
        step, lowest = (
            torch.tensor(numbers, device=levels.device).view(-1, 1, 1)
            for numbers in (self.step, self.lowest)
        )
        exact = torch.float64 if levels.is_floating_point() else torch.int64
        counts = levels.to(exact) * step + lowest
        return counts if levels.is_floating_point() else counts.to(torch.int32)

    def to_dict(self) -> dict[str, list[int]]:
        """Plain lists for the model's JSON file."""
        return {name: list(numbers) for name, numbers in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> GreyLevels:
        """The inverse of `to_dict`."""
        names = ("lowest", "step", "highest")
        if set(record) != set(names):
            raise ContractError(
                required=f"a record of grey levels with {', '.join(names)}",
                found=f"the keys {', '.join(map(str, record)) or '(none)'}",
                action="restore the model's file, or train the model again",
            )
        return cls(*(tuple(int(number) for number in record[name]) for name in names))


def detect_grey_levels(blocks: Iterable[np.ndarray]) -> GreyLevels:
    """Read the grid off the counts themselves, one block at a time.

    Parameters
    ----------
    blocks : arrays ``(N, C, H, W)`` of raw counts of an integer type; read once, none is kept.

    The step is the greatest common divisor of all differences within a channel (1 for a channel
    that never changes). The ceiling is that of the smallest camera, of 8, 10, 12, 14 or 16 bits,
    whose levels hold the largest one observed **in any channel**: channels of one image share a
    camera, and a dim channel must not be given a ceiling that its next bright cell exceeds. It
    never exceeds what the data type can hold. 12-bit data stored shifted by four bits so get
    step 16 and ceiling 65520. Where counts are negative (dark-subtracted) the floor is the
    mirror image of the ceiling.

    Raises
    ------
    InputError : there are no counts, they are not integers, or they exceed 16 bits.
    """
    seen: _Seen | None = None
    for block in blocks:
        if block.ndim != 4 or block.dtype.kind not in "iu" or block.size == 0:
            raise InputError(
                required="blocks of raw counts, integers, shape (N, C, H, W), not empty",
                found=f"{block.dtype}, shape {block.shape}",
                action="read the raw images; declare the scale of images stored as real numbers",
            )
        seen = seen or _Seen(block)
        seen.add(block)
    if seen is None:
        raise InputError(
            required="at least one tile to read the grey levels from",
            found="none",
            action="look in the ledger for the step that dropped every tile",
        )
    low, high, step = seen.low, seen.high, np.maximum(seen.gcd, 1)
    anchor = seen.first % step
    top = int(((high - anchor) // step).max())
    bottom = int(((low - anchor) // step).min())
    fitting = [bits for bits in BIT_DEPTHS if top < 2**bits and -bottom < 2**bits]
    if not fitting:
        raise InputError(
            required="counts of at most 16 bits",
            found=f"counts from {low.min()} to {high.max()} in steps of {step.min()}",
            action="give the camera's own counts, not sums over images",
        )
    span = 2 ** fitting[0] - 1
    highest = anchor + np.minimum(span, (np.iinfo(seen.dtype).max - anchor) // step) * step
    lowest = anchor - (span * step if bottom < 0 else 0)
    return GreyLevels(*(tuple(row.tolist()) for row in (lowest, step, highest)))


FEW = 32  # distinct counts of a channel below which its step is not judged


def need_step(levels: GreyLevels, counts: np.ndarray) -> None:
    """Raise `InputError` where a channel of `counts` keeps to a coarser grid than `levels`.

    counts : (N, C, H, W), raw grey levels. Shifted 12-bit counts, for example, all lie on a 16-bit
    grid, but a sixteenth of its levels never come: they are another camera's. A channel of few
    distinct counts may keep to a coarser grid by chance and is let pass.
    """
    for channel, step in enumerate(levels.step):
        distinct = np.unique(counts[:, channel]).astype(np.int64)
        found = int(np.gcd.reduce(np.diff(distinct))) if len(distinct) > FEW else step
        if found > step:
            raise InputError(
                required=f"channel {channel}: counts in steps of {step}",
                found=f"{len(distinct)} distinct counts, all in steps of {found}",
                action="give images of the same camera and bit depth, or train a model on these",
            )


class _Seen:
    """What detection keeps of the blocks read so far: four numbers per channel."""

    def __init__(self, block: np.ndarray) -> None:
        self.dtype = block.dtype
        self.first = block[0, :, 0, 0].astype(np.int64)
        self.low = self.high = self.first
        self.gcd = np.zeros_like(self.first)  # of all differences to `first`

    def add(self, block: np.ndarray) -> None:
        self.low = np.minimum(self.low, block.min(axis=(0, 2, 3)))
        self.high = np.maximum(self.high, block.max(axis=(0, 2, 3)))
        # Once the divisor is 1 nothing can change it; finding it is the slow part.
        for channel in np.flatnonzero(self.gcd != 1):
            differences = np.unique(block[:, channel]).astype(np.int64) - self.first[channel]
            self.gcd[channel] = np.gcd.reduce(np.append(differences, self.gcd[channel]))


def _not_integer(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex or dtype == torch.bool
