"""Decide which numbers of a run are safe to publish under a minimum count: in every part, round, site and group.

Suppressed: neither the number of patients nor anything else about them is shown. Withheld: the number is shown, but no
score, because scores would reveal the counts of the classes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.aggregates import is_supported
from remind.privacy.publication import Key, Publication
from remind.privacy.threshold import is_small
from remind_server.store.schema import ALL, TEST, VALIDATION, Group, Run, Site, SiteCounts

GROUP, SITE = "group", "site"
Cell = tuple[int, int]  # site, group; ALL for the margins
Counts = Mapping[int, Sequence[int]]  # group → patients of each class
SMALL, TAIL = -1, -2  # in place of a group's number: all small groups together, and the patients of all tail groups
ONE_BY_ONE = 8  # largest groups that are requested one after another, so that the smaller ones are suppressed
MOST_WHOLES = 12  # different sets of sites whose totals are checked; totals of further sets are suppressed
MOST_CELLS = 6_000  # group × site × class, beyond which the cells of single sites are suppressed: some ten seconds


@dataclass(frozen=True)
class Evaluated:
    """The patients that were evaluated together in some rounds, as counts of each site."""

    sites: Mapping[int, Counts]

    @property
    def key(self) -> tuple[int, ...]:
        """Return a key that identifies the set within the run; sites keep their patients."""
        return tuple(sorted(self.sites))


@dataclass(frozen=True)
class Shown:
    """Published cells of one set of patients; missing cells have no patients."""

    numbers: frozenset[Cell]
    scores: frozenset[Cell]
    everything: bool = False

    def number(self, site: int, group: int) -> bool:
        """Return whether the number of patients may be shown."""
        return self.everything or (site, group) in self.numbers

    def score(self, site: int, group: int) -> bool:
        """Return whether scores may be shown."""
        return self.everything or (site, group) in self.scores


ALL_SHOWN, NONE_SHOWN = Shown(frozenset(), frozenset(), everything=True), Shown(frozenset(), frozenset())


@dataclass(frozen=True)
class Published:
    """What may be shown of a run; `rounds` maps a round to the published cells of validation patients."""

    rounds: Mapping[int, Shown]
    test: Shown
    train_groups: frozenset[int]
    train_sites: frozenset[int]
    everything: bool = False

    def validation(self, round_: int | None = None) -> Shown:
        """Return the published cells of a round, by default of the last one with an evaluation."""
        if self.everything:
            return ALL_SHOWN
        return self.rounds.get(max(self.rounds, default=0) if round_ is None else round_, NONE_SHOWN)

    def of(self, patients: str) -> Shown:
        """Return the published cells of the patients evaluated last."""
        return ALL_SHOWN if self.everything else self.test if patients == TEST else self.validation()

    def trained(self, group: int) -> bool:
        """Return whether a group's training patients may be shown, and λ and R_k, which reveal something about them."""
        return self.everything or group in self.train_groups

    def trained_at(self, site: int) -> bool:
        """Return whether a site's training patients may be shown."""
        return self.everything or site in self.train_sites


EVERYTHING = Published({}, ALL_SHOWN, frozenset(), frozenset(), everything=True)


def published(session: Session, run: Run, min_count: int) -> Published:
    """Decide for a run. Numbers shown in earlier rounds stay shown; later numbers are suppressed where necessary."""
    if min_count <= 1:
        return EVERYTHING
    validation, test = (_measured(session, run.id, patients) for patients in (VALIDATION, TEST))
    publication = Publication(min_count)
    in_play = session.scalars(select(Group).where(Group.run_id == run.id)).all()
    tail = frozenset(group.number for group in in_play if group.tail)
    shown_of: dict[tuple[int, ...], Shown] = {}
    # Sites that joined later may have moved groups into the tail or out of it: an earlier sum was of other groups.
    sites_of = [whole.sites.keys() for whole in validation.values() if whole is not None]
    same_tail = tail if all(sites <= sites_of[0] for sites in sites_of) else frozenset()
    for whole in validation.values():
        if whole is not None and whole.key not in shown_of:
            closed = len(shown_of) >= MOST_WHOLES
            shown_of[whole.key] = _ask(publication, VALIDATION, whole, same_tail, closed)
    rounds = {round_: NONE_SHOWN if whole is None else shown_of[whole.key] for round_, whole in validation.items()}
    last, tested = (next((one for one in reversed(found.values()) if one), None) for found in (validation, test))
    groups = {group.number: group.train_n for group in in_play}
    sites = {s.number: s.train_n for s in session.scalars(select(Site).where(Site.run_id == run.id))}
    of_test = NONE_SHOWN
    if tested is not None:
        for axis, train in ((GROUP, groups), (SITE, sites)):
            _know_totals(publication, axis, train, [(VALIDATION, last), (TEST, tested)])
        of_test = _ask(publication, TEST, tested, tail)
    trained, trained_at = (_ask_train(publication, axis, train) for axis, train in ((GROUP, groups), (SITE, sites)))
    return Published(rounds, of_test, trained, trained_at)


def _measured(session: Session, run_id: int, patients: str) -> dict[int, Evaluated | None]:
    """Return the evaluated patients by round; None if a site's patients differ from those of an earlier round."""
    where = (SiteCounts.run_id == run_id, SiteCounts.patients == patients)
    found: dict[int, dict[int, Counts]] = {}
    now: dict[int, Counts] = {}
    first: dict[int, Counts] = {}
    for row in session.scalars(select(SiteCounts).where(*where).order_by(SiteCounts.round, SiteCounts.site)):
        if row.counts is not None:
            now[row.site] = {int(group): classes for group, classes in row.counts.items()}
        first.setdefault(row.site, now[row.site])
        found.setdefault(row.round, {})[row.site] = now[row.site]
    return {
        round_: Evaluated(sites) if all(first[site] == counts for site, counts in sites.items()) else None
        for round_, sites in found.items()
    }


def _ask(
    publication: Publication, patients: str, whole: Evaluated, tail: frozenset[int], closed: bool = False
) -> Shown:
    """Request the numbers in the order in which a reader needs them: what is shown first is suppressed last.

    All patients and the groups with the support to be ranked; the small groups together, and the tail; the sites; the
    other groups; finally the cells of single sites. Which groups are small follows from what is shown: a group whose
    scores are withheld counts as small. All small numbers are requested first and refused: so whatever is shown
    after that protects them.
    """
    counts = {
        (patients, site, group, c): n
        for site, of_group in whole.sites.items()
        for group, classes in of_group.items()
        for c, n in enumerate(classes)
    }
    of_cell: dict[Cell, list[Key]] = {}
    by_class: dict[int, Counter[int]] = {}
    for atom, n in counts.items():
        _, site, group, c = atom
        by_class.setdefault(group, Counter())[c] += n
        for cell in {(ALL, ALL), (ALL, group), (site, ALL), (site, group)}:
            of_cell.setdefault(cell, []).append(atom)
    large = sorted(
        (k for k, found in by_class.items() if is_supported(found.values())), key=lambda k: -by_class[k].total()
    )
    asked, shown, hidden = set[Cell](), set[Cell](), set[Cell]()

    def numbers_of(cells: Iterable[Cell]) -> dict[Key, list[Key]]:
        """Return by cell its patients and the numbers of each class, which its scores would reveal."""
        numbers: dict[Key, list[Key]] = {}
        for cell in cells:
            for atom in of_cell.get(cell, ()):
                numbers.setdefault((cell, None), []).append(atom)
                numbers.setdefault((cell, atom[3]), []).append(atom)
        return numbers

    def ask(cells: Iterable[Cell], careful: bool = True) -> None:
        numbers = numbers_of(cells)
        bundles = {key: key[0] for key in numbers if key[1] is not None}
        found = publication.ask(numbers, counts, bundles, closed=closed, careful=careful)
        asked.update(cell for cell, _ in numbers)
        shown.update(cell for cell, c in found if c is None)
        hidden.update(cell for cell, _ in numbers.keys() - found)

    every = numbers_of(of_cell if len(counts) <= MOST_CELLS else (cell for cell in of_cell if ALL in cell))
    few = {key: atoms for key, atoms in every.items() if is_small(sum(counts[a] for a in atoms), publication.minimum)}
    publication.ask(few, counts, closed=closed)
    for cell in ((ALL, ALL), *((ALL, group) for group in large[:ONE_BY_ONE])):
        ask([cell])
    ask((ALL, group) for group in large[ONE_BY_ONE:])
    small = {group for group in by_class if group not in large or (ALL, group) in hidden}
    for place, members in ((SMALL, small), (TAIL, tail)):
        of_cell[ALL, place] = [atom for atom in counts if atom[2] in members]
        ask([(ALL, place)])
    ask((site, ALL) for site in whole.sites)
    ask((ALL, group) for group in by_class)
    if len(counts) <= MOST_CELLS:
        ask(((site, group) for site, of_group in whole.sites.items() for group in of_group), careful=False)
    return Shown(numbers=frozenset(shown), scores=frozenset(asked - hidden))


def _know_totals(
    publication: Publication, axis: str, train: Mapping[int, int], parts: Sequence[tuple[str, Evaluated | None]]
) -> None:
    """Account for known totals: `remind data describe` shows training, validation and test patients together."""
    counts: dict[Key, int] = {(axis, number): n for number, n in train.items()}
    totals: dict[Key, list[Key]] = {number: [(axis, number)] for number in train}
    for patients, whole in parts:
        for site, of_group in whole.sites.items() if whole else ():
            for group, classes in of_group.items():
                number = group if axis == GROUP else site
                own = {(patients, site, group, c): n for c, n in enumerate(classes)}
                counts |= own
                totals.setdefault(number, []).extend(own)
    small = {number for number, atoms in totals.items() if is_small(sum(counts[a] for a in atoms), publication.minimum)}
    publication.ask({n: atoms for n, atoms in totals.items() if n not in small}, counts, known=totals.keys() - small)


def _ask_train(publication: Publication, axis: str, train: Mapping[int, int]) -> frozenset[int]:
    """Request the training patients of each group or site; a reader is assumed to know their sum."""
    atoms = {(axis, number): n for number, n in train.items()}
    numbers: dict[Key, list[Key]] = {number: [(axis, number)] for number in train}
    everyone = {} if is_small(sum(train.values()), publication.minimum) else {None: list(atoms)}
    shown = publication.ask(numbers | everyone, atoms, known=everyone.keys())
    return frozenset(number for number in train if number in shown)
