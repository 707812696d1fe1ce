"""Tables as classic scripts: a page opened from disk may load scripts, but not data.

Each file calls `receive(name, content)`, which `data.js` defines. Numbers are base64 of
little-endian arrays, categories codes beside their names.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def write_script(folder: Path, name: str, content: Any) -> None:
    """Write `content` as `name`.js; no text in it can end the script or open a tag."""
    text = json.dumps(content, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.js").write_text(f"receive({json.dumps(name)},{text});\n", encoding="ascii")


def kind_of(values: pd.Series) -> str:
    """number or category: what the page makes of a column."""
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return "number" if number else "category"


def packed_column(values: pd.Series) -> dict[str, Any]:
    """A column as the page reads it; of categories, code 0 is a missing value.

    Numbers are float32 (seven digits), missing and infinite ones NaN; whole numbers that float32
    cannot tell apart are float64.
    """
    if kind_of(values) == "number":
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        numbers = np.where(np.isfinite(numbers), numbers, np.nan)
        known = numbers[np.isfinite(numbers)]
        wide = bool((known == np.round(known)).all()) and np.abs(known).max(initial=0) >= 2**24
        return {"numbers": packed(numbers.astype(np.float64 if wide else np.float32))}
    text = values.astype("string")
    # The commonest first: its code is small, and the page lists them in this order.
    levels = text.value_counts().sort_index(kind="stable").sort_values(
        ascending=False, kind="stable"
    ).index  # fmt: skip
    codes = levels.get_indexer(pd.Index(text)) + 1
    wide_enough = (
        np.uint8 if len(levels) < 2**8 else np.uint16 if len(levels) < 2**16 else np.uint32
    )
    return {"codes": packed(codes.astype(wide_enough)), "levels": levels.tolist()}


def packed(array: NDArray[Any]) -> dict[str, str]:
    """An array as its JavaScript type and the base64 of its bytes."""
    names = {"u1": "Uint8", "u2": "Uint16", "u4": "Uint32", "i4": "Int32"}
    names |= {"f4": "Float32", "f8": "Float64"}
    array = np.ascontiguousarray(array)
    little = array.astype(array.dtype.newbyteorder("<"))
    return {
        "type": f"{names[array.dtype.str[1:]]}Array",
        "base64": base64.b64encode(little.tobytes()).decode(),
    }
