"""Sequential publication: a number is published only if no small count follows from it and all numbers before it.

A page shows one round after another, and a reader can remember all of them. A published number therefore stays
published, and a later number is suppressed instead. For example, the total of a round without one site is suppressed if
its difference from an earlier total would reveal the few patients of that site.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from remind.privacy.cell_suppression import withhold

Atom = Any  # hashable: a set of patients, disjoint from every other atom
Key = Any  # hashable: identifies a number


class Publication:
    """All numbers that are published about the same patients, in the order of their publication.

    Parameters
    ----------
    minimum
        Minimum count. With a minimum of 0 or 1, everything may be shown.
    """

    def __init__(self, minimum: int) -> None:
        self.minimum = minimum
        self._place: dict[Atom, int] = {}
        self._counts: list[int] = []
        self._shown: dict[frozenset[int], bool] = {}  # for every requested number: whether it is shown
        self._few: set[frozenset[int]] = set()

    def ask(
        self,
        numbers: Mapping[Key, Iterable[Atom]],
        counts: Mapping[Atom, int],
        bundles: Mapping[Key, Hashable] | None = None,
        known: Collection[Key] = (),
        few: Collection[Key] = (),
        closed: bool = False,
        careful: bool = False,
    ) -> set[Key]:
        """Decide which of these numbers may be shown, and record them as shown.

        Parameters
        ----------
        numbers
            The atoms that each number is the sum of. A number that was requested before keeps its answer.
        counts
            Patients of the atoms. Atoms of earlier numbers may be included.
        bundles
            Numbers of the same bundle are shown together or not at all; by default each number is independent.
        known
            Numbers that the reader knows from another source.
        few
            Numbers to treat as small regardless of their counts, such as those of few persons with many visits.
        closed
            Show only numbers that were shown before, even if others are safe.
        careful
            Suppress no more of these than necessary. Only for few numbers (`cell_suppression.withhold`).
        """
        for atom, count in counts.items():
            if atom not in self._place:
                self._place[atom] = len(self._counts)
                self._counts.append(count)
        set_of = {key: frozenset(map(self._place.__getitem__, atoms)) for key, atoms in numbers.items()}
        self._few |= {set_of[key] for key in few}
        new = list(dict.fromkeys(own for own in set_of.values() if own not in self._shown))
        if self.minimum <= 1:
            self._shown |= dict.fromkeys(new, True)
        elif closed:
            return {key for key, own in set_of.items() if self._shown.get(own)}
        elif new:
            self._decide(new, set_of, bundles or {}, {set_of[key] for key in known}, careful)
        return {key for key, own in set_of.items() if self._shown[own]}

    def _decide(
        self,
        new: list[frozenset[int]],
        set_of: Mapping[Key, frozenset[int]],
        bundles: Mapping[Key, Hashable],
        known: Collection[frozenset[int]],
        careful: bool,
    ) -> None:
        atom_A = np.array(self._counts, dtype=np.int64)
        before = list(self._shown)
        every, fresh = [*before, *new], set(new)
        bundle_of = {own: bundles[key] for key, own in set_of.items() if key in bundles}
        number_of: dict[Hashable, int] = {}
        own_name = [bundle_of.get(own, own) if own in fresh else own for own in every]
        bundle_V = np.array([number_of.setdefault(name, len(number_of)) for name in own_name])
        out_V = np.array([self._shown.get(own, own in known) for own in every])
        parts_VA = _matrix(every, len(atom_A))
        count_V = parts_VA @ atom_A
        hidden_V = withhold(
            atom_A,
            parts_VA,
            self.minimum,
            small_V=(count_V > 0) & ((count_V < self.minimum) | np.array([own in self._few for own in every])),
            in_any_case_V=np.array([not self._shown.get(own, True) for own in every]),
            published_V=out_V,
            bundle_V=bundle_V,
            careful=careful,
        )
        self._shown |= {own: not hidden for own, hidden in zip(new, hidden_V[len(before) :].tolist(), strict=True)}


def _matrix(sets: list[frozenset[int]], n_atoms: int) -> Any:
    ends = np.cumsum([0, *map(len, sets)])
    indices = np.fromiter((place for own in sets for place in own), dtype=np.int64, count=int(ends[-1]))
    return csr_matrix((np.ones(int(ends[-1])), indices, ends), shape=(len(sets), n_atoms))
