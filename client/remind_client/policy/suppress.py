"""Suppression: no message contains anything about a group below the minimum count (design, invariant 10).

Pure functions. A suppressed group looks as if the site did not have it: the coordinator cannot distinguish a small
group from an absent one. A group is released if it has at least the minimum of *training* patients. If a part of the
split (validation, test) has fewer of its patients, the group's statistics for that part are suppressed, including its
use of experts. Cells within a released group (its classes, its score bins, its sums of expert weights) are not
examined.

If a message has a field that these functions do not know, they raise `UnknownFieldError`.
"""

from collections.abc import Collection, Mapping

from remind.federation.message_statistics import Evaluation, LossSum, PrivacySpent, Tempered
from remind.federation.message_types import Message
from remind.federation.messages import Enrolment, Examination, Report
from remind.privacy.threshold import large_groups, large_parts

KNOWN: dict[type[Message], frozenset[str]] = {
    Enrolment: frozenset(
        {
            "kind",
            "site",
            "version",
            "cohort_schema",
            "fingerprint",
            "counts",
            "observed",
            "labels",
            "held_out",
            "minimum",
            "named",
        },
    ),
    Report: frozenset({"kind", "round", "share", "train", "validation", "local", "seconds", "index", "privacy"}),
    Examination: frozenset({"kind", "round", "test", "validation", "calibrated", "tempered", "seconds"}),
    Tempered: frozenset({"count", "loss", "slope"}),
    LossSum: frozenset({"count", "loss_sum", "variance"}),
    PrivacySpent: frozenset({"epsilon", "delta", "left", "own", "releases"}),
    Evaluation: frozenset(
        {
            "count",
            "loss_sum",
            "log_loss_sum",
            "log_loss_squares",
            "brier_sum",
            "brier_squares",
            "open_sum",
            "confusion",
            "bins",
            "scores",
            "use_sum",
            "outcome",
            "sums",
        }
    ),
}


class UnknownFieldError(TypeError):
    """A message has a field for which no suppression rule is defined."""


def require_known(message: Message) -> None:
    """Refuse message types that suppression does not fully know.

    Raises
    ------
    UnknownFieldError
        If the type is unknown, or if it has other fields than when the rules were written.
    """
    for kind in (type(message), LossSum, Evaluation, Tempered, PrivacySpent):
        if unknown := set(kind.model_fields) - KNOWN.get(kind, frozenset()):
            raise UnknownFieldError(f"{kind.__name__}: {sorted(unknown)}")


def released_groups(enrolment: Enrolment, minimum: int) -> frozenset[int]:
    """Return the groups that the site may report to the coordinator."""
    if minimum <= 1:
        return frozenset(enrolment.observed) | frozenset(enrolment.counts)
    return large_groups(enrolment.counts, minimum)


def suppress_enrolment(enrolment: Enrolment, minimum: int, named: bool | None = None) -> Enrolment:
    """Return an enrolment without the groups that are not released; the policy decides about the site's name."""
    require_known(enrolment)
    released = released_groups(enrolment, minimum)
    return enrolment.model_copy(
        update={
            "counts": {k: n for k, n in enrolment.counts.items() if k in released},
            "observed": tuple(k for k in enrolment.observed if k in released),
            "labels": {k: classes for k, classes in enrolment.labels.items() if k in released},
            "held_out": {k: n for k, n in enrolment.held_out.items() if k in released and n >= minimum},
            "minimum": minimum,
            "named": named,
        }
    )


def suppress_report(report: Report, released: Collection[int], minimum: int, tell: bool = False) -> Report:
    """Report without losses and statistics that are not released; `tell`: with what was spent of privacy."""
    require_known(report)
    return report.model_copy(
        update={
            "train": large_parts(report.train, released, minimum),
            "validation": large_parts(report.validation, released, minimum),
            "local": large_parts(report.local, released, minimum),
            "privacy": report.privacy if tell else None,
        }
    )


def suppress_examination(examination: Examination, released: Collection[int], minimum: int) -> Examination:
    """Return the examination without statistics that are not released."""
    require_known(examination)
    return examination.model_copy(
        update={
            "test": large_parts(examination.test, released, minimum),
            "validation": large_parts(examination.validation, released, minimum),
            "calibrated": large_parts(examination.calibrated, released, minimum),
            "tempered": large_parts(examination.tempered, released, minimum),
        }
    )


def counts_of(message: Message) -> dict[str, dict[int, int]]:
    """Count the patients per group in each part of a message, for the audit log."""
    match message:
        case Enrolment():
            labels = message.labels
            classes = range(max(map(len, labels.values()), default=0))
            by_class = {f"enrolled, class {c}": {k: n[c] for k, n in labels.items() if c < len(n)} for c in classes}
            held_out = {"enrolled, validation": dict(message.held_out)} if message.held_out else {}
            return {"enrolled": dict(message.counts), **by_class, **held_out}
        case Report():
            local = {"train, own model": _counts(message.local)} if message.local else {}
            return {"train": _counts(message.train), "validation": _counts(message.validation), **local}
        case Examination():
            return {"test": _counts(message.test), "validation": _counts(message.validation)}
    return {}


def _counts(part: Mapping[int, LossSum] | Mapping[int, Evaluation]) -> dict[int, int]:
    return {k: given.count for k, given in part.items()}
