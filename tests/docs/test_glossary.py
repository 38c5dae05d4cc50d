"""The glossary: alphabetical, each term once, and each term used in other documents or in code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GREEK = {"λ": "lambda", "Φ": "phi", "Σ": "sigma"}
TERM = re.compile(r"^\*\*(.+?)\*\*", re.MULTILINE)


def entries() -> list[str]:
    return TERM.findall((ROOT / "docs" / "glossary.md").read_text("utf-8"))


def used() -> str:
    documents = [p for p in (ROOT / "docs").glob("*.md") if p.name != "glossary.md"]
    code = [p for package in ("remind", "server", "client", "studies") for p in (ROOT / package).rglob("*.py")]
    return "\n".join(path.read_text("utf-8") for path in [*documents, *code]).lower()


def key(term: str) -> str:
    """The term as it is sorted: Greek letters by their names, without marks."""
    name = "".join(GREEK.get(letter, letter) for letter in term.split(" (", maxsplit=1)[0])
    return re.sub(r"[^a-z]", "", name.lower())


def test_terms_are_in_order_and_there_once() -> None:
    keys = [key(term) for term in entries()]
    assert len(keys) > 40
    assert keys == sorted(set(keys))


def test_every_term_is_used() -> None:
    text = used()
    words = [word.split(" (", maxsplit=1)[0].lower() for term in entries() for word in term.split(", ")]
    assert not [
        word for word in words if not re.search(rf"(?<![a-z]){re.escape(word).replace(chr(92) + ' ', '[ _]?')}", text)
    ]


@pytest.mark.parametrize("document", sorted({path.name for path in (ROOT / "docs").glob("*.md")} - {"extend.md"}))
def test_files_that_a_document_names_exist(document: str) -> None:
    """Paths of this repository in backticks, such as the tests of an invariant; extend.md names files to be made."""
    text = (ROOT / "docs" / document).read_text("utf-8")
    named = re.findall(r"`((?:tests|remind|server|client|studies|benchmarks|deploy|simulation)/[\w./-]+)`", text)
    assert not [path for path in named if not (ROOT / path).exists()]
