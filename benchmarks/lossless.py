"""What do lossless codecs pay for the held-out tiles? In bits per pixel and channel.

    python benchmarks/lossless.py --data DIR --json FILE [--results DIR] [--model NAME]

The tiles are the test split of a run (`make example-bbbc021 DATA=DIR`), their values on the
model's grid of grey levels: (value − lowest) / step. Codecs: PNG (16 bits, level 9), zstd (level
22) after a byte shuffle, JPEG-LS, JPEG-XL (lossless, the best of efforts 5 to 9), all through
imagecodecs, which writes JPEG-LS as 16 bits whatever the camera's depth. Everything that a file
holds is paid for, headers too; every file is decoded and compared.

`tile`: every tile by itself, as a model codes it. `one file`: all tiles in a grid, their images
joined (for zstd one after the other), so that a codec can learn from all of them. Each codec is
given the channels in three ways, and the cheapest counts: `stacked`, one grey image with the
channels below each other; `channels`, a grey image per channel; `colour`, one image with them as
its colours (three channels only).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from runs import open_run

from vae_sci.errors import ContractError, VaeSciError
from vae_sci.files import write_json
from vae_sci.likelihoods import GreyLevels
from vae_sci.results import Results

Image = NDArray[np.uint16]

EFFORTS = range(5, 10)


class Codec(NamedTuple):
    """`encode` an image (H, W) or (H, W, 3), uint16; `decode` what it gave, as any shape."""

    encode: Callable[[Image], bytes]
    decode: Callable[[bytes], NDArray[Any]]
    grid: bool = True  # whether it sees images, for which tiles are laid out in a grid


def _jpegxl(image: Image) -> bytes:
    bits = max(1, int(image.max()).bit_length())
    # libjxl takes depths above 8 bits of 16-bit samples alone.
    return min(
        (
            imagecodecs.jpegxl_encode(
                image, effort=effort, lossless=True, bitspersample=max(bits, 9), numthreads=1
            )
            for effort in EFFORTS
        ),
        key=len,
    )


def _zstd(image: Image) -> bytes:
    return bytes(imagecodecs.zstd_encode(imagecodecs.byteshuffle_encode(image.ravel()), 22))


def _unzstd(stream: bytes) -> Image:
    shuffled = np.frombuffer(imagecodecs.zstd_decode(stream), np.uint16)
    return np.asarray(imagecodecs.byteshuffle_decode(shuffled))


CODECS = {
    "PNG": Codec(lambda image: imagecodecs.png_encode(image, 9), imagecodecs.png_decode),
    "zstd, byte shuffle": Codec(_zstd, _unzstd, grid=False),
    "JPEG-LS": Codec(imagecodecs.jpegls_encode, imagecodecs.jpegls_decode),
    "JPEG-XL": Codec(_jpegxl, imagecodecs.jpegxl_decode),
}


def joined(tiles: Image) -> Image:
    """One grey image of tiles (N, H, W) in a grid about as wide as high, its free places at 0."""
    n, h, w = tiles.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    padded = np.zeros((rows * columns, h, w), tiles.dtype)
    padded[:n] = tiles
    grid = padded.reshape(rows, columns, h, w).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grid.reshape(rows * h, columns * w))


def layouts(planes: Image) -> dict[str, list[Image]]:
    """The images that hold planes (C, H, W), by how the channels are given."""
    found = {"stacked": [np.concatenate(list(planes))], "channels": list(planes)}
    if len(planes) == 3:
        found["colour"] = [np.ascontiguousarray(planes.transpose(1, 2, 0))]
    return found


def n_bits(codec: Codec, image: Image) -> int:
    """Size of the coded image in bits; raises `ContractError` where it does not come back."""
    stream = codec.encode(image)
    if not np.array_equal(codec.decode(stream).ravel(), image.ravel()):
        raise ContractError(
            required="a codec that gives back every value",
            found=f"other values after decoding an image of shape {image.shape}",
            action="use imagecodecs as pinned in constraints.txt",
        )
    return 8 * len(stream)


def cheapest(codec: Codec, sets: list[Image], n_values: int) -> tuple[float, str]:
    """Bits per value of `sets` of planes (C, H, W), and the layout that gives them."""
    costs: dict[str, int] = {}
    for planes in sets:
        for name, images in layouts(planes).items():
            costs[name] = costs.get(name, 0) + sum(n_bits(codec, image) for image in images)
    best = min(costs, key=lambda name: costs[name])
    return costs[best] / n_values, best


def codec_costs(levels: Image) -> list[dict[str, Any]]:
    """Bits per value of tiles (N, C, H, W), grey levels in steps: one record per codec."""
    planes = levels.transpose(1, 0, 2, 3)
    records = []
    for name, codec in CODECS.items():
        tile, tile_layout = cheapest(codec, list(levels), levels.size)
        whole = np.stack([joined(p) if codec.grid else np.concatenate(list(p)) for p in planes])
        one, one_layout = cheapest(codec, [whole], levels.size)
        records.append(
            {
                "codec": name,
                "tile_bits_per_pixel_and_channel": tile,
                "tile_layout": tile_layout,
                "one_file_bits_per_pixel_and_channel": one,
                "one_file_layout": one_layout,
            }
        )
    return records


def held_out_levels(run: Results) -> Image:
    """Tiles (N, C, H, W) of the run's test split, in steps above the lowest grey level."""
    cells = run.cells
    card = json.loads((run.path / "models" / run.model / "model.json").read_text())
    held_out = cells[cells["split"] == "test"]
    if held_out.empty:
        raise ContractError(
            required="tiles of the test split",
            found=f"none among {len(cells)} in {run.path}",
            action="lower tiles.split.train and run the workflow again",
        )
    counts = run.tiles(held_out)
    levels = GreyLevels.from_dict(card["grey_levels"]).to_steps(counts)
    return levels.numpy().astype(np.uint16)


def markdown(records: list[dict[str, Any]]) -> str:
    """The costs as a table."""
    lines = [
        "| codec | bits/pixel/channel, tile by tile | as one file |",
        "|---|---|---|",
    ]
    for row in records:
        tile, one = (
            f"{row[f'{how}_bits_per_pixel_and_channel']:.3f} ({row[f'{how}_layout']})"
            for how in ("tile", "one_file")
        )
        lines.append(f"| {row['codec']} | {tile} | {one} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure the codecs; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with cells.csv")
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--results", type=Path, default=Path("results/bbbc021"))
    parser.add_argument("--model", default="vae")
    given = parser.parse_args(arguments)
    try:
        levels = held_out_levels(open_run(given.data, given.results, given.model))
        records = codec_costs(levels)
    except VaeSciError as error:
        print(error, file=sys.stderr)
        return 1
    write_json({"n_tiles": len(levels), "codecs": records}, given.json)
    print(markdown(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
