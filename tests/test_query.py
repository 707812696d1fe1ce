"""Queries over a small results folder: what they answer, and what they refuse at each layer."""

from __future__ import annotations

import os
from pathlib import Path

import anndata
import duckdb
import numpy as np
import pandas as pd
import pytest

from vae_sci import contracts, query
from vae_sci.errors import ContractError, QueryError

N = 120


def write_tables(results: Path, model: str = "base") -> None:
    """Two plates' fields and one model's phenotypes, each through its contract."""
    rng = np.random.default_rng(0)
    where = pd.DataFrame(
        {
            "plate": ["p1"] * (N // 2) + ["p2"] * (N // 2),
            "well": [f"B{i // 10 % 6 + 2:02d}" for i in range(N)],
            "site": "1",
        }
    )
    z = {f"z_{k:03d}": rng.normal(size=N) for k in range(12)}
    treated = {"treatment": "taxol", "concentration": 0.1, "control": False}
    cells = where.assign(
        cell_id=[f"{r.plate}/{r.well}/1/{i:04d}" for i, r in enumerate(where.itertuples())],
        batch="screen",
        y=1.0,
        x=np.nan,
        **treated,
        split="test",
        cluster=[str(i % 3) for i in range(N)],
        confidence=1.0,
        fitted=True,
        umap_1=0.0,
        umap_2=1.0,
        rate_z=np.arange(N) / 4,
        rate_u=40.0,
        distortion=300.0,
        novelty=50.0,
        normalized_by="plate",
        **z,
    )
    folder = results / "phenotypes" / model
    contracts.CELLS.write(cells.sort_values("cell_id"), folder / "cells.parquet")
    contracts.CLUSTERS.write(
        pd.DataFrame(
            {
                "cluster": ["0", "1", "2"],
                "n_cells": 40,
                "share": 1 / 3,
                "stability": 0.9,
                "stable": True,
                "share_control": 0.1,
                "n_plates": 2,
                "top_plate_share": 0.5,
                "top_treatment": "taxol",
                "top_log2_enrichment": 1.5,
                "exemplar": cells["cell_id"][:3],
            }
        ),
        folder / "clusters.csv",
    )
    contracts.TREATMENTS.write(
        pd.DataFrame(
            {
                **{key: [value] for key, value in treated.items()},
                "n_cells": N,
                "n_wells": 12,
                "n_plates": 2,
                "distance": 2.5,
                "p_value": np.nan,
                "q_value": np.nan,
                "untested": None,
                "auroc": np.nan,
                "auroc_intensity": np.nan,
                "cell_count": 0.9,
                "n_empty_wells": 0,
                "heterogeneity": 1.1,
                "edge_share": 0.0,
                "edge_share_control": 0.0,
                "agreement": 0.8,
                "suspicion": None,
                "top_cluster": "0",
            }
        ),
        folder / "treatments.csv",
    )
    contracts.PROFILES.write(
        pd.DataFrame(
            {
                "plate": ["p1"],
                "well": "B02",
                "batch": "screen",
                **treated,
                "n_cells": 10,
                "z_000": 0.5,
            }
        ),
        folder / "profiles.parquet",
    )
    contracts.ENRICHMENT.write(
        pd.DataFrame(
            {
                **{key: [value] for key, value in treated.items()},
                "cluster": "0",
                "n_cells": 40,
                "share": 0.3,
                "share_control": 0.1,
                "odds_ratio": 3.0,
                "log2_enrichment": 1.5,
                "p_value": 0.01,
                "q_value": 0.02,
            }
        ),
        folder / "enrichment.csv",
    )
    field = pd.DataFrame(
        {
            "plate": ["p1"],
            "well": "B02",
            "site": "1",
            "channel": "dna",
            "channel_index": 0,
            "path": "p1.tif",
            "page": 0,
            "own": False,
            "z": None,
            "time": None,
            "bytes": 10,
            "mtime": 0.0,
            "height": 64,
            "width": 64,
            "dtype": "uint16",
            "pixel_size_um": np.nan,
            "median": 100.0,
            "p99": 900.0,
            "saturated": 0.0,
            "focus": 0.2,
            "verdict": "ok",
            "reason": None,
        }
    )
    contracts.FIELDS.write(field, results / "images" / "p1.parquet")
    contracts.FIELDS.write(field.iloc[:0], results / "images" / "p2.parquet")
    for plate in ("p1", "p2"):
        measured = {
            "plate": [plate],
            "well": "B02",
            "site": "1",
            "channel": "dna",
            "cells": 10,
            "background": 100.0,
            "saturated": 0.0,
            "focus": 0.2,
            "relative_focus": 1.0,
            "outlier_background": np.nan,
        }
        contracts.MEASURED_FIELDS.write(
            pd.DataFrame(measured), results / f"measured/fields/{plate}.parquet"
        )
        dropped = {
            "plate": [plate],
            "well": "B03",
            "site": "1",
            "unit": "field",
            "cell_id": None,
            "reason": "out of focus",
            "limit": "focus",
            "at": 0.5,
            "found": 0.1,
        }
        contracts.DROPPED.write(pd.DataFrame(dropped), results / f"dropped/{plate}.csv")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "results"
    write_tables(folder)
    (folder / "secret.csv").write_text("password\nswordfish\n")
    return folder


def refused(results: Path, sql: str) -> QueryError:
    with pytest.raises(QueryError) as caught:
        query.run_query(results, sql)
    error = caught.value
    assert error.required
    assert error.found
    assert error.action
    return error


@pytest.mark.parametrize(
    ("view", "rows"),
    [
        ("cells", N),
        ("clusters", 3),
        ("treatments", 1),
        ("profiles", 1),
        ("enrichment", 1),
        ("fields", 1),
        ("measured_fields", 2),
        ("dropped", 2),
    ],
)
def test_every_view_has_its_contract(results: Path, view: str, rows: int) -> None:
    table = query.run_query(results, f"SELECT * FROM {view}")
    assert table.num_rows == rows
    for column in query.VIEWS[view].columns:
        assert any(
            name.startswith(column.name) if column.family else name == column.name
            for name in table.column_names
        )


def test_answers_agree_with_pandas(results: Path) -> None:
    cells = pd.read_parquet(results / "phenotypes/base/cells.parquet")
    found = query.run_query(
        results,
        "WITH near AS (SELECT * FROM Cells WHERE rate_z < 20) "
        "SELECT cluster, count(*) AS n, sum(n_cells) AS total, avg(near.z_003) AS mean "
        "FROM near JOIN clusters USING (cluster) GROUP BY cluster ORDER BY cluster",
    ).to_pandas()
    expected = cells[cells["rate_z"] < 20].groupby("cluster")["z_003"]
    assert found["n"].tolist() == expected.size().tolist()
    assert found["total"].dtype == np.int64
    assert found["total"].tolist() == (40 * expected.size()).tolist()
    np.testing.assert_allclose(found["mean"], expected.mean())


@pytest.mark.parametrize(
    "sql",
    [
        "SHOW TABLES",
        "DESCRIBE cells",
        "SUMMARIZE cells",
        "FROM cells",
        "TABLE clusters",
        "VALUES (1)",
        "SELECT 1;",
        "SELECT * FROM cells WHERE x IS NULL UNION ALL FROM cells",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) FROM n",
        "SELECT unnest([1, 2]), i FROM range(3) t(i)",
        "PIVOT cells ON cluster IN ('0', '1') USING count(*) GROUP BY plate",
        "SELECT row_number() OVER (PARTITION BY plate ORDER BY rate_z) FROM cells",
        "SELECT 'read_csv(''x'')' AS \"COPY\" -- DROP TABLE cells",
        "SELECT COLUMNS('z_.*') FROM cells USING SAMPLE 5",
        "SELECT now(), random()",
    ],
)
def test_reading_is_allowed(results: Path, sql: str) -> None:
    assert query.run_query(results, sql).num_rows > 0


def test_tables_in_csv_have_their_contract_s_types(results: Path) -> None:
    table = query.run_query(results, "SELECT cluster, n_cells, share, top_treatment FROM clusters")
    assert [str(column.type) for column in table.columns] == ["string", "int64", "double", "string"]
    (row,) = query.run_query(
        results, "SELECT control, auroc, top_cluster FROM treatments"
    ).to_pylist()
    assert row == {"control": False, "auroc": None, "top_cluster": "0"}


def test_columns_named_twice_are_numbered(results: Path) -> None:
    table = query.run_query(results, "SELECT a.plate, b.plate, 0.5 h FROM cells a, cells b LIMIT 1")
    assert table.column_names == ["plate", "plate_1", "h"]
    assert table["h"].to_pylist() == [0.5]


STATEMENTS = [
    "INSERT INTO cells VALUES (1)",
    "UPDATE cells SET rate_z = 0",
    "DELETE FROM cells",
    "MERGE INTO cells USING clusters ON true WHEN MATCHED THEN DELETE",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS FROM cells",
    "CREATE MACRO f(a) AS a",
    "CREATE SECRET (TYPE http)",
    "DROP VIEW cells",
    "ALTER VIEW cells RENAME TO c",
    "TRUNCATE cells",
    "COPY cells TO 'out.csv'",
    "COPY (SELECT 1) TO 'out.parquet'",
    "/* SELECT */ cOpY (FROM cells) TO 'out.csv'",
    "ATTACH 'x.db'",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA database_list",
    "EXPORT DATABASE 'x'",
    "IMPORT DATABASE 'x'",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN TRANSACTION",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "EXPLAIN ANALYZE SELECT 1",
    "PIVOT cells ON cluster USING count(*)",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY cells TO 'out.csv'",
    "",
    "-- nothing",
]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_other_statements_are_refused(
    results: Path, sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(results, sql)
    # DuckDB 1 rewrites these two while it parses, so that a later check is the one that refuses
    assert "one SELECT" in error.required or sql.startswith(("PRAGMA", "IMPORT"))
    assert list(tmp_path.iterdir()) == []


READS = [
    "read_csv('{secret}')",
    "read_csv_auto('{secret}')",
    "\"Read_CSV\"('{secret}')",
    "rEaD_tExT /* x */ ('{secret}')",
    "system.main.read_text('{secret}')",
    "read_blob('{secret}')",
    "read_json('{secret}')",
    "read_ndjson_objects('{secret}')",
    "read_parquet('{cells}')",
    "parquet_scan('{cells}')",
    "parquet_metadata('{cells}')",
    "sniff_csv('{secret}')",
    "glob('{folder}/*')",
    "read_text('https://example.org/')",
    "read_parquet('s3://bucket/x.parquet')",
    "query('SELECT 1')",
    "query_table('cells')",
    "duckdb_settings()",
    "pragma_database_size()",
    "arrow_scan(1, 2, 3)",
    "json_execute_serialized_sql('x')",
    "'{secret}'",
    '"{secret}"',
    "'{cells}'",
    "'https://example.org/x.csv'",
    "'{folder}/*.csv'",
    "information_schema.tables",
    "memory.main.cells",
    "duckdb_tables",
    "frame",
]


NESTED = [
    "FROM {source}",
    "WITH a AS (FROM {source}) SELECT * FROM a",
    "SELECT 1 UNION ALL SELECT 1 FROM {source}",
    "SELECT (SELECT count(*) FROM {source}) FROM cells",
    "SELECT * FROM cells WHERE EXISTS (FROM {source})",
    "SELECT * FROM cells, LATERAL (FROM {source})",
    "DESCRIBE SELECT * FROM {source}",
    "SUMMARIZE FROM {source}",
    "SELECT list_transform([1], i -> (SELECT count(*) FROM {source}))",
]


@pytest.mark.parametrize(
    ("source", "shape"),
    [
        *((source, "SELECT * FROM {source}") for source in READS),
        *((source, shape) for source in ("read_csv('{secret}')", "'{secret}'") for shape in NESTED),
    ],
)
def test_other_sources_are_refused(results: Path, source: str, shape: str) -> None:
    frame = pd.DataFrame({"a": [1]})  # a variable that DuckDB would find by its name
    source = source.format(
        secret=results / "secret.csv",
        cells=results / "phenotypes/base/cells.parquet",
        folder=results,
    )
    error = refused(results, shape.format(source=source))
    assert "tables among" in error.required or "no table function but" in error.required
    assert len(frame) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT getenv('HOME')",
        "SELECT ('HOME').getenv()",
        "SELECT system.main.GetEnv('HOME')",
        "SELECT current_setting('threads')",
        "SELECT read_text('x') FROM cells",
        "SELECT write_log('x')",
        "SELECT list_transform(['a'], i -> getenv(i))",
        "SELECT sum(rate) OVER (ORDER BY getenv('HOME')) FROM cells",
        "SELECT * FROM cells ORDER BY getenv('HOME')",
    ],
)
def test_functions_that_look_outside_are_refused(results: Path, sql: str) -> None:
    assert "looks outside" in refused(results, sql).found


def test_a_with_that_writes_is_refused(results: Path) -> None:
    refused(results, "WITH a AS (INSERT INTO cells VALUES (1) RETURNING *) FROM a")


def test_a_name_in_with_does_not_open_a_file(results: Path) -> None:
    secret = results / "secret.csv"
    sql = f'SELECT * FROM (WITH "{secret}" AS (SELECT 1) SELECT 1), (FROM "{secret}")'
    assert "swordfish" not in str(refused(results, sql))


@pytest.mark.parametrize(
    "sql",
    [
        "FROM '{secret}'",
        "FROM read_csv('{secret}')",
        "FROM read_text('{secret}')",
        "FROM glob('{folder}/*')",
        "FROM read_parquet('{cells}')",
        "FROM query('FROM ''{secret}''')",
        "FROM frame",
        "SELECT getenv('HOME')",
        "COPY cells TO '{folder}/out.csv'",
        "COPY cells TO '{cells}'",
        "ATTACH '{folder}/x.db'",
        "EXPORT DATABASE '{folder}/x'",
        "INSTALL httpfs",
        "LOAD '{folder}/x.duckdb_extension'",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "RESET lock_configuration",
        "DELETE FROM cells",
        "FROM read_text('https://example.org/')",
    ],
)
def test_the_engine_refuses_without_the_statement_check(results: Path, sql: str) -> None:
    frame = pd.DataFrame({"a": [1]})
    before = sorted(results.rglob("*"))
    connection, _ = query._connect(results, "base")
    with pytest.raises(duckdb.Error):
        connection.execute(
            sql.format(
                secret=results / "secret.csv",
                cells=results / "phenotypes/base/cells.parquet",
                folder=results,
            )
        ).fetchall()
    assert sorted(results.rglob("*")) == before
    assert len(frame) == 1


def test_an_unknown_column_is_told_with_the_columns(results: Path) -> None:
    error = refused(results, "SELECT clustr FROM cells")
    assert '"clustr" not found' in error.found
    assert '"cluster"' in error.found
    assert "cells: cell_id, plate" in error.action
    assert "z_000 … z_011" in error.action
    assert "clusters:" not in error.action


def test_an_unknown_table_is_told_with_the_nearest(results: Path) -> None:
    error = refused(results, "SELECT * FROM cell")
    assert error.found == "'cell'"
    assert error.action == "did you mean 'cells'?"
    assert "cells, clusters, treatments" in error.required


def test_a_syntax_error_shows_the_place(results: Path) -> None:
    assert "syntax error" in refused(results, "SELECT * FORM cells").found
    assert "LINE 1" in refused(results, "SELECT * FORM cells").found
    assert "cells: cell_id, plate" in refused(results, "SELECT * FORM cells").action


def test_bytes_that_are_no_text_are_told(results: Path) -> None:
    assert "syntax error" in refused(results, "\udcff FROM").found


def test_a_failure_while_running_is_told(results: Path) -> None:
    assert "Could not convert" in refused(results, "SELECT plate::INT FROM cells").found
    found = refused(results, "SELECT z_000 + plate || 'a' FROM cells").found
    assert len(found) < 1000


def test_no_results_and_several_models(tmp_path: Path) -> None:
    assert str(tmp_path) in refused(tmp_path, "SELECT 1").found
    write_tables(tmp_path, "a")
    write_tables(tmp_path, "b")
    assert refused(tmp_path, "SELECT 1").action == "choose one of: a, b"
    assert query.run_query(tmp_path, "FROM cells", "b").num_rows == N
    with pytest.raises(QueryError, match=r"no model '\.\./b'"):
        query.run_query(tmp_path, "FROM cells", "../b")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_tables(tmp_path)
    for name, damage in (("enrichment.csv", b"a,b\n1\n"), ("profiles.parquet", b"not parquet")):
        (tmp_path / "phenotypes/base" / name).write_bytes(damage)
        with pytest.raises(ContractError, match=name):
            query.run_query(tmp_path, "FROM cells")


def test_a_view_without_its_file_is_left_out(tmp_path: Path) -> None:
    write_tables(tmp_path)
    (tmp_path / "phenotypes/base/enrichment.csv").unlink()
    assert query.run_query(tmp_path, "FROM cells").num_rows == N
    assert "enrichment" not in refused(tmp_path, "FROM enrichment").required


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_output_round_trip(
    results: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sql = "SELECT cell_id, x, control, rate_z, z_001 FROM cells ORDER BY rate_z DESC"
    path = tmp_path / "deep" / f"out{suffix}"
    query.answer(results, sql, output=path)
    read = (
        pd.read_parquet(path)
        if suffix == ".parquet"
        else pd.read_csv(path, float_precision="round_trip")
    )
    expected = pd.read_parquet(results / "phenotypes/base/cells.parquet")
    expected = expected.sort_values("rate_z", ascending=False)[list(read.columns)]
    pd.testing.assert_frame_equal(
        read, expected.reset_index(drop=True), check_dtype=False, check_exact=True
    )
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert "120 rows" in capsys.readouterr().out


def test_cells_become_anndata(results: Path, tmp_path: Path) -> None:
    sql = (
        "SELECT cell_id, z_001, z_000, cluster, control, y FROM cells ORDER BY rate_z DESC LIMIT 7"
    )
    path = tmp_path / "out.h5ad"
    query.answer(results, sql, output=path)
    table = anndata.read_h5ad(path)
    expected = pd.read_parquet(results / "phenotypes/base/cells.parquet")
    expected = expected.nlargest(7, "rate_z").set_index("cell_id")
    assert table.obs_names.tolist() == expected.index.tolist()
    assert table.var_names.tolist() == ["z_000", "z_001"]
    np.testing.assert_allclose(table.X, expected[["z_000", "z_001"]], rtol=1e-6)
    assert table.obs["cluster"].astype(str).tolist() == expected["cluster"].tolist()
    assert table.obs.columns.tolist() == ["cluster", "control", "y"]
    assert table.uns["vae_sci"]["query"] == sql
    assert not table.obsm
    query.answer(results, "SELECT cell_id, umap_2, umap_1, y, y + 1 AS x FROM cells", output=path)
    table = anndata.read_h5ad(path)
    assert table.X is None
    np.testing.assert_array_equal(table.obsm["X_umap"], [[0, 1]] * N)
    np.testing.assert_array_equal(table.obsm["spatial"], [[2, 1]] * N)
    assert table.obs["library_id"].astype(str).tolist() == [c[:8] for c in table.obs_names]


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("FROM clusters", "columns cluster, n_cells"),
        ("SELECT cell_id FROM cells WHERE false", "no row"),
        (
            "SELECT cell_id FROM cells UNION ALL (SELECT cell_id FROM cells LIMIT 1)",
            "p1/B02/1/0000",
        ),
        ("SELECT NULL AS cell_id", "None"),
    ],
)
def test_what_are_no_cells_become_no_anndata(
    results: Path, tmp_path: Path, sql: str, found: str
) -> None:
    with pytest.raises(QueryError, match="rows that are cells") as caught:
        query.answer(results, sql, output=tmp_path / "out.h5ad")
    assert found in caught.value.found
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_leaves_nothing(results: Path, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"ends in \.csv, \.parquet or \.h5ad"):
        query.answer(results, "FROM cells", output=tmp_path / "out.xlsx")
    with pytest.raises(QueryError, match="cast nested"):
        query.answer(results, "SELECT [1, 2] a", output=tmp_path / "out.csv")
    with pytest.raises(QueryError, match="names and types"):
        query.answer(results, "SELECT cell_id, 'a' AS z_000 FROM cells", output=tmp_path / "o.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_an_output_never_replaces_a_result(results: Path) -> None:
    path = results / "phenotypes/base/cells.parquet"
    before = path.read_bytes()
    with pytest.raises(QueryError, match="replaces no file"):
        query.answer(results, "FROM cells LIMIT 1", output=path)
    relative = os.path.relpath(path)
    with pytest.raises(QueryError, match="replaces no file"):
        query.answer(results, "FROM cells LIMIT 1", output=relative)
    assert path.read_bytes() == before


def test_the_terminal_shows_what_fits_and_says_so(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    query.answer(results, "SELECT * FROM cells ORDER BY rate_z DESC")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "cell_id" in lines[0]
    assert "z_011" not in lines[0]
    assert lines[2].startswith("p2/B07/1/0119")
    text = " ".join(lines[-2:])
    assert "50 of 120 rows" in text
    assert "of 33 columns" in text
    assert "--output" in text


def test_the_terminal_shows_a_small_result_whole(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query.answer(results, "SELECT count(*) AS n, 1/3 AS third, '[red]a\x1b[0m' AS t FROM cells")
    out = capsys.readouterr().out
    assert "120" in out
    assert "0.333333" in out
    assert "[red]a�[0m" in out
    assert out.splitlines()[-1] == "1 row"
    query.answer(results, "FROM cells WHERE false")
    assert capsys.readouterr().out.count("0 of 0 rows") == 1


def test_the_benchmark_s_table_is_such_as_the_pipeline_writes(tmp_path: Path) -> None:
    import query as benchmark

    rows = contracts.ROW_GROUP + 100
    cells = contracts.CELLS.read(benchmark.make(tmp_path, rows, dimensions=2))
    assert len(cells) == rows
    assert cells["cell_id"].is_monotonic_increasing
    assert list(cells.filter(like="z_")) == ["z_000", "z_001"]
    (where,) = {"/".join(cell_id.split("/")[:2]) for cell_id in cells["cell_id"][4000:6000]}
    sql = f"SELECT * FROM cells WHERE plate || '/' || well = '{where}'"
    assert query.run_query(tmp_path, sql).num_rows == benchmark.CELLS_PER_WELL
