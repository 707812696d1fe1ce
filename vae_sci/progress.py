"""How long work shows itself: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


class Bar:
    """Shows `done` of `total`; call it from the work, `done` counted from 1.

    On a terminal it draws a bar; elsewhere it writes a line at most every ten seconds.
    """

    def __init__(self, what: str, unit: str, drawn: Progress | None) -> None:
        self.what, self.unit, self.drawn = what, unit, drawn
        self.task = drawn.add_task(what, total=None, note="") if drawn else None
        self.start = self.last = time.monotonic()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if self.drawn is not None and self.task is not None:
            text = f"{done}/{total} {self.unit}  {note}"
            self.drawn.update(self.task, completed=done, total=total, note=text)
            return
        now = time.monotonic()
        if done == total or now - self.last > SECONDS_BETWEEN_LINES:
            self.last = now
            left = (now - self.start) * (total - done) / max(1, done)
            say(f"{self.what}: {done}/{total} {self.unit}, {left:.0f} s left  {note}".rstrip())


def say(text: str) -> None:
    """One line for the person who waits."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def bar(what: str, unit: str) -> Iterator[Bar]:
    """A `Bar` for the time of the `with` block."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bar(what, unit, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as drawn:
        yield Bar(what, unit, drawn)
