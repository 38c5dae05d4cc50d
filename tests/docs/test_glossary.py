"""The glossary: sorted, each term once, each term used; and the words that nothing of the project uses."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GREEK = {"δ": "delta", "ε": "epsilon", "λ": "lambda", "Φ": "phi", "Σ": "sigma"}
TERM = re.compile(r"^\*\*(.+?)\*\*", re.MULTILINE)
AVOIDED = re.compile(r"^\| (?!not \|)([^|]+?) \| ([^|]+?) \|$", re.MULTILINE)
WRITTEN = ("*.md", "*.py", "*.html", "*.jinja", "*.js", "*.toml", "*.yaml", "*.yml", "*.txt", "*.service")
PLACES = (".github", "benchmarks", "client", "deploy", "docs", "remind", "server", "simulation", "studies", "tests")


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


@pytest.mark.parametrize("document", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_files_that_a_document_names_exist(document: str) -> None:
    """Paths of this repository in backticks, such as the tests of an invariant; a recipe's File is to be made."""
    text = (ROOT / "docs" / document).read_text("utf-8")
    named = re.findall(
        r"(?<!File )`((?:tests|remind|server|client|studies|benchmarks|deploy|simulation)/[\w./-]+)`", text
    )
    assert not [path for path in named if not (ROOT / path).exists()]


def avoided() -> dict[str, str]:
    """Words that the glossary advises against, and the standard term for each."""
    table = (ROOT / "docs" / "glossary.md").read_text("utf-8").split("## Words to avoid")[1]
    return {word: term for word, term in AVOIDED.findall(table) if not word.startswith("-")}


def written() -> list[Path]:
    """Every text of the project, without the glossary and without this file."""
    found = [path for place in PLACES for kind in WRITTEN for path in (ROOT / place).rglob(kind)]
    return [p for p in [*found, *ROOT.glob("*.md")] if p.name not in ("glossary.md", Path(__file__).name)]


def test_the_words_to_avoid_are_sorted_and_are_no_terms() -> None:
    words = list(avoided())
    assert len(words) > 20
    assert words == sorted(set(words))
    assert not set(words) & {key(term) for term in entries()}


def test_no_text_uses_a_word_to_avoid() -> None:
    words = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, avoided()))})(?![\w-])", re.IGNORECASE)
    texts = {path: path.read_text("utf-8") for path in written()}
    assert len(texts) > 500
    assert words.search("Whoever asks is told apart"), "the pattern finds them"
    assert not [
        f"{path.relative_to(ROOT)}:{number}: {found.group()!r}: write {avoided()[found.group().lower()]!r}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        for found in words.finditer(line)
    ]
