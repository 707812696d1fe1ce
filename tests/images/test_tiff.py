"""TIFF of every kind as one image, as written; claims without pixels are refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from vae_sci.errors import InputError
from vae_sci.images.read import open_image, read_plane, read_planes
from vae_sci.images.tiff import read_page

rng = np.random.default_rng(0)


def counts(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return rng.integers(0, 250, shape).astype(dtype)


def write_ome(path: Path, image: np.ndarray, axes: str, names: list[str], **more: Any) -> Path:
    metadata = {"axes": axes, "Channel": {"Name": names}, "PhysicalSizeX": 0.5}
    tifffile.imwrite(path, image, ome=True, metadata=metadata, **more)
    return path


@pytest.mark.parametrize("axes", ["TCZYX", "TZCYX", "CZYX", "ZCYX", "CYX", "ZYX", "YX"])
@pytest.mark.parametrize("more", [{}, {"tile": (16, 32), "compression": "zlib"}, {"bigtiff": True}])
def test_ome_axes_in_any_order(tmp_path: Path, axes: str, more: dict[str, Any]) -> None:
    length = dict(zip("TCZYX", (2, 3, 4, 40, 50), strict=True))
    image = counts(*(length[axis] for axis in axes))
    names = ["dna", "actin", "er"] if "C" in axes else ["dna"]
    path = write_ome(tmp_path / "x.ome.tif", image, axes, names, **more)
    with open_image(path) as opened:
        sizes = tuple(length[axis] if axis in axes else 1 for axis in "TCZYX")
        assert opened.sizes == sizes
        assert opened.channel_names == tuple(names)
        assert opened.pixel_size_um == 0.5
        full = image.transpose([axes.index(a) for a in "TCZYX" if a in axes]).reshape(sizes)
        place = (sizes[0] - 1, sizes[1] - 1, sizes[2] - 1)
        np.testing.assert_array_equal(opened.plane(*place), full[place])
        window = (slice(3, 30), slice(17, 20))
        np.testing.assert_array_equal(opened.plane(*place, window), full[place][window])


def test_depths_are_projected_or_chosen(tmp_path: Path) -> None:
    image = counts(2, 5, 40, 50)
    path = write_ome(tmp_path / "x.ome.tif", image, "CZYX", ["a", "b"])
    np.testing.assert_array_equal(read_planes(path, z="max").counts, image.max(axis=1))
    mean = np.rint(image.mean(axis=1)).astype(np.uint16)
    np.testing.assert_array_equal(read_planes(path, z="mean").counts, mean)
    np.testing.assert_array_equal(read_planes(path, z=4).counts, image[:, 3])
    with pytest.raises(InputError, match=r"images: z.*\n.*5 depths in .*x\.ome\.tif"):
        read_planes(path)
    with pytest.raises(InputError, match="number 6"):
        read_planes(path, z=6)


def test_the_mean_of_bright_depths_does_not_overflow(tmp_path: Path) -> None:
    image = np.full((5, 8, 8), 65535, np.uint16)
    path = write_ome(tmp_path / "x.ome.tif", image, "ZYX", ["a"])
    assert (read_planes(path, z="mean").counts == 65535).all()


def test_a_time_point_is_chosen(tmp_path: Path) -> None:
    image = counts(3, 40, 50)
    path = write_ome(tmp_path / "x.ome.tif", image, "TYX", ["a"])
    np.testing.assert_array_equal(read_planes(path, time=2).counts[0], image[1])
    with pytest.raises(InputError, match="3 time points"):
        read_planes(path)
    with pytest.raises(InputError, match="number 4"):
        read_planes(path, time=4)


def test_a_region_of_a_tiled_pyramid_is_read_alone_at_full_resolution(tmp_path: Path) -> None:
    image = counts(512, 512)
    path = tmp_path / "x.ome.tif"
    with tifffile.TiffWriter(path) as tif:
        tile = {"tile": (64, 64), "compression": "zlib"}
        tif.write(image, subifds=1, metadata={"axes": "YX"}, **tile)
        tif.write(image[::2, ::2], subfiletype=1, **tile)
    with open_image(path) as opened:
        assert opened.sizes[-2:] == (512, 512)
        np.testing.assert_array_equal(opened.plane(0, 0, 0), image)
    # All tiles but the first are spoilt: a window in the first is still read.
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        spoilt = list(zip(page.dataoffsets, page.databytecounts, strict=True))[1:]
    with path.open("r+b") as file:
        for offset, count in spoilt:
            file.seek(offset)
            file.write(b"\xff" * count)
    window = (slice(5, 60), slice(0, 64))
    with open_image(path) as opened:
        np.testing.assert_array_equal(read_plane([opened], 0, window=window), image[window])
    with pytest.raises(InputError, match="cannot be decoded"), open_image(path) as opened:
        opened.plane(0, 0, 0)


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    """One OME image of two channels, each in a file of its own, as acquisition software writes."""
    image = counts(2, 24, 32)
    paths = tmp_path / "p_B02_s1_w1.ome.tif", tmp_path / "p_B02_s1_w2.ome.tif"
    planes = "".join(
        f'<TiffData FirstC="{c}" FirstZ="0" FirstT="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{path.name}">urn:uuid:{c}</UUID></TiffData>'
        for c, path in enumerate(paths)
    )
    for c, path in enumerate(paths):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{c}"><Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint16" '
            'DimensionOrder="XYCZT" SizeX="32" SizeY="24" SizeC="2" SizeZ="1" SizeT="1">'
            '<Channel ID="Channel:0:0" Name="dna"/><Channel ID="Channel:0:1" Name="actin"/>'
            f"{planes}</Pixels></Image></OME>"
        )
        tifffile.imwrite(path, image[c], description=xml, metadata=None)
    return *paths, image


def test_an_image_in_several_files_is_read_from_any_of_them(
    two_files: tuple[Path, Path, np.ndarray],
) -> None:
    first, second, image = two_files
    for path in (first, second):
        planes = read_planes(path)
        np.testing.assert_array_equal(planes.counts, image)
        assert planes.channel_names == ("dna", "actin")
    own = read_planes(second, own=True)
    np.testing.assert_array_equal(own.counts, image[1:])
    assert own.channel_names == ("actin",)


def test_a_missing_file_is_not_read_as_zeros(two_files: tuple[Path, Path, np.ndarray]) -> None:
    first, second, _ = two_files
    second.unlink()
    with pytest.raises(InputError, match="tell of 2 planes; none is number 2"):
        read_planes(first)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "int64", "uint64"])
def test_whole_numbers_of_any_depth_are_counts(tmp_path: Path, dtype: str) -> None:
    image = counts(20, 30, dtype=dtype) % 100
    tifffile.imwrite(tmp_path / "x.tif", image)
    read = read_planes(tmp_path / "x.tif").counts
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read[0], image)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [(-1, "int16", "int16 from -1"), (65536, "uint32", "to 65536"), (0.5, "float32", "float32")],
)
def test_what_is_no_count_is_refused(
    tmp_path: Path, value: float, dtype: str, message: str
) -> None:
    image = counts(20, 30).astype(dtype)
    image[3, 4] = value
    tifffile.imwrite(tmp_path / "x.tif", image)
    with pytest.raises(InputError, match=rf"{message}.* in .*x\.tif"):
        read_planes(tmp_path / "x.tif")


def test_imagej_hyperstacks_and_colour(tmp_path: Path) -> None:
    image = counts(2, 3, 20, 30)
    tifffile.imwrite(tmp_path / "x.tif", image, imagej=True, metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(read_planes(tmp_path / "x.tif", z=2).counts, image[1])
    colour = counts(20, 30, 3, dtype="uint8")
    tifffile.imwrite(tmp_path / "c.tif", colour, photometric="rgb")
    np.testing.assert_array_equal(read_planes(tmp_path / "c.tif").counts, colour.transpose(2, 0, 1))
    planar = counts(3, 20, 30)
    tifffile.imwrite(tmp_path / "p.tif", planar, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_planes(tmp_path / "p.tif").counts, planar)


def test_two_images_of_one_size_in_a_file_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.ome.tif", ome=True) as tif:
        tif.write(counts(20, 30), metadata={"axes": "YX"})
        tif.write(counts(20, 30), metadata={"axes": "YX"})
    with pytest.raises(InputError, match=r"2 of shape .*x\.ome\.tif"):
        read_planes(tmp_path / "x.ome.tif")


def claim(path: Path, height: int, width: int, compression: int, data: bytes) -> None:
    """A TIFF of one strip of 16-bit pixels."""
    tags = [
        (256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, compression), (262, 3, 1),
        (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    header = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    path.write_bytes(header + struct.pack("<H", len(tags)) + entries + bytes(4))


def many_planes(path: Path) -> None:
    tifffile.imwrite(path, counts(8, 8), ome=True)
    text = tifffile.tiffcomment(path).replace('SizeZ="1"', 'SizeZ="1000000000"')
    tifffile.tiffcomment(path, text.encode())


def circle(path: Path) -> None:
    entry = struct.pack("<HHHIII", 1, 256, 4, 1, 1, 8)  # its next directory is itself
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + entry)


def without_data(path: Path) -> None:
    tifffile.imwrite(path, counts(64, 64), compression="zlib", rowsperstrip=16)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tag = tif.pages.first.tags["StripByteCounts"]
        tag.overwrite((0, *tag.value[1:]))


CLAIMS: list[tuple[Callable[[Path], None], str]] = [
    (lambda p: claim(p, 10**6, 10**6, 1, bytes(64)), "1,000,000 × 1,000,000 pixels"),
    (lambda p: claim(p, 10**6, 10**6, 8, bytes(64)), "1,000,000 × 1,000,000 pixels"),
    (lambda p: claim(p, 40_000, 40_000, 5, bytes(64)), "stores 64 bytes"),
    (lambda p: claim(p, 100, 100, 1, bytes(64)), "stores 64 bytes"),
    (without_data, "no data"),
    (many_planes, "1000000000 planes"),
    (circle, "circle"),
    (lambda p: tifffile.imwrite(p, counts(9, 9), description="<OME><a></OME>"), "no XML"),
]


@pytest.mark.parametrize(("make", "message"), CLAIMS, ids=[m for _, m in CLAIMS])
def test_claims_that_the_file_cannot_keep_are_refused_before_memory_is_taken(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "x.tif")
    with pytest.raises(InputError, match=message) as caught:
        read_planes(tmp_path / "x.tif")
    assert str(tmp_path / "x.tif") in caught.value.found


def test_a_page_is_read_as_stored(tmp_path: Path) -> None:
    image = rng.normal(size=(20, 30)).astype(np.float32)
    tifffile.imwrite(tmp_path / "x.tif", image, photometric="miniswhite")
    np.testing.assert_array_equal(read_page(tmp_path / "x.tif"), image)
