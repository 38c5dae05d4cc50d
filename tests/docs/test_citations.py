"""Citations in code and tests lead somewhere: a numbered paragraph of docs/, or a document that exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown.extensions.toc import slugify  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
PACKAGES = ("remind", "server", "client", "studies", "benchmarks", "tests")
PARAGRAPH = re.compile(r"§\d+(?:\.\d+)?")
CITATION = re.compile(r"\b(algorithm|flower) (§\d+(?:\.\d+)?(?:(?:, |–)§\d+(?:\.\d+)?)*)")
INVARIANT = re.compile(r"design, invariant (\d+)")
DOCUMENT = re.compile(r"(?<![\w/…])((?:docs/)?[\w-]+\.md)\b")
OUTSIDE = re.compile(r"\b(?:19|20)\d\d, §\d+")  # a paragraph of a publication, after its year


def sources() -> Iterator[Path]:
    """Python files of the project, this one left out."""
    for package in PACKAGES:
        yield from (path for path in (ROOT / package).rglob("*.py") if path != Path(__file__))


def paragraphs(document: str) -> set[str]:
    """Paragraphs that a document defines: in a heading, in bold, or first in a row of a table."""
    text = (ROOT / "docs" / f"{document}.md").read_text("utf-8")
    return set(re.findall(r"^(?:## |- \*\*|\| )(§\d+(?:\.\d+)?)\b", text, re.MULTILINE))


@pytest.mark.parametrize("document", ["algorithm", "flower"])
def test_cited_paragraphs_exist(document: str) -> None:
    known = paragraphs(document)
    assert len(known) > 10
    cited = {
        (str(path.relative_to(ROOT)), paragraph)
        for path in sources()
        for name, citation in CITATION.findall(path.read_text("utf-8"))
        if name == document
        for paragraph in PARAGRAPH.findall(citation)
    }
    assert cited, "nothing cites this document"
    assert not {(path, paragraph) for path, paragraph in cited if paragraph not in known}


def test_every_paragraph_sign_belongs_to_a_document() -> None:
    loose = []
    for path in sources():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if "§" in OUTSIDE.sub("", CITATION.sub("", line)):
                loose.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not loose


def test_cited_invariants_exist() -> None:
    section = (ROOT / "docs" / "design.md").read_text("utf-8").split("## Invariants")[1].split("\n## ")[0]
    known = set(re.findall(r"^(\d+)\. ", section, re.MULTILINE))
    cited = {n for path in sources() for n in INVARIANT.findall(path.read_text("utf-8"))}
    assert cited
    assert cited <= known


def test_cited_documents_exist() -> None:
    missing = set()
    for path in sources():
        if "tests" in path.relative_to(ROOT).parts:  # tests write documents of their own
            continue
        for name in DOCUMENT.findall(path.read_text("utf-8")):
            if not any((ROOT / place / name).exists() for place in (".", "docs")):
                missing.add(f"{path.relative_to(ROOT)}: {name}")
    assert not missing


def test_links_to_headings_lead_to_one() -> None:
    """The site builds with a link to a heading that is not there, so the builder does not find it."""
    pages = {path.name: path.read_text("utf-8") for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]}
    headings = {
        name: {slugify(re.sub(r"[`*]", "", heading), "-") for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
        for name, text in pages.items()
    }
    assert "add-a-method" in headings["methods.md"]
    links = [
        (name, page.removeprefix("docs/") or name, anchor)
        for name, text in pages.items()
        for page, anchor in re.findall(r"\]\(((?:docs/)?[\w-]*(?:\.md)?)#([\w-]+)\)", text)
    ]
    assert len(links) > 20
    assert not [link for link in links if link[1] in headings and link[2] not in headings[link[1]]]
