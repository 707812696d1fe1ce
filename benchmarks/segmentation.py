"""How many nuclei are found, against outlines drawn by hand?

    python benchmarks/segmentation.py --data DIR --json FILE [--figure FILE.png] [--every N]

DIR has `images/` and `masks/` (a label per nucleus) and `fields.csv`, whose columns `image_file`
and `mask_file` name them. A found nucleus counts where its overlap with a true one, intersection
over union (IoU), is above 0.5, or above 0.75; precision, recall and F1 per image and over all
objects of all images.

`nuclei` is what the tiles are made with, at its default settings, no size given. `otsu` is the
plain opponent: Otsu's threshold of the smoothed image, holes filled, specks left out, split by a
watershed on the smoothed distance transform from peaks that rise at least a pixel above their
saddle (h-maxima). `--figure` draws the ten images in which `nuclei` is worst.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter
from scipy.ndimage import label as connected
from skimage.filters import threshold_otsu
from skimage.morphology import h_maxima
from skimage.segmentation import find_boundaries, watershed

from vae_sci.errors import InputError, VaeSciError
from vae_sci.files import write_json
from vae_sci.images.read import read_planes
from vae_sci.tiles.segment import nuclei_of_size

Labels = NDArray[np.integer]

OVERLAPS = (0.5, 0.75)
WORST = 10


def otsu(image: NDArray[Any]) -> Labels:
    """Labels (H, W) by Otsu's threshold and a watershed on the distance transform."""
    smooth = gaussian_filter(image.astype(np.float32), 1)
    objects, _ = connected(binary_fill_holes(smooth > threshold_otsu(smooth)))
    mask = (objects > 0) & (np.bincount(objects.ravel())[objects] > 50)
    depth = gaussian_filter(distance_transform_edt(mask), 1)
    seeds, _ = connected(h_maxima(depth, 1) & mask, np.ones((3, 3)))
    return np.asarray(watershed(-depth, seeds, mask=mask))


METHODS: dict[str, Callable[[NDArray[Any]], Labels]] = {
    "nuclei": lambda image: nuclei_of_size(image)[0],
    "otsu": otsu,
}


def matches(found: Labels, true: Labels) -> dict[float, int]:
    """Overlap (IoU) → pairs of labels 1, 2, … of `found` and `true` (H, W) that overlap by more.

    Above 0.5 no label can be in two pairs.
    """
    both = np.zeros((int(found.max()) + 1, int(true.max()) + 1))
    np.add.at(both, (found.ravel(), true.ravel()), 1)
    union = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    overlap = (both / np.maximum(union, 1))[1:, 1:]
    return {least: int((overlap > least).sum()) for least in OVERLAPS}


def count(labels: Labels) -> int:
    return len(np.unique(labels[labels > 0]))


def scores(rows: pd.DataFrame) -> dict[str, float]:
    """Precision, recall and F1 over the objects of `rows`; without any object 1."""
    found, true = rows["found"].sum(), rows["true"].sum()
    result: dict[str, float] = {"found": int(found), "true": int(true)}
    for least in OVERLAPS:
        hits = rows[f"hits_{least}"].sum()
        result[f"precision_{least}"] = float(hits / found) if found else float(not true)
        result[f"recall_{least}"] = float(hits / true) if true else float(not found)
        result[f"f1_{least}"] = float(2 * hits / (found + true)) if found + true else 1.0
    return result


def listed(folder: Path, every: int) -> pd.DataFrame:
    """Every `every`-th row of fields.csv; raises `InputError` where it cannot be used."""
    path = folder / "fields.csv"
    fields = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    lacking = {"image_file", "mask_file"} - set(fields)
    if lacking:
        raise InputError(
            required=f"{path} with the columns image_file and mask_file",
            found=f"no {', '.join(sorted(lacking))}" if path.is_file() else "no such file",
            action="give the folder of a set of images with a label per nucleus",
        )
    return fields[::every]


def measure(folder: Path, every: int) -> pd.DataFrame:
    """One row per image and method: hits, found, true, seconds."""
    rows = []
    for field in listed(folder, every).itertuples():
        image = read_planes(folder / str(field.image_file))[0][0]
        true = read_planes(folder / str(field.mask_file))[0][0]
        for method, run in METHODS.items():
            start = time.perf_counter()
            found = run(image)
            seconds = time.perf_counter() - start
            row: dict[str, Any] = {"image": field.image_file, "method": method, "seconds": seconds}
            row |= {"found": count(found), "true": count(true)}
            row |= {f"hits_{least}": n for least, n in matches(found, true).items()}
            rows.append(row | scores(pd.DataFrame([row])))
    return pd.DataFrame(rows)


def draw(folder: Path, images: list[str], titles: list[str], path: Path) -> None:
    """The images with true outlines in orange, found ones in blue, both where they agree white."""
    from matplotlib.patches import Patch

    from vae_sci.report.style import BLUE, ORANGE, canvas, drawing, finish, save

    with drawing():
        figure = canvas(7.2, 1.6 * -(-len(images) // 4))
        axes = figure.subplots(-(-len(images) // 4), 4, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, name, title in zip(axes, images, titles, strict=False):
            image = read_planes(folder / name)[0][0]
            true = read_planes(folder / name.replace("images/", "masks/"))[0][0]
            found = METHODS["nuclei"](image)
            low, high = np.percentile(image, (1, 99.8))
            grey = np.clip((image - low) / max(high - low, 1), 0, 1) ** 0.6
            colour = np.repeat(grey[..., None] * 0.8, 3, axis=2)
            colour[find_boundaries(true, mode="inner")] = (0.9, 0.62, 0)
            edge = find_boundaries(found, mode="inner")
            colour[edge] = np.where(
                find_boundaries(true, mode="inner")[edge][:, None], 1.0, (0.0, 0.6, 1.0)
            )
            axis.imshow(colour, interpolation="nearest")
            axis.set_title(title)
        save(
            finish(
                figure,
                "Images in which fewest nuclei are found",
                "Outlines: orange drawn by hand, blue found, white both. F1 at an overlap (IoU) "
                "above 0.5.",
                legend=[
                    Patch(color=ORANGE, label="drawn by hand"),
                    Patch(color=BLUE, label="found"),
                ],
            ),
            path.with_suffix(""),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of images and masks")
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--figure", type=Path, help="picture of the ten worst images")
    parser.add_argument("--every", type=int, default=1, help="take every N-th image")
    given = parser.parse_args()
    rows = measure(given.data, given.every)
    total = {name: scores(part) for name, part in rows.groupby("method")}
    wide = pd.DataFrame(total).T
    ours = rows[rows["method"] == "nuclei"].sort_values("f1_0.5", kind="stable")
    other = rows[rows["method"] == "otsu"].set_index("image")["f1_0.5"]
    table = ours.assign(otsu=ours["image"].map(other))
    columns = ["image", "true", "found", "precision_0.5", "recall_0.5", "f1_0.5", "f1_0.75", "otsu"]
    print(table[columns].to_string(index=False, float_format="{:.3f}".format))
    print(f"\nover all objects of {len(ours)} images of {given.data.name}")
    print(wide.to_string(float_format="{:.3f}".format))
    seconds = rows.groupby("method")["seconds"].median()
    print("seconds per image, median: " + ", ".join(f"{n} {s:.2f}" for n, s in seconds.items()))
    write_json(
        {"data": given.data.name, "total": total, "images": rows.to_dict("records")}, given.json
    )
    if given.figure:
        worst = ours.head(WORST)
        titles = [
            f"{Path(name).stem[:12]}  {f1:.2f}"
            for name, f1 in zip(worst["image"], worst["f1_0.5"], strict=True)
        ]
        draw(given.data, list(worst["image"]), titles, given.figure)


if __name__ == "__main__":
    try:
        main()
    except VaeSciError as error:
        sys.exit(str(error))
