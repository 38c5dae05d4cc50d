"""The health of a run, its sites, settings and overall scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.secagg.limits import TOGETHER
from remind_server.dashboard.answers import Patients, PatientScores
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.run_state import RunState, answers_taken, is_stalled, run_state
from remind_server.store.schema import ALL, RUNNING, WAITING, Group, Round, RoundSite, Run, Site

Answer = Literal["counts", "does not count", "awaited", "in line"]


@dataclass(frozen=True)
class SiteState:
    """A site and its result in the last finished round (`answered` is null before the first).

    Attributes
    ----------
    answer
        State in the current round of a site that has a task: `counts`, `does not count` (with `problem`), `awaited`,
        or `in line`. Answers are counted in the order of names; `in line` means that an earlier answer is awaited, and
        does not say whether this one has arrived. Null for other sites.
    """

    number: int
    name: str
    train_n: int | None
    train_suppressed: bool
    asked: bool
    answered: bool | None
    absent: str | None
    refused: str | None
    answer: Answer | None = None
    problem: str | None = None


@dataclass(frozen=True)
class RunReport:
    """A run's health and overall scores.

    `parts` names the parts of what is predicted that have scores of their own, such as the regions of a mask:
    `dice_1` is of the first. `left_seconds` extrapolates the last three rounds.
    """

    run: RunState
    patients: Patients
    classes: list[str]
    outcome: str
    unit: str
    parts: list[str]
    modalities: list[str]
    sites: list[SiteState]
    overall: PatientScores
    groups: int
    tail_groups: int
    last_seconds: float | None
    mean_seconds: float | None
    left_seconds: float | None
    bytes_down: int
    bytes_up: int
    settings: dict[str, str | int | float | bool]

    @property
    def answered(self) -> list[SiteState]:
        """Return the sites that counted in the last round."""
        return [site for site in self.sites if site.answered]

    @property
    def missing(self) -> list[SiteState]:
        """Return the sites that did not count in the last round."""
        return [site for site in self.sites if site.answered is False]

    @property
    def asked(self) -> list[SiteState]:
        """Return the sites that have a task in the current round."""
        return [site for site in self.sites if site.answer]

    @property
    def awaited(self) -> list[SiteState]:
        """Return the sites of the current round whose answers the coordinator waits for."""
        return [site for site in self.sites if site.answer == "awaited"]

    @property
    def in_line(self) -> list[SiteState]:
        """Return the sites whose answers, arrived or not, are counted after the awaited ones."""
        return [site for site in self.sites if site.answer == "in line"]

    @property
    def not_counting(self) -> list[SiteState]:
        """Return the sites of the current round whose answers do not count."""
        return [site for site in self.sites if site.answer == "does not count"]

    @property
    def refused(self) -> list[SiteState]:
        """Return the sites that do not take part in the run."""
        return [site for site in self.sites if site.refused]


def run_report(reader: Reader, run_id: int, patients: Patients | None = None) -> RunReport:
    """Return health and overall scores."""
    with Session(reader.engine) as session:
        run = reader.run(session, run_id)
        rounds = session.scalars(select(Round).where(Round.run_id == run_id).order_by(Round.round)).all()
        groups = session.scalars(select(Group).where(Group.run_id == run_id)).all()
        cells = reader.cells(session, run_id, patients)
        recent = [round_.seconds for round_ in rounds[-3:]]
        mean = sum(recent) / len(recent) if recent else None
        state = run_state(run, answers_taken(session, run_id).get(run_id, 0))
        under_way = state.status in (WAITING, RUNNING, "stalled")
        return RunReport(
            run=state,
            patients=cells.patients,
            classes=run.classes,
            outcome=run.outcome,
            unit=str((run.target or {}).get("unit", "")),
            parts=reader.parts(run_id) or [],
            modalities=run.modalities,
            sites=_sites(reader, session, run),
            overall=cells.merged()[ALL],
            groups=len(groups),
            tail_groups=sum(group.tail for group in groups),
            last_seconds=recent[-1] if recent else None,
            mean_seconds=mean,
            left_seconds=mean * (run.rounds - run.round) if under_way and mean is not None else None,
            bytes_down=sum(round_.bytes_down for round_ in rounds),
            bytes_up=sum(round_.bytes_up for round_ in rounds),
            settings=run.config,  # type: ignore[arg-type]
        )


def _sites(reader: Reader, session: Session, run: Run) -> list[SiteState]:
    absent, taken = _absent(session, run, run.round), _absent(session, run, run.round + 1)
    whose = (Site.run_id == run.id, Site.name != TOGETHER)
    sites = sorted(session.scalars(select(Site).where(*whose)), key=lambda site: site.name)
    answer = _answer_of(run, sites, taken)
    shown = reader.published(session, run)
    return [
        SiteState(
            number=site.number,
            name=site.name,
            train_n=site.train_n if shown.trained_at(site.number) else None,
            train_suppressed=not shown.trained_at(site.number),
            asked=site.asked,
            answered=absent[site.number] is None if site.number in absent else None,
            absent=absent.get(site.number),
            refused=site.refused,
            answer=answer.get(site.number),
            problem=taken.get(site.number) if site.number in answer else None,
        )
        for site in sites
    ]


def _absent(session: Session, run: Run, round_: int) -> dict[int, str | None]:
    """Return site → why it does not count (None: it counts), for sites whose answers are no longer awaited."""
    where = (RoundSite.run_id == run.id, RoundSite.round == round_)
    return {row.site: row.absent for row in session.scalars(select(RoundSite).where(*where))}


def _answer_of(run: Run, sites: Sequence[Site], taken: Mapping[int, str | None]) -> dict[int, Answer]:
    """Return the state of each site with a task in the current round; `sites` by name."""
    if run.status != RUNNING or run.round_began is None or is_stalled(run):
        return {}
    in_order = run.config.get("federation.quorum", 1.0) == 1.0  # counted in the order of names (`exchange`)
    found: dict[int, Answer] = {}
    for site in sites:
        if site.number in taken:
            found[site.number] = "counts" if taken[site.number] is None else "does not count"
        elif site.asked:
            found[site.number] = "in line" if in_order and "awaited" in found.values() else "awaited"
    return found
