"""Phenotypes of MIMIC-IV: several labels of a stay, each a group of diagnosis codes of its admission.

The user gives the groups (`read_phenotypes`), such as the 25 of Harutyunyan et al. (2019,
https://doi.org/10.1038/s41597-019-0103-9). Letters: N stays, L phenotypes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.problems import Problem, listed
from remind.data.importers.mimic_codes import Diagnoses
from remind.data.importers.user_list import Row, read_list
from remind.errors import several

OPTION = "--phenotypes"
COLUMNS = ("phenotype", "version", "code")
VERSIONS = ("9", "10")
RESERVED = ("patient_id", "person", "site", "split")  # columns of the patients file with a meaning of their own
ANY = "*"  # at the end of a code


@dataclass(frozen=True)
class Rule:
    """A row of the list: codes of an ICD version that belong to a phenotype.

    Attributes
    ----------
    code
        As MIMIC-IV writes codes: without dot, capital letters.
    prefix
        Whether all codes that begin with it belong to the phenotype too.
    """

    phenotype: str
    version: int
    code: str
    prefix: bool


@dataclass(frozen=True)
class Phenotypes:
    """Which phenotypes the stays have.

    Attributes
    ----------
    names
        In the order of the list.
    holds_NL
        Whether a code of the stay's admission belongs to the phenotype.
    """

    names: tuple[str, ...]
    holds_NL: NDArray[np.bool_]

    def take(self, keep_N: NDArray[np.bool_]) -> Self:
        """Select the stays under the mask."""
        return type(self)(self.names, self.holds_NL[keep_N])

    def remarks(self) -> list[str]:
        """Name the phenotypes that no stay, or every stay, has."""
        n_L = self.holds_NL.sum(axis=0)
        sides = (("no stay", n_L == 0), ("every stay", n_L == len(self.holds_NL)))
        found = [(who, [name for name, is_so in zip(self.names, so_L, strict=True) if is_so]) for who, so_L in sides]
        return [f"{who} has {listed(names)}: it cannot be learned from this cohort" for who, names in found if names]


def read_phenotypes(path: Path) -> tuple[Rule, ...]:
    """Read a .csv with a row per code: phenotype, version (9 or 10), code; `*` at the end means all that begin so.

    Raises
    ------
    UserError
        The file has problems; all are listed with line, column, value, remedy.
    """
    problems: list[Problem] = []
    rows = read_list(path, OPTION, COLUMNS, COLUMNS, "code", problems)
    rules = [_rule(path.name, line, row, problems) for line, row in rows]
    earlier = set[Rule]()
    for (line, _), rule in zip(rows, rules, strict=True):
        if rule in earlier:
            problems.append(Problem(path.name, "stands in an earlier line too", "keep one", line, "code", rule.code))
        earlier.add(rule)
    names = _names(rules)
    if len(names) == 1 and not problems:
        what = f"has one phenotype, {names[0]}"
        problems.append(Problem(path.name, what, "put two or more: they are labels of one model"))
    if problems:
        raise several(f"{OPTION} {path} is no list of phenotypes", map(str, problems))
    return tuple(rules)


def phenotypes_of(rules: Sequence[Rule], found: Diagnoses, n: int) -> tuple[Phenotypes, list[str]]:
    """Return which of n stays have each phenotype, and remarks about rules without a code.

    Parameters
    ----------
    found
        Codes of the stays' own admissions.
    """
    names = _names(rules)
    of_name, idle = {name: place for place, name in enumerate(names)}, dict.fromkeys(rules)
    of_code: dict[tuple[int, str, bool], list[Rule]] = {}
    for rule in rules:
        of_code.setdefault((rule.version, rule.code, rule.prefix), []).append(rule)
    member_CL = np.zeros((len(found.names), len(names)), dtype=bool)
    for place, name in enumerate(found.names):
        version, code = int(name[:2]), name[3:].upper()
        ways = [(version, code, False), *((version, code[:end], True) for end in range(1, len(code) + 1))]
        for rule in (rule for way in ways for rule in of_code.get(way, ())):
            member_CL[place, of_name[rule.phenotype]] = True
            idle.pop(rule, None)
    holds_NL = np.zeros((n, len(names)), dtype=bool)
    stay_R, code_R = (found.rows[column].to_numpy(dtype=np.int64) for column in ("stay", "code"))
    np.logical_or.at(holds_NL, stay_R, member_CL[code_R])
    unused = [f"{rule.version} {rule.code}{ANY if rule.prefix else ''}" for rule in idle]
    remarks = [f"{len(idle)} of {len(rules)} rows of {OPTION} match no code of these stays: {listed(unused, 6)}"]
    return Phenotypes(names, holds_NL), remarks if idle else []


def _rule(file: str, line: int, row: Row, problems: list[Problem]) -> Rule:
    name, version, code = ((row[column] or "").strip() for column in COLUMNS)
    if not name or name in RESERVED:
        what = "is a column of the patients file" if name else "empty"
        problems.append(Problem(file, what, "name the phenotype", line, "phenotype", name or None))
    if version not in VERSIONS:
        problems.append(Problem(file, "no such version of ICD", "use 9 or 10", line, "version", version))
    plain = code.removesuffix(ANY).replace(".", "").upper()
    if not plain.isalnum():
        what = f"a code has letters and digits, with {ANY} at the end for all codes that begin so"
        problems.append(Problem(file, "not a code", what, line, "code", code))
    return Rule(name, int(version) if version in VERSIONS else 0, plain, code.endswith(ANY))


def _names(rules: Sequence[Rule]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rule.phenotype for rule in rules))
