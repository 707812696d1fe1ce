"""Mitochondria and fibres: curves that grow inside cells, drawn with sub-pixel accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.uint16]


@dataclass(frozen=True)
class Curves:
    """Curves of unit steps: points (T, n, 2) as y, x in pixels, length (n,) of valid points,
    owner (n,) the label of the cell that each curve lies in."""

    points: Array
    length: NDArray[np.int64]
    owner: NDArray[np.int64]

    def dots(self) -> tuple[Array, NDArray[np.int64]]:
        """All valid points (m, 2) and the label of the cell that each lies in (m,)."""
        valid = np.arange(len(self.points))[:, None] < self.length
        return self.points[valid], np.broadcast_to(self.owner, valid.shape)[valid]


def grow(
    rng: np.random.Generator,
    territory: Labels,
    start: Array,
    heading: Array,
    steps: int,
    wobble: Array | float,
    push: tuple[Array, Array] | None = None,
) -> Curves:
    """Grow smooth random curves one pixel a step until they leave their cell's territory.

    territory : labels (size, size) of where each cell's curves may run.
    start : (n, 2) pixels; heading : (n,) radians; wobble : noise of curvature, radians a step.
    push : fields (size, size) of a vector (y, x) that turns curves away from walls.
    Curvature follows an autoregression, so that curves bend as stiff filaments do.
    """
    size = territory.shape[0]
    pixel = np.rint(start).astype(int)
    owner = territory[pixel[:, 0], pixel[:, 1]].astype(np.int64)
    points = np.empty((steps, *start.shape))
    alive = np.ones(len(start), bool)
    length = np.zeros(len(start), np.int64)
    here, bend = start.copy(), np.zeros(len(start))
    kicks = rng.normal(size=(steps, len(start))) * wobble
    for step in range(steps):
        pixel = np.clip(np.rint(here).astype(int), 0, size - 1)
        alive &= (territory[pixel[:, 0], pixel[:, 1]] == owner) & (np.abs(here - pixel) <= 0.5).all(
            1
        )
        length += alive
        points[step] = here
        bend = 0.85 * bend + kicks[step]
        heading = heading + bend
        dy, dx = np.sin(heading), np.cos(heading)
        if push is not None:
            dy = dy + push[0][pixel[:, 0], pixel[:, 1]]
            dx = dx + push[1][pixel[:, 0], pixel[:, 1]]
            heading = np.arctan2(dy, dx)
            dy, dx = np.sin(heading), np.cos(heading)
        here = here + np.stack([dy, dx], axis=1) * alive[:, None]
    return Curves(points, length, owner)


def fragment(rng: np.random.Generator, curves: Curves, amount: Array) -> Curves:
    """Break curves into pieces: 0 leaves them whole, 1 makes dots; no point is lost.

    amount : (n,) from 0 to 1. Each curve is divided into pieces of 8 to 15 pixels; the points
    of a piece move towards its middle, and pieces drift and swell. Mass is conserved, since
    every point is kept.
    """
    steps, count, _ = curves.points.shape
    period, phase = rng.uniform(8, 15, count), rng.uniform(0, 15, count)
    last = np.maximum(curves.length - 1, 0)
    s = np.arange(steps)[:, None]
    piece = ((s + phase) // period).astype(int)
    middle = np.clip((piece + 0.5) * period - phase, 0, last)
    s = np.clip(middle + (s - middle) * (1 - 0.85 * amount), 0, last)
    low = s.astype(int)
    part = (s - low)[..., None]
    index = np.arange(count)
    points = (1 - part) * curves.points[low, index] + part * (
        curves.points[np.minimum(low + 1, last), index]
    )
    drift = rng.normal(size=(piece.max() + 1, count, 2))[piece, index]
    swell = rng.normal(size=points.shape)
    points = points + amount[None, :, None] * (1.5 * drift + 0.6 * swell)
    return Curves(points, curves.length, curves.owner)


def splat(points: Array, owner: NDArray[np.int64], size: int, mass: Array) -> Array:
    """Draw points (m, 2) as an image (size, size) in which cell i's points sum to mass[i].

    owner : (m,) labels; mass : (cells,) electrons, entry i for label i + 1. Each point is shared
    among its four nearest pixels (bilinear); points beyond the border fall on its pixels.
    """
    count = np.bincount(owner - 1, minlength=len(mass))
    weight = (mass / np.maximum(count, 1))[owner - 1]
    y, x = np.clip(points, 0, size - 1.001).T
    row, column = y.astype(int), x.astype(int)
    fy, fx = y - row, x - column
    image = np.zeros(size * size)
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            flat = (row + dy) * size + column + dx
            image += np.bincount(flat, weight * wy * wx, minlength=size * size)
    return image.reshape(size, size)


def _choose(
    rng: np.random.Generator, territory: Labels, centres: Array, per_area: float, reach: float
) -> Array:
    """Starting points (n, 2) in the cells, `per_area` a pixel, denser near a cell's centre.

    reach : pixels over which the density falls.
    """
    y, x = np.nonzero(territory)
    own = territory[y, x] - 1
    density = np.exp(-0.5 * ((np.stack([y, x], 1) - centres[own]) ** 2).sum(1) / reach**2)
    inside = np.bincount(own, minlength=len(centres))
    density *= (inside / np.maximum(np.bincount(own, density, len(centres)), 1e-9))[own]
    chosen = rng.random(len(y)) < per_area * density
    return np.stack([y[chosen], x[chosen]], axis=1) + rng.uniform(-0.4, 0.4, (chosen.sum(), 2))


def mitochondria(
    rng: np.random.Generator,
    territory: Labels,
    depth: Array,
    centres: Array,
    fragmentation: Array,
    mass: Array,
) -> Array:
    """Mitochondria (size, size), electrons: branched tubules, or fragments of them.

    territory : labels of the cytoplasm; depth : distance to its wall, pixels;
    centres (cells, 2) pixels; fragmentation (cells,) 0 to 1; mass (cells,) electrons.
    """
    wall = np.clip(1 - depth / 3, 0, 1) * 0.5
    slope = np.gradient(depth)
    push = (slope[0] * wall, slope[1] * wall)

    start = _choose(rng, territory, centres, per_area=0.0055, reach=11)
    pixel = np.rint(start).astype(int)
    outward = start - centres[territory[pixel[:, 0], pixel[:, 1]] - 1]
    heading = np.arctan2(*outward.T) + rng.normal(0, 1.2, len(start))
    trunks = grow(rng, territory, start, heading, 26, 0.035, push)

    twice = np.repeat(np.arange(len(start)), 2)
    at = (rng.random(len(twice)) ** 2 * trunks.length[twice]).astype(int)
    root = trunks.points[at, twice]
    along = trunks.points[np.minimum(at + 1, len(trunks.points) - 1), twice] - root
    side = rng.choice([-1.0, 1.0], len(twice)) * rng.uniform(0.7, 1.4, len(twice))
    branches = grow(rng, territory, root, np.arctan2(*along.T) + side, 14, 0.04, push)

    dots = [
        fragment(rng, curves, fragmentation[curves.owner - 1]).dots()
        for curves in (trunks, branches)
    ]
    points, owner = (np.concatenate(parts) for parts in zip(*dots, strict=True))
    return splat(points, owner, len(territory), mass)


def fibres(
    rng: np.random.Generator, cells: Labels, centres: Array, alignment: Array, mass: Array
) -> Array:
    """Fibres (size, size), electrons: a radial net at alignment 0, all parallel at 1.

    cells : labels; centres (cells, 2) pixels; alignment (cells,) 0 to 1; mass (cells,) electrons.
    Directions are mixed as nematic directors, that is at twice their angle, as a fibre has no
    head and no tail (de Gennes, The Physics of Liquid Crystals, 1974).
    """
    start = _choose(rng, cells, centres, per_area=0.006, reach=30)
    pixel = np.rint(start).astype(int)
    own = cells[pixel[:, 0], pixel[:, 1]] - 1
    free = np.arctan2(*(start - centres[own]).T) + rng.normal(0, 0.7, len(start))
    common = rng.uniform(0, np.pi, len(centres))[own]
    order = alignment[own]
    mixed = (1 - order) * np.exp(2j * free) + order * np.exp(2j * common)
    heading = np.angle(mixed) / 2
    wobble = 0.03 * (1 - 0.9 * order)
    both = grow(
        rng,
        cells,
        np.concatenate([start, start]),
        np.concatenate([heading, heading + np.pi]),
        36,
        np.concatenate([wobble, wobble]),
    )
    return splat(*both.dots(), len(cells), mass)
