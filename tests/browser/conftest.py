"""A real headless Chromium for the pages that users open."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of this machine; where there is none, root installs Debian's, others skip."""
    path = find_chromium()
    if path is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (
            ["apt-get", "-qq", "update"],
            ["apt-get", "-qq", "-y", "install", NAMES[0]],
        ):
            subprocess.run(command, capture_output=True, timeout=300, check=False)
        path = find_chromium()
    if path is None:
        pytest.skip(f"no browser here ({', '.join(NAMES)}), and none could be installed")
    with sync_playwright() as driver:
        # Chromium's own sandbox refuses to start as root.
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
