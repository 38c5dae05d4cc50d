"""Count the training and test patients of a panel per group and hospital.

These counts decide which of them are ranked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from remind import groups
from remind.errors import UserError
from remind.federation.message_statistics import Evaluation
from remind.metrics.aggregates import by_class
from remind_studies.cells.cell import BySite
from remind_studies.results.contenders import Contender

Key = TypeVar("Key", int, str)  # a group or a site
Value = TypeVar("Value")


@dataclass(frozen=True)
class Size:
    """Patients by class, or on two sides of another outcome (`aggregates.by_class`), or in one number."""

    by_class: tuple[int, ...] = ()

    @property
    def patients(self) -> int:
        """Of all classes."""
        return sum(self.by_class)

    @property
    def positives(self) -> int:
        """Of class 1, or with the event or label."""
        return sum(self.by_class[1:2])

    def __add__(self, other: "Size") -> "Size":
        return Size(tuple(a + b for a, b in zip_longest(self.by_class, other.by_class, fillvalue=0)))


@dataclass(frozen=True)
class Tested:
    """Test patients of one group or hospital.

    Attributes
    ----------
    mean
        Patients, mean over seeds.
    once
        Tested at least once: the sum over the folds of one partition, of that partition that tested most.
    fewest
        Fewest patients of one class that a seed tested, over classes and seeds; classes without a patient aside.
    """

    mean: float
    once: Size
    fewest: int = 0


@dataclass(frozen=True)
class Census:
    """Patients of a panel, the same for all its arms.

    Attributes
    ----------
    groups, sites
        Test patients of each group, be it tested, trained on or both, and of each hospital.
    train
        Training patients of each of these groups, mean over seeds.
    tail
        Groups below the tail share of the training patients of all seeds.
    ratio
        n_test/n_train of a run, from the means over seeds; 0 where nothing was tested.
    """

    groups: Mapping[int, Tested]
    sites: Mapping[str, Tested]
    train: Mapping[int, float]
    tail: frozenset[int]
    ratio: float


def census(panel: str, rows: Sequence[Contender], folds: int) -> Census:
    """Count the patients of a panel.

    Parameters
    ----------
    folds
        K: seed s holds out fold s mod K of partition s div K.

    Raises
    ------
    UserError
        Two arms of one seed were tested on different patients: they cannot be compared.
    """
    tests = _check_paired(panel, rows)
    by_group = {seed: _sizes(test, lambda site, group: group) for seed, test in tests.items()}
    by_site = {seed: _sizes(test, lambda site, group: site) for seed, test in tests.items()}
    training = _of_first({row.name: {seed: r.counts for seed, r in row.results.items()} for row in rows})
    masks = {mask for counts in training.values() for mask in counts} | {
        m for sizes in by_group.values() for m in sizes
    }
    train = {mask: sum(counts.get(mask, 0) for counts in training.values()) for mask in sorted(masks)}
    n_train = sum(train.values()) / max(len(training), 1)
    n_test = sum(size.patients for sizes in by_group.values() for size in sizes.values()) / max(len(tests), 1)
    return Census(
        groups={mask: _tested(mask, by_group, folds) for mask in sorted(masks)},
        sites={
            site: _tested(site, by_site, folds) for site in sorted({s for sizes in by_site.values() for s in sizes})
        },
        train={mask: n / max(len(training), 1) for mask, n in train.items()},
        tail=groups.tail(train) if n_train else frozenset(),
        ratio=n_test / n_train if n_train else 0.0,
    )


def _check_paired(panel: str, rows: Sequence[Contender]) -> dict[int, BySite]:
    """Return the test of each seed, which has the same patients for every arm."""
    tests = {row.name: {seed: outcome.test for seed, outcome in row.outcomes.items()} for row in rows}
    first = _of_first(tests)
    for name, own in tests.items():
        for seed, test in own.items():
            if _counts(test) != _counts(first[seed]):
                other = next(row.name for row in rows if seed in row.outcomes)
                raise UserError(
                    f"panel {panel!r}, seed {seed}: {other!r} and {name!r} were tested on different patients and "
                    "cannot be compared; settings of data.* and synthetic.* must be the same for all methods"
                )
    return first


def _of_first(by_row: Mapping[str, Mapping[int, Value]]) -> dict[int, Value]:
    """Return the entry of each seed from the first row that has it."""
    found: dict[int, Value] = {}
    for own in by_row.values():
        for seed, value in own.items():
            found.setdefault(seed, value)
    return dict(sorted(found.items()))


def _counts(test: BySite) -> dict[tuple[str, int], int]:
    return {(site, group): evaluation.count for site, own in test.items() for group, evaluation in own.items()}


def _sizes(test: BySite, key: Callable[[str, int], Key]) -> dict[Key, Size]:
    """Test patients of one seed by group or by site."""
    sizes: dict[Key, Size] = {}
    for site, own in test.items():
        for group, evaluation in own.items():
            sizes[key(site, group)] = sizes.get(key(site, group), Size()) + _size(evaluation)
    return sizes


def _size(evaluation: Evaluation) -> Size:
    return Size(tuple(by_class(evaluation.value())))


def _tested(key: Key, by_seed: Mapping[int, Mapping[Key, Size]], folds: int) -> Tested:
    partitions: dict[int, Size] = {}
    for seed, sizes in by_seed.items():
        partitions[seed // folds] = partitions.get(seed // folds, Size()) + sizes.get(key, Size())
    everyone = sum(size.patients for size in partitions.values())
    return Tested(
        mean=everyone / max(len(by_seed), 1),
        once=max(partitions.values(), key=lambda size: size.patients, default=Size()),
        fewest=min((n for sizes in by_seed.values() for n in sizes.get(key, Size()).by_class if n), default=0),
    )
