"""The Python door: tables through their contracts, tiles in the order asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vae_sci import contracts
from vae_sci.errors import ContractError, QueryError
from vae_sci.query import VIEWS
from vae_sci.results import Results, open_results
from vae_sci.tiles.store import write_store

SHAPE = (2, 8, 8)
CELL_IDS = [f"p{1 + i // 60}/B{2 + i % 6:02d}/1/{i:04d}" for i in range(120)]


def filled(contract: contracts.Contract, rows: int = 1, **given: Any) -> pd.DataFrame:
    """A table that keeps the contract; columns that are not given hold one plain value."""
    plain = {"string": "a", "Int64": 1, "float64": 0.5, "bool": False}
    values = {
        column.name + "000" * column.family: plain[column.type] for column in contract.columns
    }
    return pd.DataFrame({**values, **given}, index=range(rows))


def write_tables(results: Path) -> None:
    """Tables of 120 cells on two plates; the second plate has no fields."""
    folder = results / "phenotypes/base"
    for contract, values in (
        (
            contracts.CELLS,
            {
                "cell_id": CELL_IDS,
                "plate": [c[:2] for c in CELL_IDS],
                "cluster": [str(i % 3) for i in range(120)],
                "rate_z": np.arange(120.0),
                "z_000": np.arange(120.0) ** 1.5,
            },
        ),
        (contracts.CLUSTERS, {}),
        (contracts.RESOLUTIONS, {}),
        (contracts.TREATMENTS, {"auroc": np.nan}),
        (contracts.WELLS, {}),
        (contracts.DOSES, {}),
        (contracts.SIMILARITY, {}),
        (contracts.NORMALIZATION, {}),
        (contracts.SCORES, {}),
        (contracts.REPLICATES, {}),
        (contracts.PROFILES, {}),
        (contracts.ENRICHMENT, {}),
    ):
        rows = len(values.get("cell_id", [0]))
        contract.write(filled(contract, rows, **values), folder / Path(contract.path).name)
    contracts.FIELDS.write(filled(contracts.FIELDS), results / "images/p1.parquet")
    contracts.FIELDS.write(filled(contracts.FIELDS).iloc[:0], results / "images/p2.parquet")
    for contract in (contracts.MEASURED_FIELDS, contracts.DROPPED):
        contract.write(filled(contract), results / contract.path.format(plate="p1"))


def tile_of(cell_id: str) -> np.ndarray:
    """A tile (C, H, W) that only this cell has."""
    seed = [ord(c) for c in cell_id]
    return np.random.default_rng(seed).integers(0, 4000, SHAPE, dtype=np.uint16)


def write_tiles(
    results: Path, cell_ids: list[str], shape: tuple[int, ...] = SHAPE, masks: bool = True
) -> None:
    """One plate's store and table; the store's rows are shuffled against the table's."""
    plate = cell_ids[0].split("/")[0]
    n = len(cell_ids)
    row = np.random.default_rng(1).permutation(n)
    tiles = np.zeros((n, *shape), np.uint16)
    if shape == SHAPE:
        tiles[row] = [tile_of(cell_id) for cell_id in cell_ids]
    with write_store(
        results / "tiles" / f"{plate}.zarr",
        channels=["dna", "actin"],
        size=shape[-1],
        dtype="uint16",
        masks=masks,
        pixel_size_um=None,
        about={"plate": plate},
    ) as writer:
        writer.append(tiles, (tiles[:, 0] % 3).astype(np.uint8) if masks else None)
    table = filled(contracts.TILES, n, cell_id=cell_ids, plate=plate, tile=row)
    contracts.TILES.write(table, results / "tiles" / f"{plate}.parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_tables(folder)
    for plate in ("p1", "p2"):
        write_tiles(folder, [c for c in CELL_IDS if c.startswith(plate)])
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return open_results(folder)


@pytest.mark.parametrize("view", list(VIEWS))
def test_every_table_has_its_contract(results: Results, view: str) -> None:
    table = results.table(view)
    pd.testing.assert_frame_equal(VIEWS[view].validate(table, view), table)
    assert len(table) > 0
    assert results.table(view) is table


def test_common_tables_have_a_name_of_their_own(results: Results) -> None:
    for view in ("cells", "clusters", "treatments", "profiles", "enrichment", "fields"):
        assert getattr(results, view) is results.table(view)
    with pytest.raises(QueryError, match="a table among cells"):
        results.table("cell")


def test_query_gives_a_frame(results: Results) -> None:
    found = results.query("SELECT plate, count(*) n FROM cells GROUP BY plate ORDER BY plate")
    assert found.to_dict("list") == {"plate": ["p1", "p2"], "n": [60, 60]}
    with pytest.raises(QueryError):
        results.query("DROP VIEW cells")


def test_tiles_come_in_the_order_asked(results: Results) -> None:
    asked = results.cells["cell_id"].sample(frac=1, random_state=3).tolist()
    asked += asked[:7]
    expected = np.stack([tile_of(cell_id) for cell_id in asked])
    tiles = results.tiles(asked)
    assert tiles.dtype == np.uint16
    np.testing.assert_array_equal(tiles, expected)
    np.testing.assert_array_equal(results.masks(asked), expected[:, 0] % 3)
    assert results.masks(asked).dtype == np.uint8


def test_tiles_of_a_query_and_of_one_cell(results: Results) -> None:
    near = results.query(
        "SELECT cell_id FROM cells WHERE cluster = '1' ORDER BY rate_z DESC LIMIT 5"
    )
    np.testing.assert_array_equal(
        results.tiles(near), [tile_of(cell_id) for cell_id in near["cell_id"]]
    )
    one = near["cell_id"][0]
    np.testing.assert_array_equal(results.tiles(one), [tile_of(one)])
    assert results.tiles(near.iloc[:0]).shape == (0, *SHAPE)
    assert results.masks([]).shape == (0, *SHAPE[1:])


def test_neighbours_are_the_nearest_in_z_nearest_first(results: Results) -> None:
    z = results.cells["z_000"].to_numpy()
    ids = results.cells["cell_id"].tolist()
    for place in (0, 37, 119):
        found = results.neighbors(ids[place], k=6)
        distance = np.abs(z - z[place])
        order = [other for other in np.argsort(distance, kind="stable") if other != place][:6]
        assert found["cell_id"].tolist() == [ids[other] for other in order]
        np.testing.assert_allclose(found["distance"], distance[order], rtol=1e-5)
    everyone = results.neighbors(ids[5], k=1000)
    assert sorted([*everyone["cell_id"], ids[5]]) == sorted(ids)
    with pytest.raises(QueryError, match="no cell 'p1/Z99/1/0001'"):
        results.neighbors("p1/Z99/1/0001")


def test_neighbours_are_whole_rows_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contracts, "ROW_GROUP", 16)  # the rows found then lie in many groups
    write_tables(tmp_path)
    results = open_results(tmp_path)
    cells = results.cells.set_index("cell_id", drop=False)
    cells["z_000"] = cells["z_000"].astype("float32").astype("float64")  # as z is searched
    for cell_id in (CELL_IDS[0], CELL_IDS[70]):
        found = results.neighbors(cell_id, k=50, itself=True)
        assert found["cell_id"].iloc[0] == cell_id
        assert found["distance"].iloc[0] == 0
        expected = cells.loc[found["cell_id"]].reset_index(drop=True)
        pd.testing.assert_frame_equal(found.drop(columns="distance"), expected)


def test_neighbours_and_queries_can_be_drawn(folder: Path, tmp_path: Path) -> None:
    from PIL import Image
    from typer.testing import CliRunner

    from vae_sci.cli import app

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--results", str(folder)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    told = run("neighbors", CELL_IDS[3], "-k", "4", "--tiles", str(tmp_path / "near.png"))
    assert len(told.strip().splitlines()) == 5
    run("query", "SELECT * FROM cells LIMIT 25", "--tiles", str(tmp_path / "found.png"))
    few, many = (Image.open(tmp_path / name).size for name in ("near.png", "found.png"))
    assert many[1] > few[1]  # three rows of tiles, not one
    with pytest.raises(QueryError, match="column 'cell_id'"):
        run("query", "SELECT plate FROM cells", "--tiles", str(tmp_path / "never.png"))
    with pytest.raises(QueryError, match="at least one row"):
        run("query", "SELECT * FROM cells LIMIT 0", "--tiles", str(tmp_path / "never.png"))
    with pytest.raises(QueryError, match=r"ends in \.png"):
        run("query", "SELECT * FROM cells", "--tiles", str(tmp_path / "never.jpg"))
    assert not list(tmp_path.glob("never*"))


def test_channels(results: Results) -> None:
    assert results.channels == ["dna", "actin"]


def test_an_unknown_cell_is_named(results: Results) -> None:
    known = results.cells["cell_id"][0]
    for unknown in ("p1/Z99/1/0001", "p9/B02/1/0001", "nonsense", "../B02"):
        with pytest.raises(QueryError, match=f"no cell '{unknown}'") as caught:
            results.tiles([known, unknown])
        assert "cells" in caught.value.action
    with pytest.raises(QueryError, match="column 'cell_id'"):
        results.tiles(results.clusters)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="phenotypes/MODEL/cells"):
        open_results(tmp_path)
    write_tables(tmp_path)
    opened = open_results(tmp_path, "base")
    with pytest.raises(ContractError, match=r"\.zarr"):
        _ = opened.channels
    with pytest.raises(ContractError, match=r"\.zarr"):
        opened.tiles([])
    (tmp_path / "phenotypes/base/clusters.csv").unlink()
    with pytest.raises(ContractError, match=r"clusters\.csv"):
        _ = opened.clusters


def test_stores_without_masks_or_of_two_shapes_are_told(tmp_path: Path) -> None:
    write_tables(tmp_path)
    write_tiles(tmp_path, ["p1/B02/1/0000"], masks=False)
    write_tiles(tmp_path, ["p2/B02/1/0000"], (2, 4, 4))
    opened = open_results(tmp_path)
    with pytest.raises(ContractError, match="one shape"):
        opened.tiles(["p1/B02/1/0000", "p2/B02/1/0000"])
    with pytest.raises(ContractError, match="no array masks"):
        opened.masks(["p1/B02/1/0000"])


def test_the_module_starts_light() -> None:
    code = (
        "import sys, vae_sci.results; "
        "print([m for m in ('pandas', 'duckdb', 'zarr', 'pyarrow', 'rich') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
