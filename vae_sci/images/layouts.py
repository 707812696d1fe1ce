"""How file names tell plate, well, site and channel."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vae_sci.errors import InputError, SettingsError

_GUID = r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}"

LAYOUTS = {
    # MetaXpress, and BBBC021 after it: Week2_180607_B02_s1_w1648EE446-12C2-….tif is channel 1
    "imagexpress": r"^(?:(?P<plate>.+)_)?(?P<well>[A-P][A-F]?\d{1,2})(?:_s(?P<site>\d+))?"
    rf"(?:_w(?P<channel>\d{{1,2}})(?:{_GUID})?)?(?:\.ome)?\.tiff?$",
    # Opera Phenix and Operetta, exported by Harmony: r02c03f04p01-ch1sk1fk1fl1.tiff
    "opera": r"^r(?P<row>\d+)c(?P<col>\d+)f(?P<site>\d+)p\d+-ch(?P<channel>\d+)(?:sk\d+)?"
    r"(?:fk\d+)?(?:fl\d+)?\.tiff?$",
}


@dataclass(frozen=True)
class Name:
    """What one file name tells; `channel` is None where one file holds all channels."""

    plate: str | None
    well: str
    site: str
    channel: str | None


def normalize_well(text: str) -> str:
    """`b2`, `B2`, `B002` → `B02`; raises ValueError for what is not a well (A1 to AF48)."""
    match = re.fullmatch(r"\s*([A-Za-z]|[Aa][A-Fa-f])[-_]?0*(\d{1,2})\s*", text)
    if match is None or not 1 <= int(match[2]) <= 48:
        raise ValueError(f"'{text}' is not a well such as B02")
    return f"{match[1].upper()}{int(match[2]):02d}"


def _row_letters(row: str) -> str:
    """Row 2 or B → B; row 27 → AA."""
    if not row.isdigit():
        return row
    number = int(row) - 1
    return ("A" if number >= 26 else "") + chr(ord("A") + number % 26)


def number_or_text(text: str) -> str:
    """`01` → `1`; anything that is not a number stays as it is."""
    return str(int(text)) if text.isdigit() else text


class Layout:
    """A compiled layout: the name of a convention in `LAYOUTS`, or a regular expression.

    The expression is searched in the file name (not in its folder), ignoring case, and has the
    named groups `well` (or `row` and `col`), and optionally `site`, `channel` and `plate`.
    Raises `SettingsError` if it has not, or does not compile.
    """

    def __init__(self, layout: str) -> None:
        self.pattern = LAYOUTS.get(layout, layout)
        try:
            self._regex = re.compile(self.pattern, re.IGNORECASE)
        except re.error as error:
            raise self._unusable(f"'{layout}': {error}") from None
        groups = set(self._regex.groupindex)
        if not ("well" in groups or {"row", "col"} <= groups):
            raise self._unusable(
                f"'{layout}' with the groups {', '.join(sorted(groups)) or 'none'}"
            )

    @staticmethod
    def _unusable(found: str) -> SettingsError:
        return SettingsError(
            required=f"as layout {' or '.join(LAYOUTS)}, or a regular expression with the named "
            "groups well (or row and col), and optionally site, channel and plate",
            found=found,
            action="correct the column layout of plates.tsv",
        )

    def parse(self, name: str) -> Name | None:
        """What `name` tells, or None if it does not fit.

        Raises `InputError` where it fits but its well is none.
        """
        match = self._regex.search(name)
        if match is None:
            return None
        found = {key: value for key, value in match.groupdict().items() if value is not None}
        well = found.get("well") or _row_letters(found.get("row", "")) + found.get("col", "")
        try:
            well = normalize_well(well)
        except ValueError as error:
            raise InputError(
                required="a well in every file name",
                found=f"{error}, in the file name {name}",
                action="correct the layout of this plate in plates.tsv",
            ) from None
        channel = found.get("channel")
        return Name(
            plate=found.get("plate"),
            well=well,
            site=number_or_text(found.get("site", "1")),
            channel=None if channel is None else number_or_text(channel),
        )
