"""How the name of an image file is read, in words, and what its metadata tell."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vae_sci.errors import VaeSciError
from vae_sci.images.layouts import LAYOUTS, Layout, Name
from vae_sci.images.read import open_image
from vae_sci.images.remote import is_uri


def explain(path: str, layout: str | None = None) -> list[str]:
    """Lines that tell which layout fits the name of `path` and what it tells, or how near each
    comes; then, where the file is there, sizes, channels and pixel size.

    layout : the plate's own; None: all named ones are tried. Raises `SettingsError` for a layout
    that cannot be used.
    """
    return [*_name(path, [layout] if layout else list(LAYOUTS)), *_metadata(path)]


def _name(path: str, layouts: list[str]) -> Iterator[str]:
    compiled = {layout: Layout(layout) for layout in layouts}
    read: dict[str, Name | VaeSciError] = {}
    for layout, one in compiled.items():
        try:
            name = one.parse(path)
        except VaeSciError as error:
            read[layout] = error
            continue
        if name is not None:
            read[layout] = name
    for layout, found in read.items():
        if isinstance(found, Name):
            yield f"layout '{layout}' fits: {_told(found)}"
        else:
            yield f"layout '{layout}' fits, but: {found.found}"
    if read:
        return
    yield f"no layout fits '{path.rsplit('/', 1)[-1]}'"
    near = sorted(
        ((*one.nearest(path), layout) for layout, one in compiled.items()),
        key=lambda miss: -len(miss[0]),
    )
    for place, (fits, rest, layout) in enumerate(near):
        if place == 0 or fits:
            nearest = "nearest: " if place == 0 and len(near) > 1 else ""
            yield f"{nearest}'{layout}' fits as far as '{fits}'; then it needs {rest}"
    yield (
        "to do: write in the column layout of plates.tsv a regular expression with the named "
        "groups well (or row and col), site, channel, z and time, such as "
        r"(?P<well>[A-P]\d\d)_f(?P<site>\d+)_(?P<channel>\w+)\.tif"
    )


def _told(name: Name) -> str:
    parts = {
        "plate": name.plate or "not told",
        "well": name.well,
        "site": name.site,
        "channel": name.channel or "not told (all channels in one file)",
        "z": name.z,
        "time": name.time,
    }
    return ", ".join(f"{key} {value}" for key, value in parts.items() if value is not None)


def _metadata(path: str) -> Iterator[str]:
    if not (is_uri(path) or os.path.exists(path)):
        yield "the file is not there: its name alone was read"
        return
    try:
        with open_image(path) as image:
            lengths = image.sizes._asdict().items()
            yield f"{image.dtype}: " + ", ".join(f"{n} {what}" for what, n in lengths)
            yield "channels in the metadata: " + (", ".join(image.channel_names) or "no names")
            size = image.pixel_size_um
            yield f"pixel size: {f'{size:g} µm' if size else 'none that is believable'}"
    except VaeSciError as error:
        yield f"it cannot be used: {error.found}"
