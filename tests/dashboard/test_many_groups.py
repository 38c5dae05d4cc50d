"""Runs with 93 combinations of twelve modalities, and with few: on a desktop, a phone and paper."""

import numpy as np
import pytest

from remind_server.store.open import open_store, store_url
from tests.builders.stored_runs import Drill
from tests.dashboard.browser import DESKTOP, PHONE, serving

pytestmark = pytest.mark.slow

MODALITIES = (
    *("demographics", "body", "questionnaire", "cbc", "biochemistry", "lipid", "urine", "hba1c", "fasting"),
    *("depression", "cardio", "inflammation"),
)
PAPER = {"width": 1047, "height": 720}  # A4 on its side, less margins, at 96 dots per inch


def many():
    """Hospital → group → patients: a few large groups, and a long tail that not every hospital has."""
    rng = np.random.default_rng(0)
    masks = sorted({4095, 4093, 4031, 511, *rng.choice(np.arange(1, 4095), 200, replace=False).tolist()}, reverse=True)[
        :93
    ]
    sites = [f"Hospital {name}" for name in "ABCDEFG"]
    return {
        site: {int(k): int(40 / (1 + i) ** 0.7) + 1 for i, k in enumerate(masks) if i < 4 or rng.random() < 0.4}
        for site in sites
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    results = tmp_path_factory.mktemp("runs")
    engine = open_store(store_url(results))
    few = {"Basel": {1: 90, 3: 60}, "Genève": {1: 50, 5: 39}, "St Gallen": {7: 42, 3: 60}}
    local = {"method.rule": "local"}
    for name, sites, names, changes in (
        ("many", many(), MODALITIES, {}),
        ("alone", few, MODALITIES[:3], local),
        ("few", few, MODALITIES[:3], {}),
    ):
        drill = Drill(engine, results / name, sites, names=names, changes=changes).start()
        for _ in range(drill.rounds):
            drill.round()
        drill.finish()
    yield results
    Drill.end_all()
    engine.dispose()


@pytest.fixture(scope="module")
def server(runs):
    with serving(runs) as server:
        yield server


MANY, FEW = "/runs/1", "/runs/3"


@pytest.fixture
def opened(visit, server):
    def opened(path, size=DESKTOP, scheme="light"):
        page = visit(server, path, size, scheme)
        page.wait_for_selector("html[data-ready]", state="attached")
        page.evaluate("document.querySelectorAll('section').forEach(s => { s.style.contentVisibility = 'visible'; })")
        return page

    return opened


@pytest.mark.parametrize(
    ("path", "size", "scheme"),
    [(MANY, DESKTOP, "light"), (MANY, PHONE, "light"), (FEW, DESKTOP, "dark"), (FEW, PHONE, "light")],
)
def test_nothing_leaves_the_screen(opened, screenshots, path, size, scheme):
    page = opened(path, size, scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    name = f"many-{path[-1]}-{size['width']}"
    page.screenshot(path=screenshots / f"{name}-{scheme}.png", full_page=True)
    groups = page.locator("#groups-scroll")
    assert groups.evaluate("e => e.scrollWidth <= e.clientWidth"), "no score is behind a scroll sideways"
    heads = page.locator("#groups thead th:visible").all_inner_texts()
    assert any("Log-loss" in head for head in heads), "the score by which it is sorted"
    assert any("Own loss" in head for head in heads) == (size == DESKTOP)
    if size == PHONE:
        page.check("#all-columns")
        assert page.locator("#groups thead th:visible").count() > len(heads)
        page.uncheck("#all-columns")
        page.click("#narrow-by-auroc")
        page.wait_for_selector("#groups th[aria-sort] #by-auroc")
        value = page.locator("#groups tbody tr").first.locator("td:visible").last
        assert value.inner_text().split("\n")[0].replace(".", "").isdigit()
        assert value.bounding_box()["x"] + value.bounding_box()["width"] <= size["width"]
        for table in ("#hospitals-scroll", "#groups-scroll"):
            assert page.locator(table).evaluate("e => e.scrollWidth <= e.clientWidth")
    page.evaluate("document.documentElement.style.filter = 'grayscale(1)'")
    page.screenshot(path=screenshots / f"{name}-grey.png", full_page=True)


@pytest.mark.parametrize("path", [MANY, FEW])
def test_paper_shows_everything(opened, screenshots, path):
    page = opened(path + "?show=all", PAPER)
    page.emulate_media(media="print")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    cut = page.evaluate(
        """[...document.querySelectorAll("main table, main canvas, main svg, .tile")].filter((e) => {
          const box = e.getBoundingClientRect();
          return box.width && box.right > innerWidth + 1;
        }).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert cut == []
    assert page.locator("#groups tbody tr").last.is_visible()
    assert page.locator("#curve-legend li").first.is_visible()
    page.pdf(path=screenshots / f"many-{path[-1]}.pdf", prefer_css_page_size=True)
    assert (screenshots / f"many-{path[-1]}.pdf").stat().st_size > 20_000


def test_combinations_are_dots_with_their_whole_names_at_hand(opened):
    page = opened(MANY)
    rows = page.locator("#groups tbody tr[data-group]")
    names = rows.locator("th .whole").all_text_contents()
    assert len(set(names)) == len(names) > 10
    for row, name in list(zip(rows.all(), names, strict=True))[:5]:
        assert row.locator("th circle:not(.off)").count() == len(name.split("+"))
        assert row.locator("th circle").count() == len(MODALITIES)
    drawn = rows.locator("th .dots").evaluate_all("all => all.map((e) => e.innerHTML)")
    assert len(set(drawn)) == len(drawn), "no two look alike"
    heads = page.locator("#groups .modalities span")
    assert heads.all_inner_texts() == list(MODALITIES)
    first = rows.first
    for place in (0, len(MODALITIES) - 1):
        dot, head = first.locator("th circle").nth(place).bounding_box(), heads.nth(place).bounding_box()
        assert abs(dot["x"] + dot["width"] / 2 - head["x"] - head["width"] / 2) < 3, "names stand above their dots"
    first.locator(".combo").hover()
    assert page.inner_text("#tip") == names[0]
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    page.focus("#groups-scroll")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.get_by_role("tooltip").wait_for()
    assert page.inner_text("#tip") == names[0]
    assert page.locator("#groups .current").count() == 1
    legend = page.locator("#curve-legend li span").all_inner_texts()
    assert len(legend) == len(set(legend)) == 7
    assert all(text == "all groups" or set(text.split("+")) <= set(MODALITIES) for text in legend)
    assert page.locator("#curve-legend li span").evaluate_all("all => all.every((e) => e.scrollWidth <= e.clientWidth)")


def test_series_are_told_apart_without_colour(opened):
    """Marks of the charts' lines differ; twelve lines need dashes too."""
    page = opened(MANY)
    for group in page.locator("[data-chart-group]:not(:checked)").evaluate_all("all => all.slice(0, 6).map(e => e.id)"):
        page.check(f"#{group}")
    page.locator("#curve-legend li").nth(12).wait_for()
    series = page.locator("[data-chart=log_loss] .u-legend .u-series")
    marks = page.locator("[data-chart=log_loss] .u-legend .u-label").all_inner_texts()[1:]
    assert len(set(marks)) == len(marks) == 13
    titles = series.evaluate_all("all => all.map((e) => e.title)")
    assert titles[1:] == page.locator("#curve-legend li span").all_inner_texts()


def test_sorting_turns_round_and_keeps_the_place(opened):
    page = opened(MANY)
    page.evaluate("window.neverReloaded = true")
    page.evaluate("scrollTo(0, 420); document.getElementById('groups-scroll').scrollTop = 90")
    column = page.locator("#by-auroc").evaluate("e => e.closest('th').cellIndex + 1")

    def order():
        cells = page.locator(f"#groups tbody tr[data-group] > :nth-child({column})").all_inner_texts()
        return [float(cell.split("\n")[0]) for cell in cells]

    page.locator("#by-auroc").evaluate("e => e.click()")
    page.wait_for_selector("#groups th[aria-sort=ascending] #by-auroc")
    assert order() == sorted(order())
    page.locator("#by-auroc").evaluate("e => e.click()")
    page.wait_for_selector("#groups th[aria-sort=descending] #by-auroc")
    assert order() == sorted(order(), reverse=True)
    page.wait_for_url("**order=best**")
    assert page.evaluate("[scrollY, document.getElementById('groups-scroll').scrollTop]") == [420, 90]
    assert page.evaluate("document.activeElement.id") == "by-auroc"
    assert page.evaluate("window.neverReloaded")
    page.go_back()
    page.wait_for_selector("#groups th[aria-sort=ascending] #by-auroc")
    assert order() == sorted(order())
    page.click("#by-name")
    page.wait_for_selector("#groups th[aria-sort] #by-name")
    names = page.locator("#groups tr[data-group] th .whole").all_text_contents()
    assert names == sorted(names)


def test_groups_by_sites_can_be_read(opened, screenshots):
    page = opened(MANY + "?show=all")
    nobody = page.locator("#matrix td.nobody")
    assert nobody.count() > 50
    assert set(nobody.all_inner_texts()) == {"0"}, "0 is not blank"
    scored = page.locator("#matrix td[class^=h], #matrix td[class^=l]")
    assert scored.count() > 30
    grounds = scored.evaluate_all("all => [...new Set(all.map((e) => getComputedStyle(e).backgroundColor))]")
    assert not {"rgba(0, 0, 0, 0)", "rgb(255, 255, 255)"} & set(grounds), "no score is white"
    undefined = page.locator("#matrix td[title^=not]")
    assert page.locator("#matrix td").count() == scored.count() + nobody.count() + undefined.count()
    assert page.inner_text("#matrix").count("white") == 2, "it says what white is"
    assert page.locator("#matrix-scale i").count() == 15
    small = scored.first.locator("small")
    assert not small.is_visible()
    scored.first.hover()
    said = page.inner_text("#tip")
    assert small.text_content().strip() in said
    assert " at Hospital " in said
    page.check("#intervals")
    assert small.is_visible()
    page.locator("#matrix").screenshot(path=screenshots / "matrix-intervals.png")


def test_each_hospital_has_its_score_trend_and_gain(opened, screenshots):
    page = opened(FEW)
    rows = page.locator("#hospitals tbody tr").all()
    names = {row.locator("th").inner_text().removesuffix("small").strip() for row in rows}
    assert names == {"Basel", "Genève", "St Gallen"}
    for row in rows:
        assert row.locator("td").nth(1).locator("small").count() == 1, "with its interval"
        path = row.locator(".trend path").get_attribute("d")
        assert path.count("M") + path.count("L") == 4, "a point for each round"
        assert " to " in row.locator("td").nth(5).inner_text(), "the gain and its interval"
    assert "run 2" in page.inner_text("#hospitals")
    page.locator("#hospitals").screenshot(path=screenshots / "hospitals.png")


def test_the_curves_of_a_group_are_a_click_away(opened, screenshots):
    page = opened(FEW)
    assert page.locator("#thresholds figure svg.unit").count() == 4
    assert page.locator("#chosen .tile").count() == 3
    page.locator("#threshold-groups a").nth(1).click()
    page.wait_for_selector("#threshold-groups a:nth-of-type(2)[aria-current]")
    assert page.locator("#thresholds path.everyone").count() == 3, "beside the line of all patients"
    page.focus("#threshold-numbers")
    page.keyboard.press("Enter")
    assert page.locator("#thresholds tbody tr").count() > 10
    page.locator("#thresholds").screenshot(path=screenshots / "thresholds.png")
