"""OME-Zarr 0.4 and 0.5: images, plates, what is damaged; on disk and over HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from vae_sci.config import ImagesSettings, PlateRow
from vae_sci.contracts import FIELDS
from vae_sci.errors import InputError
from vae_sci.images.index import index_plate
from vae_sci.images.read import open_image, read_field, read_planes
from vae_sci.images.watch import digest

VERSIONS = ["0.4", "0.5"]


def annotate(group: zarr.Group, version: str, metadata: dict[str, Any]) -> None:
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", **metadata}
    else:
        group.attrs.update(metadata)


def write_image(
    group: zarr.Group, image: np.ndarray, axes: str, version: str, names: tuple[str, ...] = ()
) -> None:
    """An image of two resolutions, 0.65 µm a pixel, in nanometres."""
    kinds = {"t": "time", "c": "channel"}
    listed = [{"name": a, "type": kinds.get(a, "space"), "unit": "nanometer"} for a in axes]
    levels = []
    for level, step in enumerate((1, 2)):
        data = image[..., ::step, ::step]
        chunks = (*[1] * (image.ndim - 2), 16, 16)
        group.create_array(str(level), data=np.ascontiguousarray(data), chunks=chunks)
        scale = [1.0] * (image.ndim - 2) + [650.0 * step] * 2
        levels.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    metadata: dict[str, Any] = {"multiscales": [{"axes": listed, "datasets": levels}]}
    if names:
        metadata["omero"] = {"channels": [{"label": name} for name in names]}
    annotate(group, version, metadata)


def make_plate(path: Path, version: str) -> dict[tuple[str, str], np.ndarray]:
    """A plate of two wells with two fields each; its fields by well and site."""
    rng = np.random.default_rng(1)
    fmt = 3 if version == "0.5" else 2
    plate = zarr.create_group(path, zarr_format=fmt)
    wells = [("B", "3"), ("C", "11")]
    annotate(
        plate,
        version,
        {
            "plate": {
                "rows": [{"name": row} for row, _ in wells],
                "columns": [{"name": column} for _, column in wells],
                "wells": [
                    {"path": f"{row}/{column}", "rowIndex": k, "columnIndex": k}
                    for k, (row, column) in enumerate(wells)
                ],
            }
        },
    )
    fields = {}
    for row, column in wells:
        well = plate.create_group(f"{row}/{column}")
        annotate(well, version, {"well": {"images": [{"path": "0"}, {"path": "1"}]}})
        for site in ("0", "1"):
            image = rng.integers(0, 4000, (2, 3, 40, 50)).astype(np.uint16)
            write_image(well.create_group(site), image, "czyx", version, ("dna", "actin"))
            fields[f"{row}{int(column):02d}", site] = image
    return fields


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plate_is_its_own_index(tmp_path: Path, version: str) -> None:
    fields = make_plate(tmp_path / "plate.zarr", version)
    (tmp_path / "map.csv").write_text("well,control\nB03,1\nC11,0\n")
    row = PlateRow(
        plate="P", images=str(tmp_path / "plate.zarr"), platemap=str(tmp_path / "map.csv")
    )
    with pytest.raises(InputError, match="3 depths"):
        index_plate(row, ImagesSettings(), tmp_path / "fields.parquet")
    index_plate(row, ImagesSettings(z="max"), tmp_path / "fields.parquet")
    table = FIELDS.read(tmp_path / "fields.parquet")
    assert len(table) == 8
    assert list(table["channel"][:2]) == ["dna", "actin"]
    assert table["pixel_size_um"].tolist() == pytest.approx([0.65] * 8)
    for (well, site), rows in table.groupby(["well", "site"]):
        np.testing.assert_array_equal(read_field(rows), fields[well, site].max(axis=1))
    chosen = ImagesSettings(z=2, channels={"actin": "a", "1": "d"})
    index_plate(row, chosen, tmp_path / "fields.parquet")
    table = FIELDS.read(tmp_path / "fields.parquet")
    assert list(table["channel"][:2]) == ["a", "d"]
    np.testing.assert_array_equal(read_field(table[:2]), fields["B03", "0"][::-1, 1])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("axes", ["tczyx", "cyx", "zyx", "yx"])
def test_an_image_by_planes_and_windows(tmp_path: Path, version: str, axes: str) -> None:
    length = dict(zip("tczyx", (2, 3, 4, 40, 50), strict=True))
    image = np.random.default_rng(2).integers(0, 99, [length[a] for a in axes]).astype(np.uint8)
    group = zarr.create_group(tmp_path / "x.zarr", zarr_format=3 if version == "0.5" else 2)
    write_image(group, image, axes, version)
    with open_image(tmp_path / "x.zarr") as opened:
        sizes = tuple(length[axis] if axis in axes else 1 for axis in "tczyx")
        assert opened.sizes == sizes
        assert opened.channel_names == ()
        assert opened.pixel_size_um == pytest.approx(0.65)
        place = (sizes[0] - 1, sizes[1] - 1, sizes[2] - 1)
        full = image.reshape(sizes)
        np.testing.assert_array_equal(opened.plane(*place), full[place])
        window = (slice(3, 30), slice(17, 20))
        np.testing.assert_array_equal(opened.plane(*place, window), full[place][window])


@pytest.mark.parametrize("version", VERSIONS)
def test_single_images_are_named_as_files_are(tmp_path: Path, version: str) -> None:
    image = np.random.default_rng(3).integers(0, 99, (2, 40, 50)).astype(np.uint16)
    (tmp_path / "raw").mkdir()
    fmt = 3 if version == "0.5" else 2
    for name in ("P_B02_s1.ome.zarr", "P_B02_s2.zarr"):
        write_image(
            zarr.create_group(tmp_path / "raw" / name, zarr_format=fmt), image, "cyx", "0.4"
        )
    (tmp_path / "map.csv").write_text("well,control\nB02,1\n")
    row = PlateRow(plate="P", images=str(tmp_path / "raw"), platemap=str(tmp_path / "map.csv"))
    index_plate(row, ImagesSettings(), tmp_path / "fields.parquet")
    table = FIELDS.read(tmp_path / "fields.parquet")
    assert list(table["site"]) == ["1", "1", "2", "2"]
    np.testing.assert_array_equal(read_field(table[2:]), image)


def spoil_chunk(image: Path) -> None:
    chunk = next(path for path in sorted((image / "0").rglob("*")) if path.name.isdigit()
                 and path.is_file())  # fmt: skip
    chunk.write_bytes(b"\xff" * chunk.stat().st_size)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


BROKEN: list[tuple[Callable[[Path], Any], str]] = [
    (spoil_chunk, "cannot be decoded"),
    (lambda p: shutil.rmtree(p / "0"), "no such image or part"),
    (lambda p: (p / "zarr.json").write_text("{"), "cannot be decoded"),
    (lambda p: edit(p / "zarr.json", lambda t: t["attributes"].clear()), "without multiscales"),
    (
        lambda p: edit(p / "0" / "zarr.json", lambda t: t.update(shape=[1, 10**6, 10**6])),
        "GiB at once",
    ),
    (lambda p: shutil.rmtree(p), "no such image"),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN, ids=[m for _, m in BROKEN])
def test_what_cannot_be_read_is_named(
    tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    image = np.ones((1, 40, 50), np.uint16)
    write_image(zarr.create_group(tmp_path / "x.zarr"), image, "cyx", "0.5")
    damage(tmp_path / "x.zarr")
    with pytest.raises(InputError, match=message) as caught:
        read_planes(tmp_path / "x.zarr")
    assert str(tmp_path / "x.zarr") in caught.value.found


def test_a_group_that_is_neither_plate_nor_image(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "x.zarr").attrs["other"] = 1
    (tmp_path / "map.csv").write_text("well,control\nB02,1\n")
    row = PlateRow(plate="P", images=str(tmp_path / "x.zarr"), platemap=str(tmp_path / "map.csv"))
    with pytest.raises(InputError, match=r"`plate` or `multiscales`.*\n.*x\.zarr.*other"):
        index_plate(row, ImagesSettings(), tmp_path / "fields.parquet")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([{"path": "0", "acquisition": 1}, {"path": "1", "acquisition": 2}], "one acquisition"),
        ([{"path": "0"}, {"path": "00"}], r"plate\.zarr/B/3/0 and .*plate\.zarr/B/3/00"),
    ],
)
def test_fields_of_a_well_that_cannot_be_told_apart(
    tmp_path: Path, listed: list[dict[str, Any]], message: str
) -> None:
    make_plate(tmp_path / "plate.zarr", "0.5")
    well = tmp_path / "plate.zarr" / "B" / "3" / "zarr.json"
    edit(well, lambda told: told["attributes"]["ome"]["well"].update(images=listed))
    (tmp_path / "map.csv").write_text("well,control\nB03,1\nC11,0\n")
    row = PlateRow(
        plate="P", images=str(tmp_path / "plate.zarr"), platemap=str(tmp_path / "map.csv")
    )
    with pytest.raises(InputError, match=message):
        index_plate(row, ImagesSettings(z=1), tmp_path / "fields.parquet")


def test_a_changed_image_changes_the_digest(tmp_path: Path) -> None:
    make_plate(tmp_path / "plate.zarr", "0.5")
    row = PlateRow(plate="P", images=str(tmp_path / "plate.zarr"), platemap="map.csv")
    before = digest(row)
    assert digest(row) == before
    edit(tmp_path / "plate.zarr/B/3/0/zarr.json", lambda t: t["attributes"].update(new="value"))
    assert digest(row) != before


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plate_over_http(tmp_path: Path, served: str, version: str) -> None:
    fields = make_plate(tmp_path / "plate.zarr", version)
    (tmp_path / "map.csv").write_text("well,control\nB03,1\nC11,0\n")
    row = PlateRow(plate="P", images=f"{served}/plate.zarr", platemap=str(tmp_path / "map.csv"))
    index_plate(row, ImagesSettings(z="max"), tmp_path / "fields.parquet")
    table = FIELDS.read(tmp_path / "fields.parquet")
    assert table["bytes"].isna().all()
    for (well, site), rows in table.groupby(["well", "site"]):
        np.testing.assert_array_equal(read_field(rows), fields[well, site].max(axis=1))
    with pytest.raises(InputError, match=r"elsewhere\.zarr"):
        read_planes(f"{served}/elsewhere.zarr")


@pytest.mark.realdata
def test_the_samples_of_others(real_data: Callable[[str], Path]) -> None:
    folder = real_data("reader_cases") / "zarr"
    for name, depths in (("plate_ones.zarr", 3), ("plate_ones_mip.zarr", 1)):
        with open_image(folder / name / "B" / "03" / "0") as opened:
            assert opened.sizes == (1, 2, depths, 1080, 1280)
            assert opened.pixel_size_um == pytest.approx(0.1625)
    with open_image(folder / "6001240_labels_v0.5.zarr") as opened:
        assert opened.sizes == (1, 2, 236, 68, 67)  # its publisher kept the third resolution alone
        assert opened.plane(0, 1, 100, (slice(9, 12), slice(0, 5))).shape == (3, 5)
