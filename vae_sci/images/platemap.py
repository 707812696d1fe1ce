"""The platemap: what was done to each well."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from vae_sci.errors import InputError
from vae_sci.images.layouts import normalize_well

if TYPE_CHECKING:
    from vae_sci.config import PlateRow

_TRUE, _FALSE = {"true", "1", "yes"}, {"false", "0", "no"}


def read_csv(path: str | Path, renames: dict[str, str]) -> pd.DataFrame:
    """A CSV or TSV of text, columns renamed; the index is each row's line in the file.

    Blank cells are missing values; nothing else is ("NA" stays text). Raises `InputError` for a
    file that is missing, empty or not a table, and for a column that occurs twice.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig") as handle:
            header = handle.readline()
        separator = "\t" if "\t" in header else ","
        table = pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skip_blank_lines=False,
        )
    except (OSError, UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise InputError(
            required="a table (CSV or TSV, UTF-8) with a header",
            found=f"{path}: {error}",
            action="check the path in plates.tsv and the file",
        ) from None
    table.columns = [str(name).strip() for name in table.columns]
    table = table.rename(columns=renames)
    twice = sorted(set(table.columns[table.columns.duplicated()]))
    if twice:
        raise InputError(
            required="every column once",
            found=f"column '{twice[0]}' more than once in {path} (after the renames of plates.tsv)",
            action="correct `columns` in plates.tsv, or the file",
        )
    table.index = pd.RangeIndex(2, len(table) + 2)
    table = table.apply(lambda column: column.str.strip()).replace("", pd.NA)
    return table.dropna(how="all")


def need_columns(table: pd.DataFrame, needed: Iterable[str], path: str | Path) -> None:
    """Raise `InputError` unless `table` (from `read_csv`) has `needed`, with no blank in them."""
    for name in needed:
        if name not in table.columns:
            raise InputError(
                required=f"column '{name}'",
                found=f"columns {', '.join(map(str, table.columns))} in {path}",
                action=f"add it, or rename another in plates.tsv, columns: old:{name}",
            )
        blank = table.index[table[name].isna()]
        if len(blank):
            raise InputError(
                required=f"a value of '{name}' in every row",
                found=f"none in line {blank[0]} of {path}",
                action="fill it in, or remove the row",
            )


def wells(column: pd.Series, path: str | Path) -> pd.Series:
    """Well names in the form B02. Raises `InputError` naming the line."""
    for line, value in column.items():
        try:
            normalize_well(value)
        except ValueError as error:
            raise InputError(
                required="a well such as B02 in every row",
                found=f"{error}, line {line} of {path}",
                action="correct the name of the well",
            ) from None
    return column.map(normalize_well).astype("string")


def numbers(column: pd.Series, path: str | Path) -> pd.Series:
    """Text → float64, blanks missing. Raises `InputError` naming the line."""
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    wrong = column.index[column.notna() & values.isna()]
    if len(wrong):
        raise InputError(
            required=f"numbers in column '{column.name}'",
            found=f"'{column[wrong[0]]}' in line {wrong[0]} of {path}",
            action="write a number with a point, or leave the cell blank; units go elsewhere",
        )
    return values


def _booleans(column: pd.Series, path: str | Path) -> pd.Series:
    text = column.str.lower()
    wrong = column.index[~text.isin(_TRUE | _FALSE)]
    if len(wrong):
        raise InputError(
            required=f"true or false (or 1 or 0) in column '{column.name}'",
            found=f"'{column[wrong[0]]}' in line {wrong[0]} of {path}",
            action="write true for untreated control wells, false for all others",
        )
    return text.isin(_TRUE)


def rows_of_plate(table: pd.DataFrame, plate: str, path: str | Path) -> pd.DataFrame:
    """Rows of `plate` without the column `plate`; all rows where there is no such column.

    Raises `InputError` where no row is left.
    """
    if "plate" not in table.columns:
        return table
    kept = table[table["plate"] == plate]
    if kept.empty:
        known = sorted(table["plate"].dropna().unique())
        raise InputError(
            required=f"rows of plate '{plate}'",
            found=f"only {', '.join(known[:8])}{' …' if len(known) > 8 else ''} in {path}",
            action="name the plate alike in plates.tsv and in this file",
        )
    return kept.drop(columns="plate")


def read_platemap(row: PlateRow) -> pd.DataFrame:
    """One row per well: well, treatment, concentration, control, then the file's other columns.

    well string `B02`; treatment string and concentration float64, missing where blank; control
    bool; others string. Where `row.platemap` is None the table is empty.
    Raises `InputError` naming the file and its line.
    """
    if row.platemap is None:
        table = pd.DataFrame(columns=["well", "treatment", "concentration", "control"], dtype=str)
        return table.astype(
            {
                "well": "string",
                "treatment": "string",
                "concentration": "float64",
                "control": "bool",
            }
        )
    path = row.platemap
    table = rows_of_plate(read_csv(path, row.columns), row.plate, path)
    need_columns(table, ["well", "control"], path)
    for optional in ("treatment", "concentration"):
        if optional not in table.columns:
            table[optional] = pd.NA
    table = table.astype("string")
    table["well"] = wells(table["well"], path)
    twice = table.index[table["well"].duplicated()]
    if len(twice):
        raise InputError(
            required="one row per well",
            found=f"well {table['well'][twice[0]]} again in line {twice[0]} of {path}",
            action="remove one of the two rows; a file for several plates needs a column plate",
        )
    table["concentration"] = numbers(table["concentration"], path)
    table["control"] = _booleans(table["control"], path)
    ours = ["well", "treatment", "concentration", "control"]
    return table[ours + [c for c in table.columns if c not in ours]].reset_index(drop=True)


def need_wells(row: PlateRow, seen: Iterable[str], platemap: pd.DataFrame) -> None:
    """Raise `InputError` naming the wells in `seen` that the platemap does not list."""
    unknown = sorted(set(seen) - set(platemap["well"]))
    if unknown:
        raise InputError(
            required="every imaged well in the platemap",
            found=f"{len(unknown)} not listed in {row.platemap}: {', '.join(unknown[:12])}"
            + (" …" if len(unknown) > 12 else ""),
            action="add them (treatment may stay blank), or leave their images out",
        )
