import json
import re
from html.parser import HTMLParser

import pytest

from remind_studies.analysis.document import Analysis
from remind_studies.analysis.figures import numbered, pictures
from remind_studies.analysis.page import render, write_page
from remind_studies.analysis.plots import Chart, draw_lines
from remind_studies.analysis.tables import number, tables
from remind_studies.analysis.words import sentences

EVIL = '<b>&"x"</b>$a$'


class Page(HTMLParser):
    """Tags with their attributes, text, and ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "wbr", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def rendered(analysis):
    return render(analysis)


@pytest.fixture(scope="module")
def page(rendered):
    return Page(rendered)


def test_the_page_needs_nothing_else(page):
    """No script, no bitmap, nothing from elsewhere; every figure says in words what it shows."""
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "img", "image", "iframe", "object"} & set(names)
    for tag, attributes in page.tags:
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in ("href", "src", "xlink:href"):
                assert value.startswith("#"), (tag, value)
    assert names.count("svg") == names.count("figure") == names.count("figcaption") == 7
    assert all(attributes["role"] == "img" for tag, attributes in page.tags if tag == "svg")
    assert page.open == []


def test_ids_are_unique_and_found(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for label in attributes.get("aria-labelledby", "").split():
            assert label in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids


def test_the_same_numbers_make_the_same_page(analysis, rendered):
    again = Analysis.model_validate_json(analysis.model_dump_json())
    assert again == analysis
    assert render(again) == rendered


def test_numbers_on_the_page_are_those_of_the_file(analysis, page, tmp_path):
    """Each score of the file, rounded, in the cell of its group and column."""
    content = json.loads(analysis.write(tmp_path).read_text())
    text = " ".join(page.text)
    for model in content["models"]:
        for value in model["modality_value"]:
            assert number(value["loss"]["gain"]).lstrip("−") in text
    table = tables(analysis)["consistency"]
    names = {g["name"] + "*" * g["tail"]: str(g["mask"]) for g in content["cohort"]["groups"]}
    last = [i for i, head in enumerate(table.head) if head.startswith("after 4")]
    assert len(last) == 2
    for row in table.rows:
        for column, model in zip(last, content["models"], strict=True):
            found = model["looks"][-1]["consistency"].get(names[row.name])
            assert row.cells[column] == (number(found["score"]) if found else "–")


def renamed(analysis):
    """The same with names that would break a page or a picture."""
    cohort = analysis.cohort
    groups = tuple(g.model_copy(update={"name": g.name.replace("M1", EVIL)}) for g in cohort.groups)
    modalities = tuple(name.replace("M1", EVIL) for name in cohort.modalities)
    models = tuple(
        model.model_copy(
            update={
                "name": model.name + EVIL,
                "modality_value": tuple(
                    v.model_copy(update={"modality": v.modality.replace("M1", EVIL)}) for v in model.modality_value
                ),
            }
        )
        for model in analysis.models
    )
    cohort = cohort.model_copy(
        update={"groups": groups, "modalities": modalities, "name": EVIL, "classes": (EVIL, "other")}
    )
    return analysis.model_copy(update={"cohort": cohort, "models": models})


def test_names_are_text_and_nothing_else(analysis):
    assert any("M1" in g.name for g in analysis.cohort.groups)
    text = render(renamed(analysis))
    assert "<b>" not in text
    page = Page(text)
    assert page.open == []
    assert EVIL in "".join(page.text)


def bare(analysis):
    """What is left of a model without experts, gate, router and groups large enough, of patients with one modality."""
    model = analysis.models[0]
    looks = tuple(
        look.model_copy(
            update={
                "consistency": {},
                "routing": {
                    k: r.model_copy(update={"gate_open": None, "entropy": None, "shared_entropy": None})
                    for k, r in look.routing.items()
                },
            }
        )
        for look in model.looks
    )
    model = model.model_copy(
        update={"looks": looks, "experts": None, "gate": None, "modality_value": (), "drawn": {}, "parameters": 0}
    )
    return analysis.model_copy(update={"models": (model,)})


def test_what_a_model_does_not_have_is_said(analysis):
    text = " ".join(" ".join(Page(render(bare(analysis))).text).split())
    for words in (
        "this model has no experts.",
        "this model has no gate.",
        "there is no routing entropy.",
        "no group has 6 training patients",
        "No test patient has two modalities",
    ):
        assert words in text


def test_another_model_than_the_stored_one_is_said(analysis, rendered):
    replay = analysis.models[0].replay.model_copy(update={"equal": False, "differing": 3, "largest": 0.25})
    models = (analysis.models[0].model_copy(update={"replay": replay}), *analysis.models[1:])
    text = " ".join(Page(render(analysis.model_copy(update={"models": models}))).text)
    assert re.search(r"ended with another model than the stored one: 3 of \d+ tensors differ, by 0.25 at most", text)
    assert "ended with another model" not in rendered


def test_many_groups_are_cut_in_pictures_and_whole_in_tables(analysis):
    """Forty more groups than colours can distinguish."""
    group, model = analysis.cohort.groups[0], analysis.models[0]
    more = range(1000, 1060)
    groups = tuple(group.model_copy(update={"mask": k, "name": f"group {k}", "train": 1}) for k in more)
    cohort = analysis.cohort.model_copy(update={"groups": (*analysis.cohort.groups, *groups)})
    weights = tuple(w.model_copy(update={"of": w.of | dict.fromkeys(more, 0.001)}) for w in model.weights)
    changed = model.model_copy(update={"weights": weights})
    text = render(analysis.model_copy(update={"cohort": cohort, "models": (changed,)}))
    assert "The 12 largest groups; the table has all." in text
    assert all(f"group {k}" in text for k in more)


def test_names_in_pictures_are_whole(analysis):
    """Twelve modalities: combinations that differ in the last one only have different labels in every picture."""
    long = "+".join(f"modality-{i}" for i in range(12))
    groups = tuple(g.model_copy(update={"name": f"{long}+{g.name}"}) for g in analysis.cohort.groups)
    changed = analysis.model_copy(update={"cohort": analysis.cohort.model_copy(update={"groups": groups})})
    found = {name: picture for name, picture in pictures(changed).items() if picture is not None}
    assert set(found) >= {"weights", "consistency", "experts", "gate", "entropy", "loss"}
    for name, picture in found.items():
        labels = re.sub(r"<(title|desc)[^>]*>.*?</\1>", "", str(picture.svg), flags=re.DOTALL)
        drawn = re.sub(r"<[^>]*>|\s", "", labels)
        shown = [g.name for g in groups if f"{g.name}{'*' * g.tail}(" in drawn]
        assert len(shown) >= 2, name
        assert drawn.count(long) == len(shown), f"{name}: every label is a whole name"
        assert "…" not in drawn


@pytest.mark.parametrize("charts", [1, 2])
def test_a_legend_of_long_names_lies_within_its_picture(charts):
    """Twelve names as wide as a line may be, beside one chart and beside two."""
    names = [numbered("+".join(f"biochemistry-{i}" for i in range(9)), 1000 + k) for k in range(12)]
    lines = {place: ([0, 1], [0.1, 0.2]) for place in range(len(names))}
    figure = draw_lines([Chart("remind", lines)] * charts, names, None)
    figure.draw_without_rendering()
    [legend] = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0


def test_the_page_is_written_whole(analysis, rendered, tmp_path):
    assert write_page(analysis, tmp_path / "analysis.html").read_text(encoding="utf-8") == rendered


def test_sentences_say_what_the_numbers_say(analysis):
    """Means, largest move and rates taken from the numbers by hand."""
    said = sentences(analysis)
    model = analysis.models[0]
    tail = {g.mask for g in analysis.cohort.groups if g.tail}
    scores = [abs(c.score) for k, c in model.looks[-1].consistency.items() if k not in tail]
    assert f"{sum(scores) / len(scores):.3f} in the head" in said[0]
    assert (
        said[1]
        == f"remind: two groups differ, on average, in {100 * model.experts.apart:.0f} % of their top 3 experts."
    )
    routed = list(model.looks[-1].routing.values())
    share = sum(r.gate_open * r.n for r in routed) / sum(r.n for r in routed)
    assert said[2] == f"remind: the groups' own routers are used for {100 * share:.0f} % of the training patients."
    first, last = model.weights[0].of, model.weights[-1].of
    moved = max(last, key=lambda k: abs(last[k] - first[k]))
    name = next(g.name for g in analysis.cohort.groups if g.mask == moved)
    assert said[3].endswith(f"is that of {name}: from {first[moved]:.3f} to {last[moved]:.3f}.")
    assert "softmoe: this model has no gate." in said


def test_it_says_whose_gradients_groups_are_compared_with(analysis):
    cohort = analysis.model_copy(update={"settings": analysis.settings.model_copy(update={"whole_set": "cohort"})})
    for one, words in ((analysis, "each with as many patients"), (cohort, "as in the paper")):
        assert any(words in sentence for sentence in sentences(one))
        assert words in pictures(one)["consistency"].caption
