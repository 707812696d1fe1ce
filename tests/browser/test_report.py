"""`snakemake --report`: one zip, figures under named categories with captions, no network."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def report(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the tiny run, unpacked."""
    folder = tmp_path_factory.mktemp("report")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml"),
            *("--report", str(folder / "report.zip")),
        ],
        cwd=tiny_project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(folder / "report.zip") as packed:
        packed.extractall(folder)
    return folder / "report" / "report.html"


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The report, opened from disk; nothing may be asked of the network or go wrong in it."""
    opened = browser.new_page(viewport={"width": 1300, "height": 900})
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "request",
        lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else wrong.append(r.url),
    )
    opened.goto(report.as_uri())
    yield opened
    opened.close()
    assert wrong == []


def test_it_opens_with_what_the_run_is_and_its_categories(page: Page):
    page.get_by_text("About").wait_for()
    for category in ("Figures", "Tables"):
        assert page.get_by_role("link", name=category, exact=True).is_visible()
    assert "to latent phenotypes" in page.content()


@pytest.mark.parametrize(
    ("category", "name", "caption"),
    [
        ("Figures", "umap_treatment", "Every dot is a cell"),
        ("Tables", "clusters", "The latent phenotypes"),
        ("Tables", "treatments", "Each treatment at each concentration"),
        ("Tables", "enrichment", "Which clusters each treatment fills"),
    ],
)
def test_every_result_lies_under_its_category_with_a_caption(
    page: Page, category: str, name: str, caption: str
):
    page.get_by_role("link", name=category, exact=True).click()
    row = page.get_by_role("row").filter(has_text=name)
    assert row.count() == 1
    row.locator("[iconname=information-circle]").click()
    page.get_by_text(caption).first.wait_for()


def test_a_figure_is_shown(page: Page):
    page.get_by_role("link", name="Figures", exact=True).click()
    row = page.get_by_role("row").filter(has_text="umap_treatment")
    row.locator("[iconname=eye]").click()
    image = page.locator("img[src*=umap_treatment]")
    image.wait_for()
    assert image.evaluate("image => image.naturalWidth") > 500
