"""A table that breaks its contract is refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from vae_sci.contracts import EMBEDDINGS
from vae_sci.errors import ContractError


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "distortion": [1.0, 2.0],
            "cell_id": ["a", "b"],
            "z_000": [0, 1],
            "sd_000": [1.0, 1.0],
            "rate_z": [0.1, 0.2],
            "rate_u": [10.0, 20.0],
            "novelty": [1.0, 2.0],
        }
    )


def test_round_trip_orders_and_types_the_columns(tmp_path: Path):
    EMBEDDINGS.write(table(), tmp_path / "t.parquet")
    back = EMBEDDINGS.read(tmp_path / "t.parquet")
    assert list(back)[:2] == ["cell_id", "z_000"]
    assert back["z_000"].dtype == "float64"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop(columns="rate_z"), "'rate_z'"),
        (lambda t: t.assign(rate_z=[0.1, None]), "row 1"),
        (lambda t: t.assign(rate_z=["x", "y"]), "'rate_z'"),
        (lambda t: t.assign(cell_id="a"), "a more than once"),
        (lambda t: t.assign(extra=1), "extra"),
    ],
)
def test_a_breach_is_named(tmp_path: Path, change, says: str):
    with pytest.raises(ContractError, match=says):
        EMBEDDINGS.write(change(table()), tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_named(tmp_path: Path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(ContractError, match=r"t\.parquet"):
        EMBEDDINGS.read(path)
