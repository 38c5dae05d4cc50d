"""The page needs no other file, escapes names, and is equal for equal results."""

import os
import subprocess
import sys

import pytest

from remind.errors import UserError
from remind_studies.report import render, write_report
from tests.builders.study_reports import study
from tests.studies.report.page import Page

EVIL = "<script>alert('x')</script> & \"$a$\" ]]> </svg>"
PANELS = (("sites = 2", "2 sites"), ("sites = 5", "5 sites"))
WRITE = """
import pathlib, sys
from remind_studies.report import write_report
from remind_studies.results import Results
source, target = map(pathlib.Path, sys.argv[1:])
write_report(Results.from_json(source.read_bytes(), str(source)), target)
"""


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(
        render(study(panels=PANELS, facts={"parameters": 5.0}, missing=("compare / softmoe / seed 1: killed",)))
    )


def test_nothing_is_loaded_and_nothing_runs(page):
    kinds = {tag for tag, _ in page.elements}
    assert not kinds & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "foreignobject", "image"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "srcset", "action"}]
        link = attributes.get("href") or attributes.get("xlink:href") or "#"
        assert link.startswith("#")
        assert "url(h" not in (attributes.get("style") or "")
    policies = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


def test_ids_are_unique_and_links_lead_somewhere(page):
    assert len(set(page.ids)) == len(page.ids)
    for _, attributes in page.elements:
        links = [(attributes.get("href") or "").lstrip("#")]
        links += (attributes.get("aria-labelledby") or "").split()
        links.append((attributes.get("clip-path") or "").removeprefix("url(#").removesuffix(")"))
        assert {link for link in links if link} <= set(page.ids)


def test_every_picture_is_told_to_those_who_hear_it(page):
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(pictures) == 2 + len(PANELS) * 3  # the sweeps; forest, groups and training of each panel
    assert all(attributes["role"] == "img" for attributes in pictures)
    assert [tag for tag, _ in page.elements].count("figcaption") == len(pictures)


def test_names_are_never_markup():
    """In tables, sentences, settings, plots and their descriptions."""
    results = study(
        arms=(EVIL, "remind"), modalities=(EVIL, "b"), groups=3, sites=(EVIL,), panels=((EVIL, EVIL),), missing=(EVIL,)
    )
    page = Page(render(results))
    assert not {tag for tag, _ in page.elements} & {"script"}
    assert EVIL in page.tables["p1-headline"].rows
    assert EVIL in page.tables["p1-sites"].rows
    assert f"{EVIL}+b" in page.tables["p1-groups"].rows
    assert page.text.count(EVIL) > 8
    svg = [word for word in page.words if word.startswith("<script>alert('x')</script>")]
    assert any(EVIL.startswith(word) and word != EVIL for word in svg)  # broken in a plot, still text


@pytest.mark.slow
def test_the_same_results_are_the_same_bytes(tmp_path):
    """In any process, whatever order its sets have."""
    results = study(panels=PANELS)
    (tmp_path / "results.json").write_text(results.to_json(), encoding="utf-8")
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", WRITE, tmp_path / "results.json", tmp_path / f"{seed}.html"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )
    first, second = ((tmp_path / f"{seed}.html").read_bytes() for seed in ("1", "2"))
    assert first == second == render(results).encode()


def test_what_is_missing_is_listed():
    lines = tuple(f"compare / softmoe / seed {seed}: killed" for seed in range(3))
    text = Page(render(study(missing=lines))).text
    assert all(line in text for line in lines)
    assert "3 runs of the study missing" in text
    assert "None: every method" in Page(render(study())).text


def test_thirty_five_groups_stay_small():
    assert len(render(study(modalities=tuple("abcdef"), groups=35)).encode()) < 600_000


def test_writes_at_once_and_says_where_it_cannot(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before", encoding="utf-8")
    results = study(seeds=2, groups=2)
    write_report(results, path)
    assert path.read_text(encoding="utf-8") == render(results)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match=r"away/report\.html: cannot be written"):
        write_report(results, tmp_path / "away" / "report.html")
