"""Calibrate a camera from image files: gain, and with dark frames offset and read noise.

What images can tell and what they cannot is said in words, beside the numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_sci import __version__
from vae_sci.errors import InputError
from vae_sci.files import write_json
from vae_sci.images.patches import Array, Evidence
from vae_sci.images.photon_transfer import Dark, Interval, Line, dark_level, fit_line, interval
from vae_sci.images.read import read_frames

FILE = "calibration.json"
MODEL = "variance = gain × (mean − offset) + read_noise² + step²/12 = gain × mean + line_constant"
FOREIGN = 0.1  # relative spread of noise between images that is worth a word
BENT = 0.2  # relative deviation from the line that is worth a word
UNEQUAL = 0.05  # relative difference between two ways to measure noise that is worth a word


@dataclass(frozen=True, eq=False)
class Channel:
    """One channel: its line, the line of the images alone, and its dark frames if any.

    frame_correlation : of neighbouring frames, scene and noise together; None for single images.
    """

    line: Line
    alone: Line
    dark: Dark | None
    frame_correlation: float | None

    @property
    def _known_gain(self) -> bool:
        return self.line.gain.low > 0 and self.alone.gain.high > 0

    @property
    def offset(self) -> Interval | None:
        """Grey levels; None without dark frames."""
        return None if self.dark is None else self.dark.offset

    @property
    def read_noise(self) -> Interval | None:
        """Grey levels, without rounding; None without dark frames."""
        if self.dark is None:
            return None
        variance = np.append(self.dark.variance.value, self.dark.draws[:, 1])
        noise = np.sqrt(np.maximum(variance - self.line.step**2 / 12, 0))
        return interval(noise[0], noise[1:])

    @property
    def least_offset(self) -> Interval | None:
        """Grey level at which the line meets the variance of rounding: the offset if there is no
        read noise, else less than the offset. None where dark frames tell it."""
        if self.dark is not None or not self._known_gain:
            return None
        return _of_line(self.line, lambda gain, c: (self.line.step**2 / 12 - c) / gain)

    @property
    def known(self) -> str:
        """What the images tell."""
        low, high = self.line.mean_range
        span = f"for means from {low:.0f} to {high:.0f} grey levels"
        if not self._known_gain:
            levels = "" if self.dark is None else "offset and read noise, by the dark frames; and "
            return f"{levels}only that the variance does not rise surely with the mean, {span}"
        if self.dark is None:
            return f"the gain and the line's constant, r² + step²/12 − gain × offset, {span}"
        return f"gain, offset and read noise: the whole noise model, {span}"

    @property
    def unknown(self) -> str:
        """What they cannot tell."""
        if not self._known_gain:
            levels = "gain, offset and read noise" if self.dark is None else "the gain"
            return f"{levels}: these images do not show a camera's line"
        if self.dark is None:
            level = self.least_offset
            bound = f"; the offset is at least {level.low:.4g}" if level and level.low > 0 else ""
            return f"offset and read noise apart cannot be known without dark frames{bound}"
        return "what differs from pixel to pixel: offset, gain and read noise are the channel's"

    @property
    def remarks(self) -> list[str]:
        """What to know before the numbers are used; empty if all is as it should be."""
        line = self.line
        told = [
            self._rising(),
            self._frames(),
            self._correlated(),
            self._fine_structure(),
            self._dark_frames(),
        ]
        if line.spread < 0.9:
            told.append(
                f"brightness hardly varies: {1 - line.spread:.0%} of the spread of the patches' "
                "means is noise; give images with dark and bright areas"
            )
        if line.between_images is not None and line.between_images > FOREIGN:
            told.append(
                f"at equal brightness the noise of the images differs by {line.between_images:.0%} "
                "(standard deviation): other gains, images scaled one by one, or fine structure"
            )
        if line.misfit > BENT:
            told.append(
                f"the points lie {line.misfit:.0%} off the line: not the counts of one camera at "
                "one setting, or fine structure at some brightness"
            )
        if line.saturated > 0:
            told.append(
                f"{100 * line.saturated:.2g} % of the pixels are at {line.ceiling}, the highest "
                "level; patches with such pixels were left out"
            )
        if line.zeros_kept:
            told.append(
                f"noise is cut at 0 nearly everywhere ({line.at_zero:.1%} of the pixels): the "
                "variance of dim areas, and so the line's constant, cannot be trusted"
            )
        if line.step > 1:
            told.append(
                f"grey levels come in steps of {line.step}: all figures are in grey levels as "
                f"stored; in steps the gain is {line.gain.value / line.step:.4g}"
            )
        return [text for text in told if text]

    def _rising(self) -> str | None:
        gain = self.alone.gain
        if self._known_gain:
            return None
        return (
            f"by the images alone the gain is {gain.value:.3g} ({gain.low:.3g} to "
            f"{gain.high:.3g}): images that were compressed with loss, denoised, averaged or "
            "scaled have no photon transfer line"
        )

    def _frames(self) -> str | None:
        if self.frame_correlation is None:
            return None
        shared = f"neighbouring frames correlate at {self.frame_correlation:.2f}"
        check = self.line.check
        if check is None:
            return f"{shared}; with so few frames, whether their noise does cannot be known"
        apart = f"frames two apart differ by {check.value:.2f} times the variance of neighbours"
        if abs(check.value - 1) <= UNEQUAL:
            return f"{shared}: their common scene, since their noise is independent ({apart})"
        return (
            f"{shared}, and not only by their common scene ({apart}): the gain is too low if "
            "frames were averaged or denoised, too high if the scene moves"
        )

    def _correlated(self) -> str | None:
        line = self.line
        if line.along not in ("columns", "rows"):
            return None
        other = "rows" if line.along == "columns" else "columns"
        return (
            f"noise is correlated along {other} (read-out, interpolation): the variance is that of "
            f"single pixels, by differences along {line.along}; along both axes the gain would be "
            f"{line.gains['both axes']:.3g}. Whether one electron gives more or fewer grey levels "
            "than this gain, single images cannot tell"
        )

    def _fine_structure(self) -> str | None:
        check = self.line.check
        if check is None or self.line.along == "frames" or abs(check.value - 1) <= UNEQUAL:
            return None
        if check.value > 1:
            return (
                f"a coarser difference gives a gain {check.value - 1:.0%} higher: structure as "
                "fine as the noise is counted as noise, or noise is smoothed; repeated frames "
                "would tell"
            )
        return (
            f"a coarser difference gives a gain {1 - check.value:.0%} lower: the images were "
            "sharpened or compressed with loss"
        )

    def _dark_frames(self) -> str | None:
        if self.dark is None:
            return None
        offset, variance = self.dark.offset.value, self.dark.variance.value
        expected = _of_line(self.alone, lambda gain, c: gain * offset + c)
        text = ""
        if self.dark.at_zero > 0.001:
            text = (
                f"dark frames are cut at 0 ({self.dark.at_zero:.0%} of the pixels): offset and "
                "read noise are those of a normal distribution that is cut there. "
            )
        away = not expected.low <= variance <= expected.high
        if away and abs(expected.value - variance) > variance / 4:
            text += (
                f"the images alone put the variance without light at {expected.value:.3g} "
                f"({expected.low:.3g} to {expected.high:.3g}), the dark frames at {variance:.3g}: "
                "other settings, a fixed pattern, or a camera that is not linear"
            )
        return text.strip() or None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        line = self.line

        def plain(estimate: Interval | None) -> dict[str, float] | None:
            return None if estimate is None else estimate._asdict()

        return {
            "gain": plain(line.gain),
            "line_constant": plain(line.constant),
            "offset": plain(self.offset),
            "read_noise": plain(self.read_noise),
            "least_offset": plain(self.least_offset),
            "known": self.known,
            "unknown": self.unknown,
            "remarks": self.remarks,
            "patches": {"used": line.patches, "found": line.found, "pixels": 64},
            "mean_range": list(line.mean_range),
            "step": line.step,
            "rounding_variance": line.step**2 / 12,
            "ceiling": line.ceiling,
            "saturated_share": line.saturated,
            "zero_share": line.at_zero,
            "differences_along": line.along,
            "gain_by_differences": line.gains,
            "check": plain(line.check),
            "frame_correlation": self.frame_correlation,
            "between_images": line.between_images,
            "misfit": line.misfit,
            "points": [point._asdict() for point in line.points],
        }


@dataclass(frozen=True, eq=False)
class Calibration:
    """The channels of one camera, and the files that tell of them."""

    channels: list[Channel]
    repeated: bool
    images: list[Path]
    dark: list[Path]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Intervals are 95 %; units: grey levels as stored; gain grey
        levels per electron, constant and variances grey levels squared."""
        return {
            "model": MODEL,
            "method": "repeated frames" if self.repeated else "single images",
            "images": [str(path) for path in self.images],
            "dark": [str(path) for path in self.dark],
            "channels": [
                {"channel": k, **channel.to_dict()} for k, channel in enumerate(self.channels)
            ],
            "version": __version__,
        }

    def write(self, folder: Path) -> None:
        """Write `calibration.json`; `read_numbers` reads it."""
        write_json(self.to_dict(), folder / FILE)


class Numbers(NamedTuple):
    """A channel's noise, grey levels as stored; NaN where it is not known."""

    gain: float
    constant: float
    offset: float = math.nan
    read_noise: float = math.nan


def read_numbers(path: Path, n_channels: int) -> list[Numbers]:
    """Gain, line constant, offset and read noise of each channel of a calibration's file.

    Grey levels as stored; NaN where one is not known. Raises `InputError` where the file is not
    one of `Calibration.write`, or has another number of channels.
    """
    try:
        channels = json.loads(path.read_text())["channels"]
        found = [
            Numbers(
                *(
                    math.nan if channel[name] is None else float(channel[name]["value"])
                    for name in ("gain", "line_constant", "offset", "read_noise")
                )
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
    return found


def calibrate(
    images: Sequence[Path],
    dark: Sequence[Path] = (),
    repeated: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Photon transfer of image files, per channel.

    images : with the same channels each; further files are further patches.
    dark : frames without light, one sequence; of the same channels, or one for all.
    repeated : each stack is a sequence of frames of one scene; files of one frame are together one
        sequence.
    progress : called with (files read, files in all).
    Raises `InputError` where files cannot be read, do not fit each other, or tell too little.
    """
    gathered: list[Evidence] = []
    loose: list[tuple[Path, NDArray[Any]]] = []
    for done, path in enumerate(images, start=1):
        stack = read_frames(path, repeated)
        gathered = gathered or [Evidence(repeated) for _ in range(stack.shape[1])]
        if stack.shape[1] != len(gathered):
            raise InputError(
                required=f"{len(gathered)} channels in every image, as in {images[0]}",
                found=f"{stack.shape[1]} in {path}",
                action="calibrate images of one kind at a time",
            )
        if repeated and len(stack) == 1:
            loose.append((path, stack))
        else:
            for evidence, planes in zip(gathered, stack.swapaxes(0, 1), strict=True):
                evidence.add(planes)
        if progress is not None:
            progress(done, len(images) + len(dark))
    if loose:
        sequence = _sequence(loose)
        if len(sequence) < 2:
            raise InputError(
                required="two frames of one scene or more, for --repeated",
                found=f"one frame: {loose[0][0]}",
                action="give the other frames too, or leave out --repeated",
            )
        for evidence, planes in zip(gathered, sequence.swapaxes(0, 1), strict=True):
            evidence.add(planes)

    levels: list[Dark | None] = [None] * len(gathered)
    if dark:
        frames = _sequence([(path, read_frames(path, repeated=True)) for path in dark])
        if frames.shape[1] not in (1, len(gathered)):
            raise InputError(
                required=f"dark frames of one channel, or of {len(gathered)} as the images",
                found=f"{frames.shape[1]} channels in {dark[0]}",
                action="give the dark frames of the same camera",
            )
        known = [dark_level(frames[:, k], seed) for k in range(frames.shape[1])]
        levels = [known[k % len(known)] for k in range(len(gathered))]
        if progress is not None:
            progress(len(images) + len(dark), len(images) + len(dark))

    channels = []
    for k, (evidence, level) in enumerate(zip(gathered, levels, strict=True)):
        alone = fit_line(evidence, f"channel {k}", seed=seed)
        line = alone if level is None else fit_line(evidence, f"channel {k}", level, seed)
        shared = float(np.mean(evidence.correlations)) if evidence.correlations else None
        channels.append(Channel(line, alone, level, shared))
    return Calibration(channels, repeated, list(images), list(dark))


def _of_line(line: Line, function: Callable[[Array, Array], Array]) -> Interval:
    """A function of gain and constant, with its interval."""
    gain, constant = np.vstack([[line.gain.value, line.constant.value], line.draws]).T
    values = function(gain, constant)
    return interval(values[0], values[1:])


def _sequence(files: list[tuple[Path, NDArray[Any]]]) -> NDArray[Any]:
    """The frames (T, C, H, W) of all files, one after the other."""
    first, shape = files[0][0], files[0][1].shape[1:]
    for path, frames in files:
        if frames.shape[1:] != shape:
            raise InputError(
                required=f"frames of one size: channels, height, width {shape}, as in {first}",
                found=f"{frames.shape[1:]} in {path}",
                action="give frames of one camera at one setting",
            )
    return np.concatenate([frames for _, frames in files])
