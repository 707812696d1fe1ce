"""Many-channel tiles as colour composites and mosaics, in one contrast for a whole figure."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch, Rectangle

from vae_sci.errors import ContractError
from vae_sci.report.style import FAINT, VERMILLION, shorten
from vae_sci.tiles.store import COLOURS, CONTRAST, read_rows, store_array

LOW, HIGH = CONTRAST


def read_tiles(results: Path, cell_ids: pd.Series, tiles: pd.DataFrame) -> np.ndarray:
    """The raw tiles (N, C, H, W) of these cells, in their order."""
    found = tiles.set_index("cell_id")[["plate", "tile"]].reindex(cell_ids)
    if found["tile"].isna().any():
        raise ContractError(
            required="a tile of every cell in phenotypes/{model}/cells.parquet",
            found=f"none of cell {found.index[found['tile'].isna()][0]} in {results / 'tiles'}",
            action="run the workflow again: tiles and phenotypes are of different runs",
        )
    parts: list[tuple[pd.Index, np.ndarray]] = []
    for plate, part in found.reset_index().groupby("plate"):
        array = store_array(results / "tiles" / f"{plate}.zarr")
        parts.append((part.index, read_rows(array, part["tile"].to_numpy(dtype=np.int64))))
    order = np.argsort(np.concatenate([index for index, _ in parts]))
    return np.concatenate([pixels for _, pixels in parts])[order]


def limits(originals: np.ndarray) -> np.ndarray:
    """Black and full-colour grey level per channel, (C, 2), from originals (N, C, H, W)."""
    pooled = np.moveaxis(originals, 1, 0).reshape(originals.shape[1], -1)
    low, high = np.percentile(pooled, (LOW, HIGH), axis=1)
    return np.stack([low, np.maximum(high, low + 1)], axis=1)


def scaled(counts: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Counts (N, C, H, W) between the limits (C, 2), as 0 … 1."""
    low, high = contrast[:, 0, None, None], contrast[:, 1, None, None]
    return np.clip((counts - low) / (high - low), 0, 1)


def composite(counts: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Colour images (N, H, W, 3), 0 … 1, of counts (N, C, H, W).

    Channels are laid over each other as light through screens, 1 − Π(1 − a·colour), so that
    nothing is clipped. One channel is grey; past six channels, the first six are shown.
    """
    light = scaled(counts, contrast)
    if light.shape[1] == 1:
        return np.repeat(light[:, 0, :, :, None], 3, axis=3)
    dark = np.ones((*light.shape[:1], *light.shape[2:], 3))
    for channel, colour in zip(np.moveaxis(light, 1, 0), COLOURS, strict=False):
        dark *= 1 - channel[..., None] * np.array(to_rgb(colour))
    return 1 - dark


def channel_legend(channels: Sequence[str]) -> list[Patch]:
    """The colours of the composites; none for a single channel, which is grey."""
    if len(channels) == 1:
        return []
    return [
        Patch(facecolor=colour, edgecolor=FAINT, linewidth=0.5, label=shorten(name, 24))
        for name, colour in zip(channels, COLOURS, strict=False)
    ]


def contrast_note(channels: Sequence[str], contrast: np.ndarray) -> str:
    """What black and full colour stand for, in grey levels."""
    spans = "; ".join(
        f"{name} {low:.0f}–{high:.0f}" for name, (low, high) in zip(channels, contrast, strict=True)
    )
    note = (
        f"One contrast for all panels: grey levels {spans} (percentiles {LOW:g} and {HIGH:g} of "
        "the original tiles)."
    )
    if len(channels) > len(COLOURS):
        note += f" Composites show the first {len(COLOURS)} of {len(channels)} channels."
    return note


@dataclass(frozen=True)
class Mosaic:
    """Tiles in one image: `x` and `y` are the first columns and rows of the tiles, in pixels."""

    image: np.ndarray
    x: tuple[int, ...]
    y: tuple[int, ...]
    shape: tuple[int, int]

    @property
    def centres(self) -> tuple[list[float], list[float]]:
        """Middles of the columns and of the rows, in pixels."""
        height, width = self.shape
        return [x + width / 2 for x in self.x], [y + height / 2 for y in self.y]


def mosaic(
    rows: Sequence[Sequence[np.ndarray | None]],
    column_breaks: Collection[int] = (),
    row_breaks: Collection[int] = (),
) -> Mosaic:
    """Lay images (H, W, 3) on white; a wider gap goes before the columns and rows of a break."""
    height, width = next(tile.shape[:2] for row in rows for tile in row if tile is not None)
    gap = max(1, round(width / 20))
    columns = max(len(row) for row in rows)
    x = [c * (width + gap) + 4 * gap * sum(b <= c for b in column_breaks) for c in range(columns)]
    y = [r * (height + gap) + 4 * gap * sum(b <= r for b in row_breaks) for r in range(len(rows))]
    image = np.ones((y[-1] + height, x[-1] + width, 3))
    for top, row in zip(y, rows, strict=True):
        for left, tile in zip(x, row, strict=False):
            if tile is not None:
                image[top : top + height, left : left + width] = tile
    return Mosaic(image, tuple(x), tuple(y), (height, width))


def show(axis: Axes, picture: Mosaic) -> None:
    """Draw a mosaic without frame; ticks stand at the middles of rows and columns."""
    axis.imshow((picture.image * 255).round().astype(np.uint8))
    x, y = picture.centres
    axis.set_xticks(x, [""] * len(x))
    axis.set_yticks(y, [""] * len(y))
    axis.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    axis.spines[:].set_visible(False)


def mark_synthetic(
    axis: Axes, picture: Mosaic, rows: Iterable[int], columns: Iterable[int]
) -> None:
    """Frame these tiles of a mosaic as made by the model."""
    height, width = picture.shape
    for row, column in itertools.product(rows, columns):
        axis.add_patch(
            Rectangle(
                (picture.x[column] - 0.5, picture.y[row] - 0.5),
                width,
                height,
                fill=False,
                edgecolor=VERMILLION,
                linewidth=0.8,
                clip_on=False,
            )
        )


def spread(count: int, wanted: int) -> np.ndarray:
    """Up to `wanted` positions spread evenly over `count`, first and last included."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))
