"""Texts that can be read and are probably not what was meant: lists in one cell, two spellings, lost characters."""

import re
import unicodedata
from collections.abc import Container, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.problems import listed
from remind.data.cohort.tabular import Source

_BRACKETS = re.compile(r"\s*[\[({].*[\])}]\s*", re.DOTALL)  # a list of Python, R or JSON, or an array of PostgreSQL
_CODE = re.compile(r"(?=[^\s]*\d)[^\s;|,]{1,12}")  # what looks like one code: short, a digit, no space
# UTF-8 that was read as Latin-1 or Windows-1252 ("Ã¼" for "ü", "â€" for quotation marks), and what no table could tell.
_DAMAGED = re.compile("\ufffd|[\u00c3\u00c2][\u0080-\u00bf]|\u00e2\u20ac|\u00ef\u00bb\u00bf")


def is_list(text: str) -> bool:
    """Return whether a cell seems to hold several codes: in brackets, or between semicolons, bars or commas."""
    bare = text.strip()
    parts = [part.strip().strip("'\"") for part in re.split(r"[;|,]", bare.strip("[](){}"))]
    filled = [part for part in parts if part]
    if _BRACKETS.fullmatch(bare):
        return len(filled) > 0 and all(_CODE.fullmatch(part) for part in filled)
    return len(filled) > 1 and all(_CODE.fullmatch(part) for part in filled)


def normalised(text: str) -> str:
    """Return a text without what an eye passes over: case, points and spaces, and how letters are composed."""
    return re.sub(r"[\s.]+", "", unicodedata.normalize("NFKC", text).casefold())


def spelling_variants(texts: Iterable[str]) -> list[tuple[str, ...]]:
    """Return texts that look the same, together."""
    of_look: dict[str, list[str]] = {}
    for text in texts:
        of_look.setdefault(normalised(text), []).append(text)
    return [tuple(sorted(alike)) for alike in of_look.values() if len(alike) > 1]


def is_damaged(text: str) -> bool:
    """Return whether characters of a text were lost when a program read it in another encoding than its own."""
    return bool(_DAMAGED.search(text))


def warn_of_codes(
    source: Source, name: str, texts: Sequence[str], code_R: NDArray[np.int64], known: Container[str]
) -> None:
    """Warn about cells of several codes, and codes in two spellings, in modality `name`; both are read as written.

    `known`: declared codes, which are meant.
    """
    several = [i for i, text in enumerate(texts) if text not in known and is_list(text)]
    if rows := int(np.isin(code_R, several).sum()):
        hold = "row seems" if rows == 1 else "rows seem"
        source.remarks.append(
            f"{name}: {rows} {hold} to hold several codes in one cell ({listed([texts[i] for i in several], 2)}), "
            "which counts as one code; write one row per code"
        )
    warn_of_spellings(source, name, (text for text in texts if text not in known), "code")


def warn_of_spellings(source: Source, name: str, texts: Iterable[str], noun: str) -> None:
    """Warn about names that differ only in case, points, spaces or Unicode characters; they stay different names."""
    if alike := spelling_variants(texts):
        many = f"1 {noun} has" if len(alike) == 1 else f"{len(alike)} {noun}s have"
        source.remarks.append(
            f"{name}: {many} several spellings ({', '.join(map(ascii, alike[0]))}), which count as different {noun}s; "
            "write each in one way"
        )
