"""A plate in S3, served by moto on this machine: TIFF files by name, and OME-Zarr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from vae_sci.config import ImagesSettings, PlateRow
from vae_sci.contracts import FIELDS
from vae_sci.errors import InputError
from vae_sci.images.index import index_plate
from vae_sci.images.read import open_image, read_field, read_planes
from vae_sci.images.watch import digest

pytest.importorskip("s3fs", reason="pip install 'vae_sci[remote]'")
moto = pytest.importorskip("moto.server", reason="pip install 'moto[s3,server]'")

rng = np.random.default_rng(5)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URI of an empty bucket of a server on this machine."""
    import fsspec

    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("plates")
        yield "s3://plates"
    server.stop()


@pytest.fixture
def index(tmp_path: Path) -> Callable[[str], pd.DataFrame]:
    (tmp_path / "map.csv").write_text("well,control\nB02,1\nB03,0\n")

    def run(images: str) -> pd.DataFrame:
        row = PlateRow(plate="P", images=images, platemap=str(tmp_path / "map.csv"))
        index_plate(row, ImagesSettings(), tmp_path / "fields.parquet")
        assert len(digest(row)) == 32
        return FIELDS.read(tmp_path / "fields.parquet")

    return run


def test_tiff_files_by_folder_and_by_glob(
    tmp_path: Path, bucket: str, index: Callable[[str], pd.DataFrame]
) -> None:
    import fsspec

    images = []
    for well in ("B02", "B03"):
        images.append(rng.integers(0, 4000, (2, 40, 50)).astype(np.uint16))
        tifffile.imwrite(tmp_path / "x.tif", images[-1], photometric="minisblack")
        fsspec.filesystem("s3").put(str(tmp_path / "x.tif"), f"{bucket}/raw/P_{well}_s1.tif")
    for where in (f"{bucket}/raw", f"{bucket}/raw/P_*.tif"):
        table = index(where)
        assert list(table["path"].unique()) == [f"{bucket}/raw/P_B0{n}_s1.tif" for n in (2, 3)]
        np.testing.assert_array_equal(read_field(table[2:]), images[1])
    with pytest.raises(InputError, match=r"s3://plates/raw/gone\.tif: no such file"):
        read_planes(f"{bucket}/raw/gone.tif")
    with pytest.raises(InputError, match="s3://plates/nowhere"):
        index(f"{bucket}/nowhere")


def test_an_omezarr_image_by_region(bucket: str) -> None:
    image = rng.integers(0, 4000, (2, 40, 50)).astype(np.uint16)
    group = zarr.create_group(f"{bucket}/x.zarr")
    group.create_array("0", data=image, chunks=(1, 16, 16))
    axes = [{"name": name} for name in "cyx"]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    np.testing.assert_array_equal(read_planes(f"{bucket}/x.zarr").counts, image)
    window = (slice(3, 20), slice(30, 40))
    with open_image(f"{bucket}/x.zarr") as opened:
        np.testing.assert_array_equal(opened.plane(0, 1, 0, window), image[1][window])
    with pytest.raises(InputError, match=r"s3://plates/gone\.zarr"):
        read_planes(f"{bucket}/gone.zarr")


def test_a_protocol_that_is_not_known_is_named() -> None:
    with pytest.raises(InputError, match="nosuch"):
        read_planes("nosuch://bucket/x.tif")
