"""The model at each hospital: its score, its trend, and the gain over training alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.differences import difference
from remind.metrics.scores import EVERY
from remind.secagg.limits import TOGETHER
from remind_server.dashboard.answers import Estimate, Patients, PatientScores
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.groups import GroupTable, group_table
from remind_server.dashboard.views.verdict import SiteScores, site_scores
from remind_server.store.schema import ALL, FINISHED, INCOMPLETE, Round, Run, Site, SiteRound

ALONE = "local"  # the rule under which each hospital trains on its own patients
_SAME = ("data.", "synthetic.", "seed")  # settings that decide who is tested where


@dataclass(frozen=True)
class Spent:
    """The privacy budget that a run has spent at a hospital, as in the message `PrivacySpent`."""

    epsilon: float
    delta: float
    left: float
    releases: dict[str, float]
    own: float | None = None


@dataclass(frozen=True)
class Hospital:
    """A hospital's own patients of all groups together, by one score.

    Attributes
    ----------
    privacy
        The hospital's last report of its privacy budget in this run; null if its policy reports nothing.
    trend
        The score on validation patients in each round; null where it is undefined, withheld or was not measured.
    alone
        The score of a run in which each hospital trained alone (rule `local`), on the same patients; null if the store
        has no such run of the same cohort, seed and split.
    gain
        This score minus that of training alone, better is positive, with its 95 % interval. The interval assumes
        independent scores, so it is wider than necessary for the same patients.
    """

    number: int
    name: str
    privacy: Spent | None
    train_n: int | None
    train_suppressed: bool
    scores: PatientScores
    ranked: bool
    trend: list[float | None]
    alone: Estimate | None
    gain: Estimate | None


@dataclass(frozen=True)
class Hospitals:
    """Hospitals, worst first by a score, too small ones last; in `alone_run` each hospital trained alone."""

    run: int
    patients: Patients
    score: str
    rounds: list[int]
    alone_run: int | None
    rows: list[Hospital]


def hospitals(reader: Reader, table: GroupTable, score: str) -> Hospitals:
    """Return every hospital that takes part, those with patients worst first."""
    rows = {row.number: row for row in site_scores(reader, table)}
    with Session(reader.engine) as session:
        run = reader.run(session, table.run)
        published = reader.published(session, run)
        there = (Site.run_id == run.id, Site.refused.is_(None), Site.name != TOGETHER)
        sites = session.scalars(select(Site).where(*there)).all()
        rounds = session.scalars(select(Round.round).where(Round.run_id == run.id).order_by(Round.round)).all()
        measured = {
            (row.site, row.round): row.scores.get(score)
            for row in session.scalars(select(SiteRound).where(SiteRound.run_id == run.id))
            if published.validation(row.round).score(row.site, ALL)
        }
        train_n = {site.number: site.train_n if published.trained_at(site.number) else None for site in sites}
        names = {site.number: site.name for site in sites}
        spent = {site.number: _spent(site) for site in sites}
        absent = reader.cells(session, run.id, table.patients).absent(names)
        other = _alone(session, run)
        other_id = None if other is None else other.id
    alone = _scores_of(reader, other_id, table.patients)
    found = [
        _hospital(
            rows.get(number, SiteScores(number, name, PatientScores(n=None if number in absent else 0), False)),
            spent[number],
            train_n[number],
            [measured.get((number, round_)) for round_ in rounds],
            alone.get(name),
            score,
        )
        for number, name in names.items()
    ]
    found.sort(key=lambda row: _worst_first(row, score))
    return Hospitals(table.run, table.patients, score, list(rounds), other_id, found)


def _hospital(
    own: SiteScores,
    privacy: Spent | None,
    train_n: int | None,
    trend: list[float | None],
    alone: PatientScores | None,
    score: str,
) -> Hospital:
    now = getattr(own.scores, score)
    before = getattr(alone, score) if alone is not None and alone.n == own.scores.n else None
    return Hospital(
        number=own.number,
        name=own.name,
        privacy=privacy,
        train_n=train_n,
        train_suppressed=train_n is None,
        scores=own.scores,
        ranked=own.ranked,
        trend=trend,
        alone=before,
        gain=None if now is None or before is None else _gain(now, before, EVERY[score].lower_is_better),
    )


def _spent(site: Site) -> Spent | None:
    found = site.privacy
    return None if found is None else Spent(**found)  # type: ignore[arg-type]


def _gain(now: Estimate, before: Estimate, lower_is_better: bool) -> Estimate | None:
    """Return the difference with its interval, better as positive; None where an interval is not known."""
    first, second = (now, before) if lower_is_better else (before, now)
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return None
    return Estimate(*difference((first.value, first.low, first.high), (second.value, second.low, second.high)))


def _alone(session: Session, run: Run) -> Run | None:
    """Return the newest finished run in which each hospital trained alone, on the same patients with the same split."""
    if run.config.get("method.rule") == ALONE:
        return None
    ended = (Run.cohort == run.cohort, Run.seed == run.seed, Run.status.in_((FINISHED, INCOMPLETE)), Run.id != run.id)
    for other in session.scalars(select(Run).where(*ended).order_by(Run.id.desc())):
        alike = other.config.get("method.rule") == ALONE and _division(other) == _division(run)
        if alike and _names(session, other) == _names(session, run):
            return other
    return None


def _names(session: Session, run: Run) -> frozenset[str]:
    return frozenset(session.scalars(select(Site.name).where(Site.run_id == run.id, Site.refused.is_(None))))


def _division(run: Run) -> Mapping[str, object]:
    return {key: value for key, value in run.config.items() if key.startswith(_SAME)}


def _scores_of(reader: Reader, run_id: int | None, patients: str) -> dict[str, PatientScores]:
    """Return a run's scores by the name of the hospital; none where it has no such patients."""
    if run_id is None:
        return {}
    table = group_table(reader, run_id, "name", "test" if patients == "test" else "validation")
    return {row.name: row.scores for row in site_scores(reader, table)}


def _worst_first(row: Hospital, score: str) -> tuple[bool, bool, float, str]:
    found = getattr(row.scores, score)
    sign = -1 if EVERY[score].lower_is_better else 1
    return not row.ranked, found is None, sign * found.value if found is not None else 0.0, row.name
