"""How file names tell plate, well, site, channel, depth and time."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vae_sci.errors import InputError, SettingsError

_GUID = r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}"
_WELL = r"(?P<well>[A-P][A-F]?\d{1,2})"
_TIFF = r"(?:\.ome)?\.tiff?$"

LAYOUTS = {
    # MetaXpress: exp_B02_s1_w2.tif, depths and times in folders TimePoint_1/ZStep_2
    "imagexpress": r"(?:^|/)(?:TimePoint_(?P<time>\d+)/)?(?:ZStep_(?P<z>\d+)/)?"
    rf"(?:(?P<plate>[^/]+)_)?{_WELL}(?:_s(?P<site>\d+))?"
    rf"(?:_w(?P<channel>\d{{1,2}})(?:{_GUID})?)?(?:{_TIFF}|(?:\.ome)?\.zarr$)",
    # BBBC021, as MetaXpress named it: Week2_180607_B02_s1_w1648EE446-12C2-….tif is channel 1
    "bbbc021": rf"^(?P<plate>Week\d+_\d+)_{_WELL}_s(?P<site>\d+)_w(?P<channel>\d){_GUID}{_TIFF}",
    # Opera Phenix and Operetta CLS, exported by Harmony: r02c03f04p01-ch1sk1fk1fl1.tiff
    "opera": r"^r(?P<row>\d+)c(?P<col>\d+)f(?P<site>\d+)p(?P<z>\d+)-ch(?P<channel>\d+)"
    rf"(?:sk(?P<time>\d+))?(?:fk\d+)?(?:fl\d+)?{_TIFF}",
    # Operetta, exported by Columbus (time, depth, channel at the end): 002003-4-001001002.tif
    "operetta": r"^(?P<row>\d{3})(?P<col>\d{3})-(?P<site>\d+)-(?P<time>\d{3})(?P<z>\d{3})"
    rf"(?P<channel>\d{{3}}){_TIFF}",
    # Yokogawa CellVoyager: screen_B03_T0001F002L01A01Z03C01.tif
    "cellvoyager": rf"^(?:(?P<plate>.+)_)?{_WELL}_T(?P<time>\d+)F(?P<site>\d+)L\d+A\d+"
    rf"Z(?P<z>\d+)C(?P<channel>\d+){_TIFF}",
}
GROUPS = ("plate", "well", "row", "col", "site", "channel", "z", "time")


@dataclass(frozen=True)
class Name:
    """What one file name tells; `channel` is None where one file holds all channels.

    z and time are None where the name tells none.
    """

    plate: str | None
    well: str
    site: str
    channel: str | None
    z: str | None = None
    time: str | None = None


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

    The expression is searched in the file name, or if there is a / in it in the whole path,
    ignoring case. It has the named groups `well` (or `row` and `col`), and optionally `site`,
    `channel`, `plate`, `z` (depth) and `time`.
    Raises `SettingsError` if it has not, or does not compile.
    """

    def __init__(self, layout: str) -> None:
        self.pattern = LAYOUTS.get(layout, layout)
        self._whole = "/" in self.pattern
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
            required=f"as layout {', '.join(LAYOUTS)}, or a regular expression with the named "
            "groups well (or row and col), and optionally site, channel, plate, z and time",
            found=found,
            action="correct the column layout of plates.tsv; `vae-sci index --explain FILE` shows "
            "how a name is read",
        )

    def subject(self, path: str) -> str:
        """The part of `path` that the expression is searched in."""
        return path if self._whole else path.rsplit("/", 1)[-1]

    def parse(self, path: str) -> Name | None:
        """What the name of the file at `path` tells, or None if it does not fit.

        Raises `InputError` where it fits but its well is none.
        """
        match = self._regex.search(self.subject(path))
        if match is None:
            return None
        found = {key: value for key, value in match.groupdict().items() if value is not None}
        well = found.get("well") or _row_letters(found.get("row", "")) + found.get("col", "")
        try:
            well = normalize_well(well)
        except ValueError as error:
            raise InputError(
                required="a well in every file name",
                found=f"{error}, in the file name {path}",
                action="correct the layout of this plate in plates.tsv",
            ) from None
        told = {key: number_or_text(found[key]) for key in ("channel", "z", "time") if key in found}
        return Name(
            plate=found.get("plate"),
            well=well,
            site=number_or_text(found.get("site", "1")),
            channel=told.get("channel"),
            z=told.get("z"),
            time=told.get("time"),
        )

    def nearest(self, path: str) -> tuple[str, str]:
        """How far a name that does not fit does: the part that the longest beginning of the
        expression matches, and the rest of the expression."""
        for end in range(len(self.pattern) - 1, 0, -1):
            try:
                match = re.compile(self.pattern[:end], re.IGNORECASE).search(self.subject(path))
            except re.error:  # cut within a group or class
                continue
            if match is not None:
                return match[0].lstrip("/"), self.pattern[end:]
        return "", self.pattern
