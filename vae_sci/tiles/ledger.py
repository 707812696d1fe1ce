"""The ledger: at every step, found = kept + dropped, and nothing is lost between steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vae_sci.errors import ContractError
from vae_sci.files import write_json


class Ledger:
    """Counts of one plate, step by step."""

    def __init__(self, plate: str, kind: str) -> None:
        self.plate, self.kind = plate, kind
        self.steps: list[dict[str, Any]] = []

    def add(
        self, step: str, unit: str, *, found: int, kept: int, dropped: dict[str, int] | None = None
    ) -> None:
        """Record a step that counts `unit`; `dropped`: reason → number.

        Raises `ContractError` unless found = kept + dropped, and, where the step before counted
        the same unit, unless `found` is what that step kept.
        """
        dropped = dict(sorted((dropped or {}).items()))
        self._balance(found == kept + sum(dropped.values()), f"{step}: {found=} {kept=} {dropped=}")
        if self.steps and self.steps[-1]["unit"] == unit:
            before = self.steps[-1]
            self._balance(
                found == before["kept"], f"{step}: {found=} after {before['kept']} were kept"
            )
        self.steps.append(
            {"step": step, "unit": unit, "found": found, "kept": kept, "dropped": dropped}
        )

    def write(self, path: str | Path, rows: int) -> None:
        """Write as JSON. Raises `ContractError` unless the last step kept `rows` cells."""
        kept = self.steps[-1]["kept"] if self.steps else 0
        self._balance(kept == rows, f"{kept} cells kept, {rows} in the table")
        write_json({"plate": self.plate, "kind": self.kind, "steps": self.steps}, path)

    def _balance(self, holds: bool, found: str) -> None:
        if not holds:
            raise ContractError(
                required="a ledger that balances: found = kept + dropped at every step",
                found=f"plate {self.plate}, {found}",
                action="this is a fault of vae_sci: please report it with this message",
            )
