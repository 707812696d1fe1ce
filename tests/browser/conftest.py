"""A real headless Chromium for the pages that users open."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser(install: Callable[..., None]) -> Iterator[Browser]:
    """Chromium of this machine; where there is none, root installs Debian's, others skip."""
    if find_chromium() is None:
        install(NAMES[0])
    with sync_playwright() as driver:
        # Chromium's own sandbox refuses to start as root.
        opened = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield opened
        opened.close()
