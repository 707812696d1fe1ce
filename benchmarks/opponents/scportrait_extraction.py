"""Single cells of fields with masks, cut by scPortrait, for `benchmarks/tiling.py --scportrait`.

    PYTHON benchmarks/opponents/scportrait_extraction.py --fields DIR --out DIR [--processes N]

PYTHON is that of an environment of its own (`pip install scportrait==1.8.0`, with numpy 2.0, zarr
3.1 and spatialdata 0.7.3): its pins do not go with requirements.txt. The folder of fields holds
images/NAME_wC.tif, one file a channel, and masks/NAME_w1.tif, labels of cells, which it takes as
they are. Prints one line of JSON.

The fields are stacked into one image, one below the other: scPortrait's project is one image and
takes a second before its first cell, which one project a field would pay every time. Dropped are
cells whose centre lies within half a tile of the edge of that image; those at seams between fields
are cut, where ours drops every cell that touches the edge of its field.

seconds: `Project.extract` alone, which reads image, labels and centres from SpatialData's store
and writes its HDF5 file. load_seconds, not among them: TIFF to that store, and centres of cells
(compiled by numba at its first call), both of which ours does within its time. peak_mb: of
extraction, with what loading left behind, and the memory that workers share counted in each.

Not the same product: scPortrait multiplies crops by the cell's blurred mask, stretches each channel
of each cell to 0 to 1 and keeps float16 (lzf); ours keeps raw counts and the mask apart (zstd).
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask.array
import h5py
import numpy as np
import tifffile
from numpy.typing import NDArray
from scportrait.pipeline.extraction import HDF5CellExtraction
from scportrait.pipeline.project import Project
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel

SIZE = 64


def read_fields(folder: Path) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """All fields as one image (C, N·H, W), and their labels (N·H, W), none of them twice."""
    images, labels, last = [], [], 0
    for path in sorted((folder / "masks").glob("*_w1.tif")):
        name = path.stem.removesuffix("_w1")
        channels = sorted((folder / "images").glob(f"{name}_w*.tif"))
        images.append(np.stack([tifffile.imread(channel) for channel in channels]))
        mask = tifffile.imread(path).astype(np.uint32)
        labels.append(np.where(mask > 0, mask + last, 0).astype(np.uint32))
        last += int(mask.max())
    return np.concatenate(images, axis=1), np.concatenate(labels)


def open_project(out: Path, processes: int) -> Project:
    """The project in the folder `out`, made unless it is there."""
    out.mkdir(exist_ok=True)  # a project with settings from a dictionary does not make it
    config = {"threads": processes, "image_size": SIZE, "cache": str(out / "cache")}
    return Project(
        out, {HDF5CellExtraction.__name__: config}, extraction_f=HDF5CellExtraction, debug=False
    )


def load(fields: Path, out: Path, processes: int) -> float:
    """Bring the fields into a project; seconds it took."""
    start = time.perf_counter()
    image, labels = read_fields(fields)
    chunk = Project.DEFAULT_CHUNK_SIZE_3D
    # Its extraction reads no image of a single scale, and no channels without names.
    parsed = Image2DModel.parse(
        dask.array.from_array(image, chunks=chunk),
        c_coords=[f"channel_{c}" for c in range(len(image))],
        scale_factors=[2],
    )
    masks = Labels2DModel.parse(dask.array.from_array(labels, chunks=chunk[1:]))
    data = SpatialData(images={"fields": parsed}, labels={"cells": masks})
    data.write(out / "fields.zarr")
    open_project(out / "project", processes).load_input_from_sdata(
        out / "fields.zarr", "fields", cytosol_segmentation_name="cells", overwrite=True
    )
    return time.perf_counter() - start


def extract(out: Path, processes: int) -> dict[str, Any]:
    """Cut the cells of the project; their number, seconds and memory."""
    project = open_project(out / "project", processes)
    start = time.perf_counter()
    project.extract()
    seconds = time.perf_counter() - start
    with h5py.File(project.extraction_f.output_path) as file:
        cells = file[project.extraction_f.IMAGE_DATACONTAINER_NAME].shape[0]
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0])
    if processes > 1:
        peak += processes * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"cells": cells, "seconds": seconds, "peak_mb": peak / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--fields", type=Path, required=True, help="folder of images and masks")
    parser.add_argument("--out", type=Path, required=True, help="folder to make and write into")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    out = given.out.resolve()
    load_seconds = load(given.fields, out, given.processes)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    found = extract(out, given.processes)
    found["load_seconds"] = load_seconds
    found["what"] = f"scPortrait {version('scportrait')}: Project.extract on one stacked image"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
