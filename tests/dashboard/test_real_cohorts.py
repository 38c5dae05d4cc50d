"""The page on runs of real cohorts, in the browser: nhanes with 93 groups at eight sites, and four heart hospitals.

Under the usual minimum count. Each point of what a coordinator, a statistician and a designer asked of the page.
"""

import json
import re
import zipfile
from io import BytesIO
from urllib.request import Request, urlopen

import pytest

from remind.metrics.scores import SCORES
from remind_server.outputs.progress_tables import legend
from tests.dashboard.browser import DESKTOP, PHONE, serving
from tests.dashboard.real_cohorts import ALONE, FAST, GROUPS, HEART, NHANES, real_runs

pytestmark = pytest.mark.slow

PAPER = {"width": 1047, "height": 720}  # A4 on its side, less margins, at 96 dots per inch
NUMBER = re.compile(r"^−?\d\.\d{3}")
SCORED = re.compile(r"\d\.\d{3}\s+(±\s\d\.\d{3}\s+)?−?\d\.\d\d(–| to )−?\d\.\d\d")
BOTH = pytest.mark.parametrize("run", [HEART, NHANES], ids=["heart", "nhanes"])


@pytest.fixture(scope="module")
def terminal(tmp_path_factory):
    """The runs' folder, and what the terminal showed of nhanes."""
    results = tmp_path_factory.mktemp("results")
    with real_runs(results) as shown:
        yield results, shown


@pytest.fixture(scope="module")
def server(terminal):
    with serving(terminal[0], "--min-count", "10") as server:
        for run in GROUPS:
            asked(server, f"/runs/{run}")  # deciding what may be shown takes seconds, once
        yield server


def asked(server, path):
    with urlopen(
        Request(server.root + path, headers={"authorization": f"Bearer {server.token}"}), timeout=300
    ) as answer:
        return answer.read()


def answered(server, path):
    return json.loads(asked(server, path))


@pytest.fixture
def opened(visit, server):
    def opened(path, size=DESKTOP, scheme="light"):
        page = visit(server, path, size, scheme)
        page.wait_for_selector("html[data-ready]", state="attached")
        page.evaluate("document.querySelectorAll('section').forEach(s => { s.style.contentVisibility = 'visible'; })")
        return page

    return opened


@BOTH
def test_the_first_screen_answers(opened, server, run):
    """How good overall and on the tail, which group and hospital is worst with its support, who is missing."""
    page, found = opened(f"/runs/{run}"), answered(server, f"/api/runs/{run}/verdict")
    assert (found["groups"], found["sites"]) == (GROUPS[run], len(answered(server, f"/api/runs/{run}")["sites"]))
    of = {"overall": found["overall"], "tail": found["tail"]["scores"]}
    of |= {name: (found[f"worst_{name}"] or {}).get("scores") for name in ("group", "site")}
    assert SCORED.search(page.inner_text("#answer-overall"))
    for name, scores in of.items():
        place = page.locator(f"#answer-{name}")
        box = place.bounding_box()
        assert box["y"] + box["height"] <= DESKTOP["height"], f"{name}: on the first screen"
        text = place.inner_text()
        if scores is None or scores["withheld"]:
            assert re.search("withheld|no (group|hospital) can be ranked", text), name
            continue
        assert SCORED.search(text), name
        assert f"{scores['n']} patients" in text
        if name != "overall":
            assert scores["n"] >= 30
    assert "none" in page.inner_text("#answer-missing")
    if run == NHANES:
        assert found["worst_site"] is not None
        assert found["worst_site"]["name"] in page.inner_text("#answer-site")
        assert not found["tail"]["scores"]["withheld"]
    assert (found["one_class"] is not None) == (page.locator("#one-class").count() == 1)


@BOTH
def test_what_is_withheld_is_said_first_and_how_to_see_more(opened, server, run):
    page, found = opened(f"/runs/{run}"), answered(server, f"/api/runs/{run}/verdict")
    rows = answered(server, f"/api/runs/{run}/groups")["rows"]
    hidden = sum(row["scores"]["withheld"] or row["scores"]["suppressed"] for row in rows)
    assert hidden == found["withheld_groups"] > 0
    place = page.locator("#what-is-withheld")
    box = place.bounding_box()
    assert box["y"] + box["height"] <= DESKTOP["height"], "on the first screen"
    text = place.inner_text()
    assert f"{hidden} of {GROUPS[run]} groups" in text
    assert f"{found['withheld_sites']} of {found['sites']} hospitals" in text
    assert "remind dashboard --min-count 1" in text
    assert "fewer than 10 patients" in text


@BOTH
def test_only_what_has_support_is_ranked(opened, server, run):
    page = opened(f"/runs/{run}")
    rows = answered(server, f"/api/runs/{run}/groups")["rows"]
    ranked = [row for row in rows if row["ranked"]]
    assert all(row["scores"]["n"] >= 30 for row in ranked)
    assert page.locator("#groups tbody tr[data-group]").count() == len(ranked)
    assert f"{len(rows) - len(ranked)} other groups together" in page.inner_text("#small-groups")
    charted = page.locator("#curve-legend li span").all_inner_texts()
    largest = sorted(ranked, key=lambda row: -row["scores"]["n"])[:6]
    assert set(charted) == {"all groups", *(row["name"] for row in largest)}, (
        "charts begin with the largest, whole names"
    )
    page.click("#unfold")
    page.wait_for_selector("#show-few")
    assert page.locator("#groups tbody tr[data-group]").count() == GROUPS[run]
    undefined = [row["scores"] for row in rows if row["scores"]["positives"] in (0, row["scores"]["n"])]
    assert all(scores["auroc"] is None and scores["macro_f1"] is None for scores in undefined if scores["n"])


@BOTH
def test_combinations_are_dots_with_whole_names(opened, server, run):
    page = opened(f"/runs/{run}?show=all")
    names = page.locator("#groups tbody tr[data-group] th .whole").all_text_contents()
    assert len(set(names)) == len(names) == GROUPS[run]
    drawn = page.locator("#groups tbody tr[data-group] th .dots").evaluate_all("all => all.map((e) => e.innerHTML)")
    assert len(set(drawn)) == len(drawn), "no two look alike"
    modalities = answered(server, f"/api/runs/{run}")["modalities"]
    assert page.locator("#groups .modalities span").all_inner_texts() == modalities
    page.focus("#groups-scroll")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.get_by_role("tooltip").wait_for()
    assert page.inner_text("#tip") == names[0], "by the keyboard"


@BOTH
def test_each_hospital_has_its_line(opened, server, run, screenshots):
    page = opened(f"/runs/{run}")
    lines = page.locator("#hospitals tbody tr")
    rows = answered(server, f"/api/runs/{run}/hospitals")["rows"]
    assert lines.count() == len(rows) == answered(server, f"/api/runs/{run}/verdict")["sites"]
    for line, row in zip(lines.all(), rows, strict=True):
        assert line.locator("th").inner_text().removesuffix("small").strip() == row["name"]
        score = line.locator("td").nth(1).inner_text()
        assert (score == "·") == row["scores"]["withheld"]
        assert row["scores"]["withheld"] or SCORED.search(score)
        if row["gain"]:
            assert " to " in line.locator("td").nth(5).inner_text(), "the gain has an interval"
    if run == HEART:
        assert any(row["gain"] for row in rows), "over training alone"
        assert page.locator(f"#hospitals a[href='/runs/{ALONE}']").count() == 1
    page.locator("#hospitals").screenshot(path=screenshots / f"real-{run}-hospitals.png")


@BOTH
def test_groups_by_sites_and_curves_by_threshold(opened, server, run):
    page = opened(f"/runs/{run}?show=all")
    cells = page.locator("#matrix td")
    texts = cells.all_inner_texts()
    assert all(texts), "no cell is blank"
    assert page.locator("#matrix td.nobody").count() == sum(text == "0" for text in texts) > 0
    assert page.inner_text("#matrix").count("white") == 2, "it says what white is"
    scored = page.locator("#matrix td[class^=h], #matrix td[class^=l]")
    if scored.count():
        small = scored.first.locator("small")
        assert not small.is_visible()
        page.check("#intervals")
        assert small.is_visible()
    assert page.locator("#thresholds figure svg.unit").count() == 4, (
        "ROC, precision and recall, calibration, thresholds"
    )
    assert len(page.locator("#thresholds figcaption").all_inner_texts()) == 4
    chosen = answered(server, f"/api/runs/{run}/thresholds")["chosen"]  # none where too few are called a class
    assert page.locator("#chosen .tile").count() == (3 if chosen else 0)
    assert page.locator("#timeline svg text.ended").count() == 1
    assert (page.locator("#timeline svg text.best").count() == 1) == (run == HEART), "the best round is marked"
    page.click("#words summary")
    for word in ("group", "tail", "lambda", "risk", "gate", "undefined", "withheld", "zero"):
        assert page.locator(f"#word-{word}").is_visible()


def test_sorting_turns_round_and_keeps_the_place(opened):
    page = opened(f"/runs/{NHANES}?show=all")
    page.evaluate("scrollTo(0, 420)")
    column = page.locator("#by-n").evaluate("e => e.closest('th').cellIndex + 1")

    def order():
        cells = page.locator(f"#groups tbody tr[data-group] > :nth-child({column})").all_inner_texts()
        return [int(cell.split("\n")[0]) for cell in cells if cell.split("\n")[0].isdecimal()]

    for direction in ("descending", "ascending"):
        page.locator("#by-n").evaluate("e => e.click()")
        page.wait_for_selector(f"#groups th[aria-sort={direction}] #by-n")
        assert order() == sorted(order(), reverse=direction == "descending")
        assert page.evaluate("scrollY") == 420


@BOTH
@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")])
def test_nothing_leaves_the_screen(opened, screenshots, run, size, scheme):
    page = opened(f"/runs/{run}", size, scheme)
    name = f"real-{run}-{size['width']}-{scheme}"
    page.screenshot(path=screenshots / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for table in ("#groups-scroll", "#hospitals-scroll", "#timeline-scroll"):
        assert page.locator(table).evaluate("e => e.scrollWidth <= e.clientWidth"), f"{table}: nothing to scroll to"
    if size == PHONE:
        page.click("#narrow-by-auroc")
        page.wait_for_selector("#groups th[aria-sort] #by-auroc")
        value = page.locator("#groups tbody tr").first.locator("td:visible").last
        assert NUMBER.match(value.inner_text())
        assert value.bounding_box()["x"] + value.bounding_box()["width"] <= size["width"]
    page.evaluate("document.documentElement.style.filter = 'grayscale(1)'")
    page.screenshot(path=screenshots / f"{name}-grey.png", full_page=True)
    marks = page.locator("[data-chart=log_loss] .u-legend .u-label").all_inner_texts()[1:]
    assert len(set(marks)) == len(marks) > 1, "lines have marks of their own"


@BOTH
def test_paper_shows_everything(opened, screenshots, run):
    page = opened(f"/runs/{run}?show=all", PAPER)
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
    page.pdf(path=screenshots / f"real-{run}.pdf", prefer_css_page_size=True)
    assert (screenshots / f"real-{run}.pdf").stat().st_size > 20_000


def test_the_list_tells_what_each_run_is(visit, server, screenshots):
    page = visit(server)
    page.locator(".runs tbody small").nth(3).wait_for()  # four scores: what may be shown was decided
    text = page.inner_text(".runs")
    for word in (
        "finished",
        "uci_heart4",
        "nhanes_2017_2020",
        "remind, groupdro, local",
        "remind, groupdro, fedremind",
    ):
        assert word in text
    assert len(SCORED.findall(text)) == 4
    page.screenshot(path=screenshots / "real-list.png")
    page.fill("[name=q]", "nhanes")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=nhanes**")
    assert page.locator(".runs tbody tr").count() == 1


def test_runs_side_by_side(opened, visit, server, screenshots):
    """Differences have intervals, and are grey where these hold 0; other cohorts are warned of; settings differ."""
    page = opened(f"/compare?run={HEART}&run={FAST}")
    found = answered(server, f"/api/compare?first={HEART}&second={FAST}&score=auroc")
    assert found["paired"]
    assert set(found["settings"]) == {"train.lr", "train.select"}
    for pair, line in zip(
        [found["overall"], found["tail"], *found["groups"]],
        page.locator("table.groups tbody tr:not(.apart)").all(),
        strict=True,
    ):
        grey = line.locator("td.unsure").count() == 1
        assert grey == (pair["low"] is None or pair["low"] <= 0 <= pair["high"])
    assert page.locator("#curve-legend li span").all_inner_texts() == ["A: heart", "B: heart-fast"]
    page.screenshot(path=screenshots / "real-compare.png", full_page=True)
    page = opened(f"/compare?run={HEART}&run={NHANES}")
    assert "the cohorts differ" in page.inner_text("#not-paired")
    page = visit(server, f"/compare?run={ALONE}&run={HEART}&run={FAST}")
    for setting in ("method.rule", "train.lr", "train.select"):
        assert setting in page.inner_text("table")
    page.screenshot(path=screenshots / "real-several.png")


@BOTH
def test_everything_can_be_downloaded(server, run):
    with zipfile.ZipFile(BytesIO(asked(server, f"/runs/{run}/everything.zip"))) as found:
        names = set(found.namelist())
        texts = {name: found.read(name).decode() for name in names}
    for table in ("groups", "hospitals", "matrix", "curves", "rounds", "thresholds"):
        assert any(table in name for name in names), table
    assert any("nhanes_2017_2020" in text or "uci_heart4" in text for text in texts.values())
    numbers = [
        int(cell)
        for name, text in texts.items()
        if name.endswith("groups.csv")
        for cell in re.findall(r"(?m)^[^,]*,(?:[^,]*,){0,3}(\d+),", text)
    ]
    assert all(n == 0 or n >= 10 for n in numbers)


def test_a_round_of_93_groups_is_a_screen_of_text(terminal):
    _, shown = terminal
    rounds = [i for i, text in enumerate(shown) if re.match(r"round \d", text.lstrip())]
    assert len(rounds) == 2
    lines = [line for text in shown[rounds[0] : rounds[1]] for line in text.split("\n") if line not in legend(SCORES)]
    assert len(lines) > 5
    tables = [line for line in lines if not line.startswith("  (not shown")]  # a sentence, which a terminal wraps
    assert all(len(line) <= 100 for line in tables), "no wider than the terminal"
    assert sum(text.count("\n") + 1 for text in shown[rounds[0] : rounds[1]]) <= 30
