"""Facts about a run that may be published, read from its folder.

A count below the minimum is suppressed, and so is every number from which such a count would follow
(`remind.privacy`). Scores of a group are published only if the counts of all its classes may be published, because
these counts follow from the scores.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from remind import groups
from remind.errors import UserError
from remind.prediction.bundle import Bundle
from remind.privacy.publication import Publication
from remind.privacy.threshold import is_small
from remind.version import VERSION

ALL = "all"
CONFIG, FINAL, INTERVALS = "config.json", "final.json", "intervals.json"
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss")
Row = dict[str, Any]


@dataclass(frozen=True)
class GroupFacts:
    """One group, or all patients.

    Attributes
    ----------
    train_n, test_n
        Numbers of patients; None: suppressed, or no test patients.
    scores
        Scores by name; empty: suppressed, or no test patients.
    intervals
        95 % intervals of the scores that have one.
    """

    name: str
    train_n: int | None
    test_n: int | None
    scores: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFacts:
    """The facts of a run in its model card.

    Attributes
    ----------
    all, groups
        Test results of the final model: for all patients, and by group.
    hospitals
        Number of hospitals that took part; None if unknown, as at one hospital that exports its own model.
    versions
        Versions of the programs that trained the model.
    minimum
        Numbers about fewer patients than this are suppressed.
    """

    all: GroupFacts
    groups: tuple[GroupFacts, ...]
    hospitals: int | None
    versions: Mapping[str, str]
    minimum: int


def facts_of(folder: Path, bundle: Bundle, minimum: int) -> RunFacts:
    """Read the tables of a finished run.

    Raises
    ------
    UserError
        The run has not finished, or its tables cannot be read.
    """
    config = _json(folder / CONFIG)
    rows = {row["group"]: row for row in _json(folder / FINAL) if row["site"] == ALL}
    by_group = {row["group"]: row for row in _json(folder / INTERVALS)}
    names = [groups.name(k, bundle.schema.names) for k in sorted({*bundle.counts, *_masks(rows)})]
    train = {groups.name(k, bundle.schema.names): n for k, n in bundle.counts.items()}
    shown_train = _publishable({name: [n] for name, n in train.items()}, minimum)
    by_class = {name: row["n_by_class"] for name, row in by_group.items() if name != ALL}
    shown_test, shown_scores = _publishable(by_class, minimum), _publishable(by_class, minimum, each=True)

    def facts(name: str) -> GroupFacts:
        total = sum(train.values()) if name == ALL else train.get(name, 0)
        tested = rows.get(name, {}).get("n")
        found = {s: rows[name][s] for s in SHOWN if name in shown_scores and rows.get(name, {}).get(s) is not None}
        ends = by_group.get(name, {}).get("intervals", {})
        return GroupFacts(
            name,
            total if name in shown_train else None,
            tested if name in shown_test else None,
            found,
            {s: tuple(ends[s]) for s in found if ends.get(s) is not None},
        )

    return RunFacts(facts(ALL), tuple(map(facts, names)), len(config["sites"]), config.get("versions", {}), minimum)


def facts_of_hospital(bundle: Bundle, minimum: int) -> RunFacts:
    """Return the facts that one hospital has: n_k of its own combinations, and no test results."""
    shown = _publishable({k: [n] for k, n in bundle.counts.items()}, minimum)
    groups_ = tuple(
        GroupFacts(groups.name(k, bundle.schema.names), n if k in shown else None, None)
        for k, n in sorted(bundle.counts.items())
    )
    total = sum(bundle.counts.values()) if ALL in shown else None
    versions = {"federated-remind": VERSION, "torch": torch.__version__}
    return RunFacts(GroupFacts(ALL, total, None), groups_, None, versions, minimum)


def hospitals_of(folder: Path) -> tuple[str, ...]:
    """Return the names of the hospitals that took part in a run."""
    return tuple(_json(folder / CONFIG)["sites"])


def agreed_names(folder: Path, wanted: Collection[str]) -> tuple[str, ...]:
    """Return the hospitals that may be named: those whose policy agrees, and the `wanted` ones without a policy.

    Raises
    ------
    UserError
        The policy of a wanted hospital does not agree.
    """
    policies: Mapping[str, bool] = _json(folder / CONFIG).get("named", {})
    for name in wanted:
        if policies.get(name) is False:
            raise UserError(
                f"hospital {name}: its policy did not allow its name to be published when it enrolled in this run; to "
                "allow it, the hospital sets policy.share_name = true before the next run"
            )
    return tuple(sorted({*wanted, *(name for name, agreed in policies.items() if agreed)}))


def publishable_counts(bundle: Bundle, minimum: int) -> dict[int, int]:
    """Return n_k for the exported model; every suppressed number becomes `minimum` − 1.

    A predictor then still knows that the group has training patients, and flags its predictions.
    """
    shown = _publishable({k: [n] for k, n in bundle.counts.items()}, minimum)
    return {k: n if k in shown or not n else max(1, minimum - 1) for k, n in bundle.counts.items()}


def large_groups(bundle: Bundle, minimum: int) -> frozenset[int]:
    """Return the groups whose λ may be published, because their n_k may be: n_k could follow from λ."""
    shown = _publishable({k: [n] for k, n in bundle.counts.items()}, minimum)
    return frozenset(k for k in bundle.counts if k in shown)


def _publishable(counts: Mapping[Any, list[int]], minimum: int, each: bool = False) -> set[Any]:
    """Return the groups, and ``all`` where possible, whose number of patients may be published.

    Parameters
    ----------
    counts
        Patients of each group, class by class.
    each
        True: only if the number of every class may be published, too.
    """
    atoms = {(k, c): n for k, of in counts.items() for c, n in enumerate(of)}
    wholes = {ALL: list(atoms)} | {k: [a for a in atoms if a[0] == k] for k in counts}
    publication = Publication(minimum)
    shown = publication.ask({("n", k): of for k, of in wholes.items()}, atoms)
    if not each:
        return {k for k in wholes if ("n", k) in shown}
    classes = {c for _, c in atoms}
    parts = {("c", k, c): [a for a in of if a[1] == c] for k, of in wholes.items() for c in classes}
    bundles = {key: key[1] for key in parts}
    parts = {key: of for key, of in parts.items() if of}
    shown |= publication.ask(parts, atoms, bundles)
    return {
        k
        for k in wholes
        if ("n", k) in shown
        and all(key in shown for key in parts if key[1] == k)
        and not any(is_small(sum(atoms[a] for a in of), minimum) for key, of in parts.items() if key[1] == k)
    }


def _masks(rows: Mapping[str, Row]) -> set[int]:
    return {int(row["mask"]) for row in rows.values() if row.get("mask") is not None}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: is missing; export a run that has finished (status completed or incomplete in summary.json)"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}; restore it from a copy") from None
