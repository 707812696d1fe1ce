"""Where cells and nuclei lie and what shape they have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ORDERS = np.array([2, 3, 4])


@dataclass(frozen=True)
class Outline:
    """A star-shaped outline, r(θ) = radius · (1 + Σ_k a_k cos(kθ + φ_k)), k = 2, 3, 4.

    centre (2,) as y, x and radius in pixels; amplitude (3,); phase (3,) in radians.
    """

    centre: Array
    radius: float
    amplitude: Array
    phase: Array

    @classmethod
    def draw(
        cls, rng: np.random.Generator, centre: Array, radius: float, roughness: float
    ) -> Outline:
        """An outline with random amplitudes of mean order `roughness`, falling with k."""
        amplitude = roughness * rng.normal(size=3) * (2 / ORDERS)
        return cls(centre, radius, amplitude, rng.uniform(0, 2 * np.pi, 3))

    def level(self, size: int) -> tuple[tuple[slice, slice], Array]:
        """The window that holds the outline, and distance / r(θ) there: below 1 is inside."""
        reach = self.radius * (1 + np.abs(self.amplitude).sum()) + 1
        low = np.clip(np.floor(self.centre - reach), 0, size).astype(int)
        high = np.clip(np.ceil(self.centre + reach) + 1, 0, size).astype(int)
        window = (slice(low[0], high[0]), slice(low[1], high[1]))
        dy = np.arange(low[0], high[0])[:, None] - self.centre[0]
        dx = np.arange(low[1], high[1])[None, :] - self.centre[1]
        angle = np.arctan2(dy, dx)
        edge = np.ones_like(angle)
        for order, amplitude, phase in zip(ORDERS, self.amplitude, self.phase, strict=True):
            edge += amplitude * np.cos(order * angle + phase)
        return window, np.hypot(dy, dx) / (self.radius * np.maximum(edge, 0.3))


def place_centres(rng: np.random.Generator, count: int, size: int, spacing: float) -> Array:
    """Centres (n, 2) of at most `count` cells in a square of `size` pixels, y and x in pixels.

    Cells grow in patches: four in five are put beside a cell already there, none nearer than
    `spacing` pixels to another. Fewer than `count` come back when no more fit.
    """
    low, high = 4.0, size - 4.0
    centres = rng.uniform(low, high, (1, 2))
    for _ in range(60 * count):
        if len(centres) == count:
            break
        if rng.random() < 0.8:
            angle = rng.uniform(0, 2 * np.pi)
            step = spacing * rng.uniform(1, 1.4) * np.array([np.sin(angle), np.cos(angle)])
            new = centres[rng.integers(len(centres))] + step
        else:
            new = rng.uniform(low, high, 2)
        inside = new.min() >= low and new.max() <= high
        if inside and np.hypot(*(centres - new).T).min() >= spacing:
            centres = np.vstack([centres, new])
    return centres


def label_cells(outlines: list[Outline], size: int) -> NDArray[np.uint16]:
    """Labels (size, size): 0 outside, i + 1 in cell i; where outlines overlap, the nearer wins."""
    labels = np.zeros((size, size), np.uint16)
    nearest = np.ones((size, size))
    for label, outline in enumerate(outlines, start=1):
        window, level = outline.level(size)
        wins = level < nearest[window]
        nearest[window][wins] = level[wins]
        labels[window][wins] = label
    return labels


def place_nuclei(rng: np.random.Generator, centre: Array, area: float, count: int) -> list[Outline]:
    """The nuclei of one cell: `count` outlines side by side, around `centre`.

    area : what a single nucleus would have, square pixels; `count` nuclei share
        area · sqrt(count), so that each is smaller and all together are larger.
    """
    radius = np.sqrt(area / np.pi / np.sqrt(count))
    ring = 0.0 if count == 1 else 1.08 * radius / np.sin(np.pi / count)
    angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(count) / count
    places = centre + ring * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return [Outline.draw(rng, place, radius, roughness=0.05) for place in places]


def draw_nuclei(
    nuclei: list[tuple[int, Outline]], cells: NDArray[np.uint16]
) -> tuple[NDArray[np.uint16], Array]:
    """Masks and thickness of nuclei, both (size, size).

    nuclei : pairs of cell label and outline. The mask carries the label of the cell, so that
    the nuclei of one cell share it; thickness is 1 in the middle of a nucleus, 0 outside.
    """
    size = cells.shape[0]
    labels, thickness = np.zeros_like(cells), np.zeros(cells.shape)
    for label, outline in nuclei:
        window, level = outline.level(size)
        inside = (level < 1) & (cells[window] == label)
        labels[window][inside] = label
        dome = np.sqrt(np.maximum(1 - 0.7 * level**2, 0)) * inside
        np.maximum(thickness[window], dome, out=thickness[window])
    return labels, thickness
