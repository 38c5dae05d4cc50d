"""Problems of a cohort, worded so that a hospital's data engineer can correct them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from remind.suggest import did_you_mean

MOST, PER_KIND = 20, 5  # problems of a modality's files that are listed one by one
_OF_A_FILE = re.compile(r"modality (?P<modality>[A-Za-z0-9_-]+) of patient .*?: (?P<reason>.*)", re.DOTALL)
_NUMBER = re.compile(r"\d+([.×]\d+)*")


@dataclass(frozen=True)
class Problem:
    """One mistake in a cohort's files.

    Attributes
    ----------
    file
        The file as the user knows it.
    what
        What is wrong, in words.
    remedy
        What to do about it.
    row
        First place of the mistake: line of a .csv (the header is line 1), else row, counted from 1.
    column
        Column of the file, or field of cohort.toml.
    value
        The value at that place.
    """

    file: str
    what: str
    remedy: str
    row: int | None = None
    column: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        place = [self.file]
        if self.row is not None:
            place.append(f"{'line' if self.file.lower().endswith('.csv') else 'row'} {self.row}")
        if self.column is not None:
            place.append(f"{'field' if self.file.endswith('.toml') else 'column'} {self.column!r}")
        if self.value is not None:
            place.append(f"value {self.value!r}")
        return f"{', '.join(place)}: {self.what}; {self.remedy}"

    def to_dict(self) -> dict[str, str | int | None]:
        """Return the fields, for JSON."""
        return asdict(self)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'age'?`` if a name in use is similar to `name`, else the names in use."""
    names = [str(k) for k in known]
    if meant := did_you_mean(name, names).removeprefix("; "):
        return meant
    return f"there are {listed(names)}" if names else "there are none"


def counted(n: int, noun: str) -> str:
    """Return the number with its noun: ``1 patient``, ``2 patients``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def listed(names: Iterable[object], most: int = 12) -> str:
    """Return names separated by commas; beyond `most`, only the number of further names."""
    texts = [str(n) for n in names]
    rest = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")


def shortened(problems: Sequence[Problem], most: int = MOST) -> list[str]:
    """Return a line per problem; of the files of one modality the first `most`, the rest counted by reason."""
    lines: list[str] = []
    of_files: dict[str, list[tuple[Problem, str]]] = {}
    for problem in problems:
        if found := _OF_A_FILE.fullmatch(problem.what):
            of_files.setdefault(found["modality"], []).append((problem, found["reason"]))
        else:
            lines.append(f"  - {problem}")
    for modality, pairs in of_files.items():
        lines += [f"  - {problem}" for problem, _ in pairs[:most]]
        rest: dict[str, list[str]] = {}
        for _, reason in pairs[most:]:
            rest.setdefault(_NUMBER.sub("0", reason), []).append(reason)
        if rest:
            lines.append(f"  - and {counted(len(pairs) - most, 'more file')} of modality {modality}:")
        for reasons in sorted(rest.values(), key=lambda reasons: (-len(reasons), reasons)):
            lines.append(f"      {len(reasons)} × {reasons[0]}{', and the like' if len(set(reasons)) > 1 else ''}")
    return lines
