"""Tables of the run store. A change here needs a migration beside the others in `migrations/versions/`.

Within a run, sites and groups have numbers from 1, in order of appearance; number 0 stands for all of them together.
Times are seconds since 1970, UTC.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Text, false
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from remind.durations import duration
from remind.metrics.score import names_of
from remind.metrics.scores import EVERY, SCORES

ALL = 0  # number of "all sites" and of "all groups"
WAITING, RUNNING, FINISHED, FAILED = "waiting", "running", "finished", "failed"
LOST = 600.0  # seconds without a heartbeat after which an active run counts as failed: its process is gone
INCOMPLETE = "incomplete"  # finished, but a hospital never took part, or a group was never trained
VALIDATION, TEST = "validation", "test"


class Base(DeclarativeBase):
    """Base of all tables."""


class Run(Base):
    """A run and its state.

    ``change`` grows with every event except the heartbeat, which only updates ``heard``: an active run without a
    heartbeat for long has lost its coordinator.
    """

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    folder: Mapped[str] = mapped_column(Text)
    cohort: Mapped[str] = mapped_column(Text)
    seed: Mapped[int]
    version: Mapped[str] = mapped_column(Text)
    config: Mapped[dict[str, object]] = mapped_column(JSON)
    classes: Mapped[list[str]] = mapped_column(JSON)
    outcome: Mapped[str] = mapped_column(Text, default="classes", server_default="classes")  # `remind.outcomes`
    # Of what is predicted: "unit" of a number, names of "parts" with scores of their own, and at the end "labels", a
    # row each (`remind.metrics.labels`).
    target: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True))
    modalities: Mapped[list[str]] = mapped_column(JSON)
    status: Mapped[str]
    reason: Mapped[str] = mapped_column(Text, default="")
    began: Mapped[float] = mapped_column(index=True)
    heard: Mapped[float]
    ended: Mapped[float | None]
    change: Mapped[int]
    rounds: Mapped[int]
    round: Mapped[int]  # rounds that ended
    stage: Mapped[int]
    round_began: Mapped[float | None]  # of the current round
    round_closes: Mapped[float | None]
    # Once it has ended: which round's model it is, and its calibration (`outputs.calibration_tables.model_content`).
    # Read where it is used only: it is long, and every view reads the rest of the row.
    model: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    # What people on the page say of it; tags are words with single blanks between them.
    tags: Mapped[str] = mapped_column(Text, default="", server_default="")
    notes: Mapped[str] = mapped_column(Text, default="", server_default="")
    archived: Mapped[bool] = mapped_column(default=False, server_default=false())


class _OfRun:
    """Mix-in: the run a row belongs to, first part of its key."""

    @declared_attr
    def run_id(cls) -> Mapped[int]:  # noqa: N805
        return mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, sort_order=-1)


# Scores that the migrations 0001 to 0006 gave columns; all others lie in one column of JSON.
WITH_COLUMNS = frozenset(
    {"accuracy", "balanced_accuracy", "macro_f1", "auroc", "auprc", "sensitivity", "net_benefit", "brier", "ece"}
    | {"log_loss", "loss"}
)


class _Scored:
    """Mix-in: the scores of the registry, of some patients, with 95 % intervals; NULL where undefined.

    `more_scores` holds those without a column, by name, and each is an attribute as well: a new score needs no
    migration.
    """

    n: Mapped[int]
    positives: Mapped[int | None]
    gate_open: Mapped[float | None]
    more_scores: Mapped[dict[str, float | None] | None] = mapped_column(JSON(none_as_null=True))


class _Withheld:
    """Mix-in: number of sites that withhold patients (in a site's margin: groups; in the total: sites × groups).

    They train on a group but report nothing about it here, because they have fewer patients than their minimum, or
    none. If any site withholds, n = 0 does not mean that there are no patients.
    """

    withheld: Mapped[int] = mapped_column(default=0, sort_order=1)


def _of_more(name: str) -> "hybrid_property[Any]":
    """Return an attribute for a number in `_Scored.more_scores`, in Python and in SQL."""

    def value(self: Any) -> Any:
        return (self.more_scores or {}).get(name)

    def expression(cls: Any) -> Any:
        return cls.more_scores[name].as_float()

    value.__name__ = name
    return hybrid_property(value).expression(expression)


SCORE_COLUMNS = tuple(names_of(EVERY, ("", "_low", "_high")))
_IN_COLUMNS = {name: score for name, score in EVERY.items() if name in WITH_COLUMNS}
MORE_COLUMNS = tuple(names_of({name: score for name, score in EVERY.items() if name not in WITH_COLUMNS}))
_Scored.__annotations__ |= dict.fromkeys(names_of(_IN_COLUMNS), Mapped[float | None])
for _name in MORE_COLUMNS:
    setattr(_Scored, _name, _of_more(_name))


class Site(_OfRun, Base):
    """A site that takes part, or was refused."""

    __tablename__ = "sites"

    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    train_n: Mapped[int]
    asked: Mapped[bool]  # in the current round, or the last one
    refused: Mapped[str | None] = mapped_column(Text)
    privacy: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True))  # `PrivacySpent`, told last


class Group(_OfRun, Base):
    """A modality combination in play."""

    __tablename__ = "groups"

    number: Mapped[int] = mapped_column(primary_key=True)
    mask: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(Text)
    train_n: Mapped[int]
    tail: Mapped[bool]


class Round(_OfRun, Base):
    """A round that ended."""

    __tablename__ = "rounds"

    round: Mapped[int] = mapped_column(primary_key=True)
    stage: Mapped[int]
    seconds: Mapped[float]
    ended: Mapped[float]
    bytes_down: Mapped[int] = mapped_column(BigInteger)
    bytes_up: Mapped[int] = mapped_column(BigInteger)
    effective_sites: Mapped[float | None]  # NULL: not known, or all sites were asked
    sampling_error: Mapped[float | None]


class RoundSite(_OfRun, Base):
    """The result of a site in a round: `absent` is why it did not count, NULL if it answered.

    The current round has rows for the sites whose answers were taken so far.
    """

    __tablename__ = "round_sites"

    round: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[int] = mapped_column(primary_key=True)
    absent: Mapped[str | None] = mapped_column(Text)


class RoundGroup(_OfRun, _Scored, _Withheld, Base):
    """A group in a round: λ, R_k, and validation scores of the model before the round."""

    __tablename__ = "round_groups"

    group: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    weight: Mapped[float | None]  # lambda in the round
    weight_after: Mapped[float | None]
    risk: Mapped[float | None]


def tables_by_round() -> list[Any]:
    """Return every table whose rows belong to a round of a run: what a resumed run writes again."""
    tables = (mapper.class_ for mapper in Base.registry.mappers)
    return [table for table in tables if issubclass(table, _OfRun) and hasattr(table, "round")]


class Cell(_OfRun, _Scored, _Withheld, Base):
    """Scores of one group at one site: validation patients as of the last round, test patients at the end."""

    __tablename__ = "cells"

    patients: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[int] = mapped_column(primary_key=True)
    group: Mapped[int] = mapped_column(primary_key=True)


class SiteRound(_OfRun, Base):
    """Validation scores of a site's patients of all groups in a round, of the model before it; none where undefined."""

    __tablename__ = "site_rounds"

    round: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int]
    scores: Mapped[dict[str, float]] = mapped_column(JSON)


class ExpertUse(_OfRun, Base):
    """Mean weight of each expert over a group's patients at all sites; the rows go with the cells of those patients."""

    __tablename__ = "expert_uses"

    patients: Mapped[str] = mapped_column(primary_key=True)
    group: Mapped[int] = mapped_column(primary_key=True)
    use: Mapped[list[float]] = mapped_column(JSON)


class MergedStatistics(_OfRun, Base):
    """The statistics of a group's patients at all sites (`metrics.packed`); the rows go with the cells."""

    __tablename__ = "group_statistics"

    patients: Mapped[str] = mapped_column(primary_key=True)
    group: Mapped[int] = mapped_column(primary_key=True)
    packed: Mapped[dict[str, object]] = mapped_column(JSON)


class SiteCounts(_OfRun, Base):
    """Validation or test patients of each group by class, at a site that counted in a round.

    The final evaluation has the number of the round after the last. ``counts`` maps a group's number, as text, to its
    patients of each class; NULL: as before.
    """

    __tablename__ = "site_counts"

    patients: Mapped[str] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[int] = mapped_column(primary_key=True)
    counts: Mapped[dict[str, list[int]] | None] = mapped_column(JSON(none_as_null=True))


class AlertSent(_OfRun, Base):
    """What became of an alert at one target; `problem` is empty if it was sent."""

    __tablename__ = "alerts"

    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    ended: Mapped[float]
    kind: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int]
    problem: Mapped[str] = mapped_column(Text)


def lost(heard: float) -> dict[str, object]:
    """Return the end of an active run that sent no heartbeat for `LOST` seconds; `heard` is the last heartbeat."""
    reason = f"no heartbeat for {duration(LOST)}: the run's process was killed, or the machine stopped"
    return {"status": FAILED, "reason": reason, "ended": heard, "round_began": None, "round_closes": None}


_COLUMNS = tuple(name for name in _Scored.__annotations__ if name != "more_scores")
SCORED = (*_COLUMNS, *(name for name in MORE_COLUMNS if name in set(names_of(SCORES))))
EVERY_SCORED = (*_COLUMNS, *MORE_COLUMNS)  # of runs of other outcomes too


def in_columns(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of `EVERY_SCORED` as columns: scores without one go into one of JSON, NULL if none is defined."""
    more = {name: row[name] for name in MORE_COLUMNS if name in row}
    known = any(value is not None for value in more.values())
    return {name: value for name, value in row.items() if name not in more} | {"more_scores": more if known else None}
