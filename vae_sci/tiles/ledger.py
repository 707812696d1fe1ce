"""The ledger: at every step, found = kept + dropped, and nothing is lost between steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vae_sci.errors import ContractError
from vae_sci.files import write_json


class Ledger:
    """Counts of one plate, step by step."""

    def __init__(self, plate: str, kind: str) -> None:
        self.plate, self.kind = plate, kind
        self.steps: list[dict[str, Any]] = []

    @classmethod
    def read(cls, path: str | Path) -> Ledger:
        """A ledger that `write` has written, to go on with.

        Raises `ContractError` where it is missing or damaged.
        """
        try:
            written = json.loads(Path(path).read_text())
            ledger = cls(written["plate"], written["kind"])
            ledger.steps = written["steps"]
        except (OSError, ValueError, KeyError) as error:
            raise ContractError(
                required="the ledger of the cells that were cut out",
                found=f"{path} cannot be read: {error}",
                action="tile the plate again",
            ) from None
        return ledger

    def add(
        self, step: str, unit: str, *, found: int, kept: int, dropped: dict[str, int] | None = None
    ) -> None:
        """Record a step that counts `unit`; `dropped`: reason → number.

        Raises `ContractError` unless found = kept + dropped, and, where an earlier step counted
        the same unit, unless `found` is what the last such step kept.
        """
        dropped = dict(sorted((dropped or {}).items()))
        self._balance(found == kept + sum(dropped.values()), f"{step}: {found=} {kept=} {dropped=}")
        before = next((s for s in reversed(self.steps) if s["unit"] == unit), None)
        if before is not None:
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
