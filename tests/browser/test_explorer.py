"""The explorer in headless Chromium, opened from disk: everything that it offers, and bad names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest
from explorer import make_screen
from matplotlib.path import Path as Outline
from PIL import Image
from playwright.sync_api import Browser, Page

from vae_sci.config import ReportSettings
from vae_sci.contracts import CELLS
from vae_sci.report.explorer.make import make_explorer

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HOSTILE = (
    "<script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=1">',
    "</script><script>window.hacked=1</script>",
    "'; window.hacked = 1; //",
    '=HYPERLINK("http://x.example")',
    "<b>bold</b> %{x} <br>",
    'Ακτίνη & 微管, 5 "µM"',
    "${window.hacked=1}",
)
Open = Callable[..., Page]


def made(folder: Path, n_cells: int, **shape: int) -> Path:
    """The page of a made-up screen whose treatments have hostile names, beside odd columns."""
    make_screen(folder, n_cells, **shape)
    path = folder / CELLS.path.format(model="vae")
    cells = CELLS.read(path)
    names = dict(zip(sorted(cells["treatment"].unique()), HOSTILE * 9, strict=False))
    cells["treatment"] = cells["treatment"].map(names).astype("string")
    cells.loc[3:40, "treatment"] = pd.NA
    cells["gap"] = np.where(np.arange(n_cells) % 3 == 0, np.nan, cells["novelty"] / 7)
    cells["constant"], cells["nothing"] = 7.0, np.nan
    CELLS.write(cells, path)
    return make_explorer(folder, "vae", ReportSettings(), seed=0).page


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("explorer"), 2000, side=32, dimensions=6)


@pytest.fixture(scope="module")
def cells(page_file: Path) -> pd.DataFrame:
    return CELLS.read(page_file.parents[2] / CELLS.path.format(model="vae")).set_index("cell_id")


@pytest.fixture
def open_page(browser: Browser, page_file: Path) -> Iterator[Open]:
    """Opens the page; no error, no request beyond the disk, no dialog, no script of a name."""
    wrong: list[str] = []
    pages: list[Page] = []

    def watched(request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            wrong.append(request.url)

    def start(address: str = "", file: Path = page_file, width: int = 1280) -> Page:
        opened = browser.new_page(viewport={"width": width, "height": 800})
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("request", watched)
        opened.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        opened.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        opened.goto(file.as_uri() + address)
        opened.wait_for_function("document.body.dataset.ready", timeout=60_000)
        pages.append(opened)
        return opened

    yield start
    for opened in pages:
        assert opened.evaluate("window.hacked") is None
        opened.close()
    assert wrong == []


def drawn_again(page: Page, act: Callable[[], Any]) -> None:
    """Do something that changes the view, and wait until it is drawn."""
    turn = page.evaluate("Number(document.body.dataset.ready)")
    act()
    page.wait_for_function("turn => Number(document.body.dataset.ready) > turn", arg=turn)


def chosen(page: Page) -> int:
    """How many cells the page says are chosen."""
    title = page.locator("#chosen-title").inner_text()
    return int(re.sub(r"\D", "", title))


def place_of(page: Page, cell_id: str) -> tuple[float, float]:
    """Where a cell is drawn, pixels of the window."""
    x, y = page.evaluate("id => pixelOf(cellIds.indexOf(id))", cell_id)
    box = page.locator("#map").bounding_box()
    assert box is not None
    return box["x"] + x, box["y"] + y


def lonely(cells: pd.DataFrame) -> str:
    """A cell in the middle half of the map that has no other near it."""
    xy = cells[["umap_1", "umap_2"]].to_numpy()
    gap = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    np.fill_diagonal(gap, np.inf)
    inner = (np.abs(xy - np.median(xy, axis=0)) < 7).all(axis=1)
    return str(cells.index[np.argmax(np.where(inner, gap.min(axis=1), 0))])


def lasso(page: Page, *corners: tuple[float, float]) -> None:
    """Draw around a polygon given in shares of the map's width and height."""
    box = page.locator("#map").bounding_box()
    assert box is not None
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.get_by_role("button", name="Lasso", exact=True).click()
    page.mouse.move(*at[0])
    page.mouse.down()
    for corner in at[1:]:
        page.mouse.move(*corner, steps=8)
    drawn_again(page, page.mouse.up)


def in_lasso(page: Page, cells: pd.DataFrame) -> pd.DataFrame:
    """The cells inside of the polygon that the address holds, by matplotlib."""
    path = np.array(parse_qs(page.url.split("#")[1])["lasso"][0].split(","), dtype=float)
    xy = cells[["umap_1", "umap_2"]].to_numpy().astype(np.float32)
    return cells[Outline(path.reshape(-1, 2)).contains_points(xy)]


def downloaded(page: Page) -> list[dict[str, str]]:
    with page.expect_download() as started:
        page.get_by_role("button", name="Download CSV").click()
    assert started.value.suggested_filename == "cells_vae.csv"
    text = Path(started.value.path()).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_it_says_what_it_shows_and_its_legend_counts(open_page: Open, cells: pd.DataFrame):
    page = open_page()
    assert page.locator("#status").inner_text() == "2,000 of 2,000 cells"
    assert page.get_by_text("mean nothing").is_visible()
    drawn_again(page, lambda: page.locator("#colour").select_option("cluster"))
    found = {
        level.locator(".name").inner_text(): int(level.locator(".count").inner_text())
        for level in page.locator("#legend .level").all()
    }
    assert found == cells["cluster"].value_counts().to_dict()
    page.get_by_role("button", name="About").click()
    told = page.locator("dialog").inner_text()
    assert all(text in told for text in ("plotly.js", "MIT", "MB", "results/phenotypes/vae"))


def test_hovering_shows_the_cell_with_its_tile(open_page: Open, cells: pd.DataFrame):
    page = open_page()
    cell_id = lonely(cells)
    page.mouse.move(*place_of(page, cell_id))
    tip = page.locator("#hover")
    tip.get_by_text(cell_id, exact=True).wait_for()
    assert str(cells.loc[cell_id, "cluster"]) in tip.inner_text()
    page.wait_for_timeout(300)
    tile = Image.open(io.BytesIO(tip.locator("canvas").screenshot())).convert("L")
    assert np.std(np.asarray(tile, dtype=float)) > 10
    page.mouse.move(640, 20)
    tip.wait_for(state="hidden")


def test_a_click_keeps_the_cell_with_its_nearest_in_z(open_page: Open, cells: pd.DataFrame):
    page = open_page()
    cell_id = lonely(cells)
    drawn_again(page, lambda: page.mouse.click(*place_of(page, cell_id)))
    kept = page.locator("#kept")
    assert cell_id in kept.locator("h2").inner_text()
    z = cells.filter(regex="^z_")
    distance = np.linalg.norm(z - z.loc[cell_id], axis=1)
    nearest = cells.index[np.argsort(distance)[1:11]]
    labels = [b.get_attribute("aria-label") for b in kept.locator(".gallery button").all()]
    assert [str(label).split(": ")[0] for label in labels] == [f"Keep {name}" for name in nearest]
    drawn_again(page, kept.locator(".gallery button").first.click)
    assert nearest[0] in kept.locator("h2").inner_text()
    drawn_again(page, lambda: kept.get_by_role("button", name="Let go of the cell").click())
    assert kept.locator(".gallery").count() == 0


def test_a_lasso_counts_shows_and_downloads_what_lies_in_it(open_page: Open, cells: pd.DataFrame):
    page = open_page()
    lasso(page, (0.5, 0.05), (0.95, 0.3), (0.9, 0.9), (0.5, 0.6), (0.45, 0.1))
    inside = in_lasso(page, cells)
    assert 100 < len(inside) < 1900
    assert chosen(page) == len(inside)
    rows = page.locator("#chosen tbody tr").all()
    found = {r.locator("th").inner_text(): int(r.locator("td").first.inner_text()) for r in rows}
    assert found == inside["treatment"].fillna("not given").value_counts().to_dict()
    assert page.locator("#chosen .gallery button").count() == 24
    table = downloaded(page)
    assert {row["cell_id"] for row in table} == set(inside.index)
    assert len(table) == len(inside)
    for row in table:
        truth = inside.loc[row["cell_id"]]
        treatment = "" if pd.isna(truth["treatment"]) else truth["treatment"]
        assert row["treatment"] == ("'" + treatment if treatment.startswith("=") else treatment)
        assert float(row["novelty"]) == pytest.approx(truth["novelty"], rel=1e-6)
        assert (row["gap"] == "") == np.isnan(truth["gap"])
    drawn_again(page, lambda: page.get_by_role("button", name="Clear lasso").click())
    assert chosen(page) == 2000


def test_filters_on_several_columns_combine(open_page: Open, cells: pd.DataFrame):
    page = open_page()
    drawn_again(page, lambda: page.locator("#colour").select_option("cluster"))
    for name in ("0", "3"):
        level = page.locator("#legend .level", has=page.get_by_text(name, exact=True))
        drawn_again(page, level.first.click)
    wanted = cells["cluster"].isin(["0", "3"])
    assert chosen(page) == wanted.sum()
    drawn_again(page, lambda: page.locator("#add").select_option("novelty"))
    least = page.get_by_label("Least novelty")
    least.fill("60")
    drawn_again(page, lambda: least.press("Enter"))
    wanted &= cells["novelty"].astype(np.float32) >= 60
    assert chosen(page) == wanted.sum()
    drawn_again(page, lambda: page.locator("#add").select_option("gap"))
    most = page.get_by_label("Most gap")
    most.fill("12")
    drawn_again(page, lambda: most.press("Enter"))
    wanted &= cells["gap"].astype(np.float32) <= 12  # without a value: left out
    assert chosen(page) == wanted.sum()
    drawn_again(page, lambda: page.get_by_label("Remove the filter on novelty").click())
    assert chosen(page) > wanted.sum()


def test_search_finds_groups_and_cells_by_keyboard(open_page: Open, cells: pd.DataFrame):
    page = open_page()
    field = page.get_by_role("combobox", name="Search")
    field.fill("c07")
    page.get_by_role("option", name="C07").first.wait_for()
    drawn_again(page, lambda: field.press("Enter"))
    assert chosen(page) == (cells["well"] == "C07").sum()
    target = cells.index[-1]
    field.fill(target)
    option = page.get_by_role("option").filter(has_text=target)
    option.first.wait_for()
    while "true" not in str(option.first.get_attribute("aria-selected")):
        field.press("ArrowDown")
    drawn_again(page, lambda: field.press("Enter"))
    assert target in page.locator("#kept-title").inner_text()
    field.fill("no such thing")
    page.get_by_text("Nothing found").wait_for()


def test_a_link_restores_the_whole_view(open_page: Open, cells: pd.DataFrame):
    page = open_page()
    drawn_again(page, lambda: page.locator("#colour").select_option("novelty"))
    lasso(page, (0.4, 0.05), (0.95, 0.1), (0.9, 0.9), (0.3, 0.8))
    drawn_again(page, lambda: page.locator("#add").select_option("treatment"))
    nasty = page.locator("#filters .level", has=page.get_by_text(HOSTILE[0], exact=True))
    drawn_again(page, nasty.click)
    drawn_again(page, lambda: page.locator("#chosen .gallery button").first.click())
    page.locator("#in").click()
    page.wait_for_function("location.hash.includes('view=')")
    other = open_page("#" + page.url.split("#")[1])
    for part in ("#chosen-title", "#kept-title"):
        assert other.locator(part).inner_text() == page.locator(part).inner_text()
    assert other.locator("#colour").input_value() == "novelty"
    assert other.evaluate("view") == pytest.approx(page.evaluate("view"), rel=1e-4)
    expected = in_lasso(page, cells)
    assert chosen(other) == (expected["treatment"] == HOSTILE[0]).sum() > 0


def test_it_works_from_a_static_server(browser: Browser, page_file: Path):
    serve = partial(SimpleHTTPRequestHandler, directory=page_file.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        broken: list[str] = []
        page.on("requestfailed", lambda request: broken.append(request.url))
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_function("document.body.dataset.ready")
        page.wait_for_function("[...atlases.values()].length > 0")
        drawn_again(page, lambda: page.locator("#chosen .gallery button").first.click())
        assert page.locator("#kept .gallery button").count() == 10
        page.close()
        server.shutdown()
    assert broken == []


def test_a_link_to_what_is_not_here_says_so(open_page: Open):
    page = open_page("#colour=nonsense&cell=no/such/cell&is:ghost=%5B%22x%22%5D&view=1,2&lasso=a")
    told = page.locator("#status").inner_text()
    assert all(name in told for name in ("nonsense", "no/such/cell", "ghost"))
    assert chosen(page) == 2000


def test_hostile_names_are_text(open_page: Open, cells: pd.DataFrame):
    page = open_page()
    drawn_again(page, lambda: page.locator("#colour").select_option("treatment"))
    shown = set(page.locator("#legend .level .name").all_inner_texts())
    assert shown == {*HOSTILE, "not given"}
    assert {*HOSTILE, "not given"} == set(page.locator("#chosen tbody th").all_inner_texts())
    for name in HOSTILE:
        cell_id = cells.index[(cells["treatment"] == name).fillna(False)][0]
        page.evaluate("id => keep(cellIds.indexOf(id), true)", cell_id)
        page.locator("#kept-title").get_by_text(cell_id, exact=True).wait_for()
        assert page.locator("#kept dd").first.inner_text() == re.sub(r"\s+", " ", name)
    page.get_by_role("combobox", name="Search").fill("<script")
    page.get_by_role("option").first.wait_for()
    page.wait_for_timeout(200)
    assert page.locator("img").count() == 0


def test_the_map_is_reached_and_moved_by_keyboard(open_page: Open):
    page = open_page()
    page.locator("#map").focus()
    before = page.evaluate("view")
    page.keyboard.press("+")
    page.wait_for_function("before => view[1] - view[0] < before[1] - before[0]", arg=before)
    middle = page.evaluate("view")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("middle => view[0] > middle[0]", arg=middle)
    page.keyboard.press("0")
    page.wait_for_function("before => Math.abs(view[0] - before[0]) < 1e-6", arg=before)
    page.keyboard.press("l")
    assert page.locator("#lasso").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert page.locator("#lasso").get_attribute("aria-pressed") == "false"
    first = page.locator("#chosen .gallery button").first
    first.focus()
    drawn_again(page, lambda: page.keyboard.press("Enter"))
    label = str(first.get_attribute("aria-label")).removeprefix("Keep ").split(": ")[0]
    assert label in page.locator("#kept-title").inner_text()


def drawn_at(page: Page, x: float, y: float) -> bool:
    """Whether a dot is drawn at a place of the window."""
    clip = {"x": x - 2, "y": y - 2, "width": 4, "height": 4}
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    return bool((np.asarray(picture) < 250).any())


def test_dragging_and_the_wheel_move_the_map(open_page: Open, cells: pd.DataFrame):
    page = open_page()
    cell_id = lonely(cells)
    x, y = place_of(page, cell_id)
    page.mouse.move(640, 20)
    assert drawn_at(page, x, y)
    page.mouse.move(x + 40, y + 10)
    page.mouse.down()
    page.mouse.move(x + 100, y - 70, steps=4)
    assert place_of(page, cell_id) == pytest.approx((x + 60, y - 80), abs=0.5)
    assert drawn_at(page, x + 60, y - 80)  # while it moves
    page.mouse.up()
    page.mouse.move(640, 20)
    page.wait_for_function("plot.style.transform === ''")
    assert drawn_at(page, x + 60, y - 80)
    assert not drawn_at(page, x, y)
    assert page.locator("#kept .gallery").count() == 0  # a drag is no click
    page.mouse.move(x + 60, y - 80)
    page.mouse.wheel(0, -300)
    page.wait_for_function("location.hash.includes('view=') && plot.style.transform === ''")
    assert place_of(page, cell_id) == pytest.approx((x + 60, y - 80), abs=0.5)
    page.mouse.move(640, 20)
    page.locator("#hover").wait_for(state="hidden")
    assert drawn_at(page, x + 60, y - 80)
    before = page.evaluate("fitted(extent)")
    now = page.evaluate("view")
    assert now[1] - now[0] < 0.8 * (before[1] - before[0])


def test_every_control_has_a_name_and_the_count_is_announced(open_page: Open):
    page = open_page()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, summary")].filter((e) =>
          !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    assert page.get_by_role("status").get_attribute("aria-live") == "polite"


@pytest.mark.parametrize("width", [390, 1280, 2560])
def test_it_fits_the_window(open_page: Open, cells: pd.DataFrame, width: int):
    page = open_page(f"#colour=well&cell={cells.index[5]}", width=width)
    assert cells.index[5] in page.locator("#kept-title").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#map").bounding_box()
    assert box is not None
    assert box["width"] > 0.4 * width
    assert box["height"] > 350


def test_odd_columns_are_told(open_page: Open):
    page = open_page("#colour=constant")
    assert "7 for all cells" in page.locator("#legend").inner_text()
    drawn_again(page, lambda: page.locator("#colour").select_option("nothing"))
    assert "No cell has a value" in page.locator("#legend").inner_text()
    drawn_again(page, lambda: page.locator("#colour").select_option("gap"))
    assert "667 cells without a value" in page.locator("#legend").inner_text()


def test_one_cell_and_no_tiles(open_page: Open, page_file: Path, tmp_path: Path):
    cells = CELLS.read(page_file.parents[2] / CELLS.path.format(model="vae"))
    CELLS.write(cells.head(1), tmp_path / CELLS.path.format(model="vae"))
    page = open_page(file=make_explorer(tmp_path, "vae", ReportSettings(), seed=0).page)
    only = cells["cell_id"].iloc[0]
    drawn_again(page, lambda: page.mouse.click(*place_of(page, only)))
    assert only in page.locator("#kept-title").inner_text()
    assert "no tile" in page.locator("#kept").inner_text()


def test_a_hundred_thousand_cells(open_page: Open, tmp_path: Path):
    file = made(tmp_path, 100_000, side=16, dimensions=3)
    cells = CELLS.read(tmp_path / CELLS.path.format(model="vae")).set_index("cell_id")
    page = open_page(file=file)
    assert page.locator("#status").inner_text() == "100,000 of 100,000 cells"
    some = page.evaluate("cellIds[drawn.chosen[0]]")
    page.mouse.move(*place_of(page, some))
    page.locator("#hover").wait_for()
    lasso(page, (0.5, 0.05), (0.95, 0.05), (0.95, 0.5), (0.5, 0.5))
    inside = in_lasso(page, cells)
    assert chosen(page) == len(inside) > 1000
    drawn_again(page, lambda: page.locator("#add").select_option("control"))
    level = page.locator("#filters .level", has=page.get_by_text("True", exact=True))
    drawn_again(page, level.click)
    assert chosen(page) == inside["control"].sum()
    assert len(downloaded(page)) == inside["control"].sum()
