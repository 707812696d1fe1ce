"""SQL over the results, read only: one SELECT over the result tables, and nothing else.

Two layers guard it, each enough by itself. The statement is parsed and refused unless it is one
SELECT whose tables are the views and whose functions read nothing. The engine has no file system,
no network, no extensions and locked settings: it sees the result files only as Arrow data that
Python hands to it, so there is no path that it may open.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_sci import contracts
from vae_sci.errors import ContractError, QueryError
from vae_sci.files import publish

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    import pyarrow.dataset as ds

VIEWS = {
    "cells": contracts.CELLS,
    "clusters": contracts.CLUSTERS,
    "resolutions": contracts.RESOLUTIONS,
    "treatments": contracts.TREATMENTS,
    "wells": contracts.WELLS,
    "doses": contracts.DOSES,
    "similarity": contracts.SIMILARITY,
    "normalization": contracts.NORMALIZATION,
    "scores": contracts.SCORES,
    "replicates": contracts.REPLICATES,
    "profiles": contracts.PROFILES,
    "enrichment": contracts.ENRICHMENT,
    "fields": contracts.FIELDS,
    "measured_fields": contracts.MEASURED_FIELDS,
    "dropped": contracts.DROPPED,
}
"""The tables of a query, by name. A table that is named here can be queried, nothing else is to do:
its columns and types are those of its contract, the files of all plates are one table."""

SHOWN_ROWS = 50
"""Rows of a result that the terminal shows."""

_ENGINE: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
    "lock_configuration": True,
}

_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLE_FUNCTIONS = {"unnest", "range", "generate_series"}
_OUTSIDE = re.compile(
    r"getenv|current_setting|getvariable|glob|(read|write|duckdb|pragma)_.*|.*_scan"
)
"""Functions that look outside the tables: files, environment, settings, the engine's state."""


def find_model(results: str | Path, model: str | None = None) -> str:
    """The model to read: `model` if `results` has it, else the only one there.

    Raises `QueryError` where there is none, or several and none named.
    """
    found = sorted(path.parent.name for path in Path(results).glob("phenotypes/*/cells.parquet"))
    if model in found:
        return str(model)
    if not found:
        raise QueryError(
            required="the results of a run (a folder with phenotypes/MODEL/cells.parquet)",
            found=f"no such file in {results}",
            action="name the folder that a finished run wrote into",
        )
    if model is None and len(found) == 1:
        return found[0]
    raise QueryError(
        required="the name of one model",
        found=f"no model '{model}' in {results}" if model else f"several models in {results}",
        action=f"choose one of: {', '.join(found)}",
    )


def view_files(results: str | Path, model: str, view: str) -> list[Path]:
    """The files of a view that are there: one, or one per plate, sorted."""
    path = VIEWS[view].path.format(model=model, plate="*")
    return sorted(Path(results).glob(path))


def run_query(results: str | Path, sql: str, model: str | None = None) -> pa.Table:
    """The answer to one SELECT over the views, in memory.

    Whole-number sums are int64 and decimals float64, so that pandas computes with them; a column
    name that comes twice gets a number.

    Parameters
    ----------
    results : the folder that a run wrote into.
    sql : one SELECT in DuckDB's dialect over `VIEWS`; also DESCRIBE, SHOW TABLES, SUMMARIZE.
    model : which model's phenotypes; may be left out where there is one.

    Raises `QueryError` where the statement is refused or fails, `ContractError` where a result
    file is damaged.
    """
    with _relation(results, sql, model) as relation:
        return _table(relation)


def answer(
    results: str | Path, sql: str, model: str | None = None, output: str | Path | None = None
) -> None:
    """What `vae-sci query` does: the result to the terminal, or whole to `output`.

    The terminal shows the first `SHOWN_ROWS` rows and the columns that fit, and says what it left
    out. `output` ends in .csv, .parquet or, for cells, .h5ad, and is never a file of the results
    themselves.
    """
    if output is None:
        with _relation(results, sql, model) as relation:
            shown = _table(relation.limit(SHOWN_ROWS))
            rows = len(relation) if len(shown) == SHOWN_ROWS else len(shown)
        _print(shown, rows)
        return
    output = Path(output)
    if output.suffix not in (".csv", ".parquet", ".h5ad"):
        raise QueryError(
            required="an output that ends in .csv, .parquet or .h5ad",
            found=f"{output}",
            action="rename it; without an output the terminal shows the result",
        )
    if output.exists() and Path(results).resolve() in output.resolve().parents:
        raise QueryError(
            required="an output that replaces no file of the results",
            found=f"{output}, which is there already",
            action="write outside the results folder, or under a new name",
        )
    table = run_query(results, sql, model)
    if output.suffix == ".h5ad":
        _write_h5ad(table, {"query": sql, "model": find_model(results, model)}, output)
    else:
        _write(table, output)
    print(f"{table.num_rows:,} rows → {output}")


@contextmanager
def _relation(
    results: str | Path, sql: str, model: str | None
) -> Iterator[duckdb.DuckDBPyRelation]:
    """The checked statement, not yet run; what fails inside is told as a `QueryError`."""
    import duckdb
    import pyarrow as pa

    connection, columns = _connect(results, find_model(results, model))
    try:
        yield connection.sql(_checked(connection, sql, columns))
    except (duckdb.Error, pa.ArrowException) as error:
        message = str(error).split("\n\tCandidate functions")[0].strip()
        raise QueryError(
            required="a SELECT that DuckDB can run over the views",
            found=re.sub(r"\n+", "\n          ", message),
            action=_hint(error, sql, columns),
        ) from None
    finally:
        connection.close()


def _connect(
    results: str | Path, model: str
) -> tuple[duckdb.DuckDBPyConnection, dict[str, list[str]]]:
    """An engine that sees the views and nothing else, and the views' columns.

    A view whose files are not there is left out.
    """
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect(":memory:", config=_ENGINE)
    columns = {}
    for view, contract in VIEWS.items():
        files = view_files(results, model, view)
        if not files:
            continue
        try:
            data = _read_csv(files, contract) if contract.path.endswith(".csv") else _scan(files)
        except (pa.ArrowException, OSError) as error:
            raise ContractError(
                required=contract.meaning,
                found=f"{', '.join(map(str, files))} cannot be read: {error}",
                action="delete what is damaged and run again: the workflow makes it anew",
            ) from None
        connection.register(view, data)
        columns[view] = list(data.schema.names)
    return connection, columns


def _read_csv(paths: list[Path], contract: contracts.Contract) -> pa.Table:
    """CSV files as one table with the contract's types, in memory; an empty cell is no value."""
    import pyarrow as pa
    import pyarrow.csv as pc

    types = {
        "string": pa.string(),
        "Int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
    }
    options = pc.ConvertOptions(
        column_types={column.name: types[column.type] for column in contract.columns},
        null_values=[""],
        strings_can_be_null=True,
    )
    tables = [pc.read_csv(path, convert_options=options) for path in paths]
    return pa.concat_tables(tables, promote_options="permissive")


def _scan(paths: list[Path]) -> ds.Dataset:
    """Parquet files as one table, read piece by piece as a query needs them."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    schemas = [ds.dataset(path).schema for path in paths]
    return ds.dataset(paths, schema=pa.unify_schemas(schemas, promote_options="permissive"))


def _checked(connection: duckdb.DuckDBPyConnection, sql: str, columns: dict[str, list[str]]) -> str:
    """The one statement of `sql`; raises `QueryError` if it may do more than read the views."""
    sql = sql.encode(errors="replace").decode()  # a terminal may pass bytes that are no text
    statements = connection.extract_statements(sql)
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        kind = kinds[0] if len(kinds) == 1 else ""
        count = "no statement" if not kinds else f"{len(kinds)} statements: {_short(sql)}"
        raise QueryError(
            required="one SELECT statement (WITH, DESCRIBE, SHOW TABLES and SUMMARIZE are too)",
            found=f"a statement of kind {kind}: {_short(sql)}" if kind else count,
            action="a PIVOT must name its values: PIVOT … ON column IN ('a', 'b') USING …"
            if kind == "MULTI"
            else "results are read only: ask with one SELECT; --output writes its answer to a file",
        )
    statement = statements[0].query
    ((text,),) = connection.execute("SELECT json_serialize_sql(?)", [statement]).fetchall()
    tree = json.loads(text)
    if tree["error"]:
        raise QueryError(
            required="one SELECT statement",
            found=f"{tree['error_message']}: {_short(sql)}",
            action="ask with a plain SELECT over the views",
        )
    nodes = list(_nodes(tree))
    named = {
        entry["key"].lower()
        for node in nodes
        if "cte_map" in node
        for entry in node["cte_map"]["map"]
    }
    for node in nodes:
        _check_node(node, columns, named)
    return statement


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a parse tree."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from _nodes(part)


def _check_node(node: dict[str, Any], columns: dict[str, list[str]], named: set[str]) -> None:
    """Refuse a table that is no view, a function that looks outside, a statement that writes.

    `named` are the tables that the query itself defines in WITH.
    """
    kind = node.get("type")
    if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _NODES:
        raise QueryError(
            required="only SELECT inside WITH and subqueries",
            found=kind.removesuffix("_NODE").replace("_", " "),
            action="results are read only: remove it",
        )
    if kind in ("BASE_TABLE", "SHOW_REF"):
        parts = (node["catalog_name"], node["schema_name"], node["table_name"])
        table = ".".join(part for part in parts if part)
        shown = {"", '"tables"', "__show_tables_expanded"} if kind == "SHOW_REF" else set()
        if table.lower() not in named | columns.keys() | shown:
            near = difflib.get_close_matches(table.lower(), columns, n=1)
            raise QueryError(
                required=f"tables among {', '.join(columns)}",
                found=f"'{table}'",
                action=f"did you mean '{near[0]}'?"
                if near
                else "query these alone: other files and tables cannot be read",
            )
    if kind == "TABLE_FUNCTION":
        name = str(node["function"]["function_name"]).lower()
        if name not in _TABLE_FUNCTIONS:
            raise QueryError(
                required=f"no table function but {', '.join(sorted(_TABLE_FUNCTIONS))}",
                found=f"{name}()",
                action=f"query the views alone: {', '.join(columns)}",
            )
    elif node.get("class") == "FUNCTION":
        name = str(node["function_name"]).lower()
        if _OUTSIDE.fullmatch(name):
            raise QueryError(
                required="functions that compute on the tables",
                found=f"{name}(), which looks outside them",
                action="remove it: files, environment and settings cannot be read",
            )


def _hint(error: Exception, sql: str, columns: dict[str, list[str]]) -> str:
    """What to do about an error of the engine: name the columns there are, or ask for less."""
    import duckdb

    if isinstance(error, duckdb.OutOfMemoryException):
        return "select fewer columns or rows, or aggregate"
    if not isinstance(error, duckdb.BinderException | duckdb.ParserException):
        return "correct the statement (duckdb.org/docs: SQL)"
    asked = [view for view in columns if re.search(rf"\b{view}\b", sql, re.IGNORECASE)]
    lines = []
    for view in asked or columns:
        plain = [name for name in columns[view] if not re.fullmatch(r"z_\d+", name)]
        latent = [name for name in columns[view] if name not in plain]
        span = [f"{latent[0]} … {latent[-1]}"] if latent else []
        lines.append(f"{view}: {', '.join(plain + span)}")
    return "\n          ".join(["choose among the columns of", *lines])


def _table(relation: duckdb.DuckDBPyRelation) -> pa.Table:
    """Run: decimals as int64 or float64, names unique."""
    import pyarrow as pa

    table = pa.RecordBatchReader.from_stream(relation).read_all()
    names: list[str] = []
    fields = []
    for field in table.schema:
        if pa.types.is_decimal(field.type):
            field = field.with_type(pa.int64() if field.type.scale == 0 else pa.float64())
        name, count = field.name, 0
        while name in names:
            count += 1
            name = f"{field.name}_{count}"
        names.append(name)
        fields.append(field.with_name(name))
    return table.rename_columns(names).cast(pa.schema(fields))


def _write(table: pa.Table, output: Path) -> None:
    """Write as CSV or Parquet (by suffix), whole or not at all."""
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    try:
        with publish(output) as temporary:
            if output.suffix == ".parquet":
                pq.write_table(table, temporary)
            else:
                pc.write_csv(table, temporary)
    except (pa.ArrowException, OSError) as error:
        raise QueryError(
            required=f"a result and a place that {output.suffix[1:]} can be written to",
            found=f"{error} ({output})",
            action="cast nested columns to VARCHAR or write .parquet; check the folder",
        ) from None


def _write_h5ad(table: pa.Table, about: dict[str, str], output: Path) -> None:
    """Write rows that are cells, each once, as AnnData: see `phenotypes.h5ad`."""
    import pandas as pd

    from vae_sci.phenotypes.h5ad import write_h5ad

    cells = table.to_pandas()
    ids = cells["cell_id"] if "cell_id" in cells else pd.Series([None])
    if not table.num_rows or ids.isna().any() or ids.duplicated().any():
        found = f"columns {', '.join(table.column_names)}"
        if not table.num_rows:
            found = "no row"
        elif "cell_id" in cells:
            found = f"cell '{ids[ids.isna() | ids.duplicated()].iloc[0]}' more than once or empty"
        raise QueryError(
            required="rows that are cells, each once: an .h5ad holds one per cell_id",
            found=found,
            action="select cell_id and any other columns FROM cells; other tables go to .csv or "
            ".parquet",
        )
    try:
        write_h5ad(cells, None, about, output)
    except (OSError, TypeError, ValueError) as error:
        raise QueryError(
            required="columns and a place that .h5ad can be written to",
            found=f"{error} ({output})",
            action="give columns the names and types that they have in `cells`; check the folder",
        ) from None


def _print(table: pa.Table, rows: int) -> None:
    """Show the head of a result of `rows` rows, and say what is left out."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    cells: list[list[str]] = []
    used = 0
    for name, column in zip(table.column_names, table.columns, strict=True):
        texts = [_text(value) for value in column.to_pylist()]
        used += min(max(map(len, [name, *texts])), 40) + 3
        if cells and used > console.width:
            break
        number = "int" in str(column.type) or "double" in str(column.type)
        grid.add_column(
            Text(_text(name)),
            justify="right" if number else "left",
            no_wrap=True,
            overflow="ellipsis",
            max_width=40,
        )
        cells.append(texts)
    for row in zip(*cells, strict=True):
        grid.add_row(*map(Text, row))
    console.print(grid)
    count = f"{rows:,} row{'' if rows == 1 else 's'}"
    if table.num_rows < rows or len(cells) < table.num_columns:
        console.print(
            f"{table.num_rows:,} of {count}, {len(cells)} of {table.num_columns} columns; "
            "for all: --output FILE.csv, .parquet or .h5ad"
        )
    else:
        console.print(count)


def _text(value: Any) -> str:
    """A value on one line: six digits, nothing for no value, no control characters."""
    text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
    return "".join(c if c.isprintable() else "�" for c in text)


def _short(sql: str) -> str:
    """The statement on one line, at most 80 characters."""
    line = " ".join(sql.split())
    return line if len(line) <= 80 else line[:79] + "…"
