"""The ledger balances or raises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vae_sci.errors import ContractError
from vae_sci.tiles.ledger import Ledger


def test_balanced(tmp_path: Path) -> None:
    ledger = Ledger("p", "images")
    ledger.add("fields", "field", found=5, kept=4, dropped={"empty": 1})
    ledger.add("cells", "cell", found=30, kept=27, dropped={"cut at border": 2, "x": 1})
    ledger.add("more", "cell", found=27, kept=27)
    ledger.write(tmp_path / "l.json", rows=27)
    steps = json.loads((tmp_path / "l.json").read_text())["steps"]
    assert [s["kept"] for s in steps] == [4, 27, 27]


def test_unbalanced_step_raises() -> None:
    with pytest.raises(ContractError, match="found=5"):
        Ledger("p", "images").add("fields", "field", found=5, kept=4)


def test_loss_between_steps_raises() -> None:
    ledger = Ledger("p", "images")
    ledger.add("nuclei", "cell", found=9, kept=9)
    with pytest.raises(ContractError, match="found=8 after 9"):
        ledger.add("cells", "cell", found=8, kept=8)


def test_rows_missing_from_the_table_raise(tmp_path: Path) -> None:
    ledger = Ledger("p", "images")
    ledger.add("cells", "cell", found=9, kept=9)
    with pytest.raises(ContractError, match="9 cells kept, 8"):
        ledger.write(tmp_path / "l.json", rows=8)
    assert not (tmp_path / "l.json").exists()
