"""Which fields and cells are kept: limits on measures that are stored for all that were cut out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from vae_sci.config import QualitySettings
from vae_sci.contracts import DROPPED, MEASURED_CELLS, MEASURED_FIELDS, TILES
from vae_sci.errors import ContractError, InputError
from vae_sci.images.quality import outliers, relative
from vae_sci.tiles.ledger import Ledger
from vae_sci.tiles.store import need_table_of

LEAST = 0.01  # robust standard deviation, relative: plates are not alike to more than this
STRUCTURE = 0.5  # autocorrelation of a tile that shows more than noise
FIELD = ["well", "site"]


@dataclass(frozen=True)
class Limit:
    """One limit of `quality`: its name there, what it judges and what is said of what it drops.

    columns : measures, by name or, ending in _, by what their names begin with.
    drops : what lies below, above, or on either side farther away than the limit.
    every : whether all of the measures must have passed the limit, not any one.
    """

    name: str
    unit: Literal["field", "cell"]
    reason: str
    columns: tuple[str, ...]
    drops: Literal["below", "above", "beyond"]
    every: bool = False

    def worst(self, measures: pd.DataFrame) -> pd.Series:
        """The measure that decides, per row: of several the worst, or the best where every one
        must have passed; NaN: not known."""
        names = [
            name
            for name in measures.columns
            if name in self.columns
            or name.startswith(tuple(c for c in self.columns if c[-1] == "_"))
        ]
        values = measures[names].astype("float64")
        if self.drops == "beyond":
            values = values.abs()
        lowest = (self.drops == "below") != self.every
        return values.min(axis=1) if lowest else values.max(axis=1)

    def dropped(self, worst: pd.Series, at: float | None) -> pd.Series:
        """Whether a row is dropped; what is not known never is."""
        if at is None:
            return pd.Series(False, worst.index)
        return worst < at if self.drops == "below" else worst > at


# In this order: of several limits that a field or cell has passed, the first is its reason.
LIMITS = (
    Limit("field_cells", "field", "no cells", ("cells_",), "below"),
    Limit("field_saturated", "field", "saturated", ("saturated_",), "above"),
    Limit("field_focus", "field", "out of focus", ("relative_focus_",), "below"),
    Limit("field_background", "field", "unusual background", ("outlier_background_",), "beyond"),
    Limit("noise", "cell", "noise only", ("autocorrelation",), "below"),
    Limit("saturated", "cell", "saturated", ("saturated",), "above"),
    Limit("debris_alike", "cell", "debris, channels alike", ("relative_difference",), "below"),
    Limit("focus", "cell", "out of focus", ("relative_focus",), "below"),
    Limit("debris_size", "cell", "debris, small", ("outlier_area",), "below"),
    # A treatment may dim one channel: what is dim in every one is no cell.
    Limit("debris_contrast", "cell", "debris, dim", ("outlier_contrast_",), "below", every=True),
    Limit("size", "cell", "unusual size", ("outlier_area", "outlier_nucleus_area"), "beyond"),
    Limit("intensity", "cell", "unusual intensity", ("outlier_intensity_",), "beyond"),
)


def fields_against_plate(fields: pd.DataFrame) -> pd.DataFrame:
    """Adds relative_focus and outlier_background, within each channel of the plate.

    fields : one row per field and channel, with focus and background.
    """
    parts = []
    for _, rows in fields.groupby("channel", sort=False):
        background = rows["background"].to_numpy(np.float64)
        parts.append(
            rows.assign(
                relative_focus=relative(rows["focus"].to_numpy(np.float64)),
                outlier_background=outliers(background, LEAST * max(1.0, np.median(background))),
            )
        )
    return pd.concat(parts).sort_index()


def cells_against_plate(cells: pd.DataFrame) -> pd.DataFrame:
    """Adds the columns relative_… and outlier_… of contract TILES, within the plate.

    Tiles of noise alone have no say in what is typical: they would be the sharpest of all, and on
    a spoilt plate they can be the most.
    """
    typical = (cells["autocorrelation"] >= STRUCTURE).to_numpy(bool)
    added = {
        f"relative_{name}": relative(cells[name].to_numpy(np.float64, na_value=np.nan), typical)
        for name in ("focus", "difference")
    }
    for name in ("area", "nucleus_area"):
        added[f"outlier_{name}"] = outliers(_log(cells[name]), LEAST, typical)
    for name in cells.columns[cells.columns.str.startswith("intensity_")]:
        contrast = _log(cells[name.replace("intensity_", "spread_", 1)])
        level = cells[name].to_numpy(np.float64)
        least = LEAST * max(1.0, float(np.median(level)))
        added[f"outlier_{name}"] = outliers(level, least, typical)
        channel = name.removeprefix("intensity_")
        added[f"outlier_contrast_{channel}"] = outliers(contrast, LEAST, typical)
    return cells.assign(**added)


def _log(values: pd.Series) -> np.ndarray:
    """Logarithm; NaN where not known. What is flat counts as a hundredth of a unit."""
    return np.log(np.maximum(values.to_numpy(np.float64, na_value=np.nan), 0.01))


def select_cells(results: Path, plate: str, settings: QualitySettings) -> None:
    """Write `dropped/{plate}.csv`, `ledger/{plate}.json` and, last, `tiles/{plate}.parquet`.

    Reads what `make_tiles` has measured; tiles are neither read nor changed. Raises `InputError`
    where no cell is left, `ContractError` where the measures are not those of the store.
    """
    results = Path(results)
    fields, cells = _read(results, plate)
    need_table_of(results / "tiles" / f"{plate}.zarr", cells)
    ledger = Ledger.read(results / "measured" / "ledger" / f"{plate}.json")
    bad_fields, bad_cells = judge(fields, cells, settings)
    if len(fields):
        found = len(_per_field(fields))
        ledger.add(
            "quality of fields",
            "field",
            found=found,
            kept=found - len(bad_fields),
            dropped=Counter(bad_fields["reason"]),
        )
    kept = cells[~cells["cell_id"].isin(bad_cells["cell_id"])]
    ledger.add(
        "quality of cells",
        "cell",
        found=len(cells),
        kept=len(kept),
        dropped=Counter(bad_cells["reason"]),
    )
    if kept.empty:
        counts = ", ".join(f"{n} {why}" for why, n in Counter(bad_cells["reason"]).items())
        raise InputError(
            required=f"at least one cell on plate {plate}",
            found=f"{len(cells)} cells cut out, none kept ({counts})",
            action="look at the images, or loosen `quality`: vae-sci quality tells what each of "
            "its limits drops",
        )
    DROPPED.write(_stacked([bad_fields, bad_cells]), results / DROPPED.path.format(plate=plate))
    ledger.write(results / "ledger" / f"{plate}.json", rows=len(kept))
    TILES.write(kept, results / TILES.path.format(plate=plate))


def judge(
    fields: pd.DataFrame, cells: pd.DataFrame, settings: QualitySettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The fields and the cells of a plate that are dropped, contract DROPPED.

    fields, cells : contracts MEASURED_FIELDS and MEASURED_CELLS. A cell of a dropped field is
    dropped with the field's reason.
    """
    judged = _per_field(fields)
    bad_fields = _first_passed(judged, "field", settings)
    bad_cells = _first_passed(cells, "cell", settings)
    of_field = cells[["plate", *FIELD, "cell_id"]].merge(
        bad_fields.drop(columns=["plate", "cell_id"]), on=FIELD
    )
    of_field = of_field.assign(unit="cell", reason="field " + of_field["reason"].astype(str))
    others = bad_cells[~bad_cells["cell_id"].isin(of_field["cell_id"])]
    return bad_fields, _stacked([of_field, others])


def _per_field(fields: pd.DataFrame) -> pd.DataFrame:
    """One row per field, and a column per measure and channel: what it is, _, the channel."""
    if fields.empty:
        return pd.DataFrame(columns=["plate", *FIELD])
    wide = fields.pivot(index=["plate", *FIELD], columns="channel")
    wide.columns = pd.Index(["_".join(names) for names in wide.columns.to_flat_index()])
    return wide.reset_index()


def _first_passed(measures: pd.DataFrame, unit: str, settings: QualitySettings) -> pd.DataFrame:
    """Rows of fields or cells that have passed a limit, contract DROPPED; a row once."""
    left = measures
    parts = []
    for limit in LIMITS:
        at = getattr(settings, limit.name)
        if limit.unit != unit or at is None:
            continue
        worst = limit.worst(left)
        no_cell = pd.Series(pd.NA, left.index, dtype="string")
        bad = limit.dropped(worst, at)
        parts.append(
            pd.DataFrame(
                {
                    **left.loc[bad, ["plate", *FIELD]],
                    "unit": unit,
                    "cell_id": left.loc[bad, "cell_id"] if unit == "cell" else no_cell[bad],
                    "reason": limit.reason,
                    "limit": limit.name,
                    "at": at,
                    "found": worst[bad],
                }
            )
        )
        left = left[~bad]
    return _stacked(parts)


def _stacked(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables of contract DROPPED in one; empty ones would spoil the types of its columns."""
    parts = [part for part in parts if len(part)]
    names = [column.name for column in DROPPED.columns]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def explore(results: Path, settings: QualitySettings) -> pd.DataFrame:
    """What each limit would drop on each plate that is tiled, one row per plate and limit.

    Columns: plate, unit, limit, drops (below, above, beyond), at (empty: not asked for), of (how
    many are judged), passed (how many have passed this limit, whatever the others say), and per
    plate a row `all`: how many fields or cells are dropped. Nothing is written.
    """
    paths = sorted((Path(results) / "measured" / "cells").glob("*.parquet"))
    if not paths:
        raise ContractError(
            required="a folder of results in which plates are tiled",
            found=f"no measured/cells/*.parquet in {results}",
            action="run vae-sci tiles, or the workflow",
        )
    rows: list[tuple[Any, ...]] = []
    for path in paths:
        plate = path.name.removesuffix(".parquet")
        fields, cells = _read(Path(results), plate)
        tables = {"field": _per_field(fields), "cell": cells}
        dropped = dict(zip(tables, judge(fields, cells, settings), strict=True))
        for unit, measures in tables.items():
            for limit in LIMITS:
                if limit.unit == unit:
                    at = getattr(settings, limit.name)
                    passed = limit.dropped(limit.worst(measures), at).sum()
                    rows.append((plate, unit, limit.name, limit.drops, at, len(measures), passed))
            rows.append((plate, unit, "all", "", None, len(measures), len(dropped[unit])))
    names = ["plate", "unit", "limit", "drops", "at", "of", "passed"]
    return pd.DataFrame(rows, columns=names)


def _read(results: Path, plate: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What was measured of a plate's fields and cells."""
    return (
        MEASURED_FIELDS.read(results / MEASURED_FIELDS.path.format(plate=plate)),
        MEASURED_CELLS.read(results / MEASURED_CELLS.path.format(plate=plate)),
    )
