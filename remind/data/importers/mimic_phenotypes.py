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

    def holds(self, name: str) -> bool:
        """Return whether a code such as ``10:I509`` belongs to the phenotype."""
        version, code = int(name[:2]), name[3:].upper()
        return version == self.version and (code.startswith(self.code) if self.prefix else code == self.code)


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
    for place, rule in enumerate(rules):
        if rule in rules[:place]:
            what = "stands in an earlier line too"
            problems.append(Problem(path.name, what, "keep one", rows[place][0], "code", rule.code))
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
    member_CL = np.zeros((len(found.names), len(names)), dtype=bool)
    idle = []
    for rule in rules:
        held_C = np.array([rule.holds(name) for name in found.names], dtype=bool)
        member_CL[held_C, names.index(rule.phenotype)] = True
        if not held_C.any():
            idle.append(f"{rule.version} {rule.code}{ANY if rule.prefix else ''}")
    holds_NL = np.zeros((n, len(names)), dtype=bool)
    stay_R, code_R = (found.rows[column].to_numpy(dtype=np.int64) for column in ("stay", "code"))
    np.logical_or.at(holds_NL, stay_R, member_CL[code_R])
    remarks = [f"{len(idle)} of {len(rules)} rows of {OPTION} match no code of these stays: {listed(idle, 6)}"]
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
