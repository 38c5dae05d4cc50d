"""What happened in a run: who joined, was missing, came back or was refused; stages, the best round, the end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from remind_server.dashboard.reader import Reader
from remind_server.store.schema import AlertSent, Round, RoundSite, Run, Site

SIGNS = {"joined": "▲", "missing": "▼", "back": "△", "refused": "✖", "stage": "│", "best": "★", "ended": "■"}
MOST_SENT = 200  # alerts, the newest
LEFT, LINE = 70, 18  # units of the picture
NARROW, WIDE, STEP = 320, 900, 46  # its width at least and at most, and of a round where there is room


@dataclass(frozen=True)
class Event:
    """Something that happened in a round; 0: before the rounds."""

    round: int
    kind: Literal["joined", "missing", "back", "refused", "stage", "best", "ended"]
    site: str | None
    text: str
    alert: bool


@dataclass(frozen=True)
class Notification:
    """An alert for a target outside the page. `problem` says why it was not sent; empty if it was."""

    at: float
    kind: str
    subject: str
    target: str
    attempts: int
    problem: str


@dataclass(frozen=True)
class Timeline:
    """The events of a run, by round, and the alerts that were sent or failed, the newest first."""

    run: int
    rounds: int
    events: list[Event]
    sent: list[Notification]

    @property
    def alerts(self) -> list[Event]:
        """Return the events that somebody should check."""
        return [event for event in self.events if event.alert]


def timeline(reader: Reader, run_id: int) -> Timeline:
    """Return the events of a run by round; `alert` marks those that somebody should check."""
    with Session(reader.engine) as session:
        run = reader.run(session, run_id)
        sites = {site.number: site for site in session.scalars(select(Site).where(Site.run_id == run_id))}
        rows = session.scalars(select(RoundSite).where(RoundSite.run_id == run_id, RoundSite.round <= run.round)).all()
        stages = {r.round: r.stage for r in session.scalars(select(Round).where(Round.run_id == run_id))}
        found = [*_of_sites(sites, rows), *_of_stages(stages), *_of_run(run)]
        rounds = run.rounds
        alerts = session.scalars(select(AlertSent).where(AlertSent.run_id == run_id).order_by(AlertSent.number.desc()))
        names = Notification.__dataclass_fields__
        sent = [Notification(**{name: getattr(row, name) for name in names}) for row in alerts.fetchmany(MOST_SENT)]
    order = list(SIGNS)
    return Timeline(run_id, rounds, sorted(found, key=lambda e: (e.round, order.index(e.kind), e.site or "")), sent)


def _of_sites(sites: Mapping[int, Site], rows: Iterable[RoundSite]) -> Iterable[Event]:
    answers: dict[int, dict[int, str | None]] = {}
    for row in rows:
        answers.setdefault(row.site, {})[row.round] = row.absent
    for number, site in sites.items():
        counted, there = False, False
        for round_, absent in sorted(answers.get(number, {}).items()):
            if absent is None and not there:
                yield Event(round_, "back" if counted else "joined", site.name, "", False)
            elif absent is not None and (there or not counted):
                said = f"did not count: {absent}"
                if there or not any(r < round_ for r in answers[number]):
                    yield Event(round_, "missing", site.name, said, True)
            counted, there = counted or absent is None, absent is None
        if site.refused:
            yield Event(0, "refused", site.name, site.refused, True)


def _of_stages(stages: Mapping[int, int]) -> Iterable[Event]:
    routing = min((round_ for round_, stage in stages.items() if stage == 2), default=None)
    if routing is not None and routing > 1:
        yield Event(routing, "stage", None, "the groups' own routing begins", False)


def _of_run(run: Run) -> Iterable[Event]:
    model = run.model or {}
    selected = model.get("selected")
    if isinstance(selected, dict):
        value = f"{selected['score']}, {selected['by']}: {float(selected['value']):.3f} on validation patients"
        yield Event(
            int(str(model["round"])), "best", None, f"the run's model is that after this round ({value})", False
        )
    if run.ended is not None:
        yield Event(run.round, "ended", None, run.status + (f": {run.reason}" if run.reason else ""), bool(run.reason))


def picture(found: Timeline) -> Markup:
    """Return a picture of the events over the rounds: a line of signs for each kind. The list below says the same."""
    kinds = [kind for kind in SIGNS if any(event.kind == kind for event in found.events)]
    width = min(WIDE, max(NARROW, LEFT + 20 + STEP * found.rounds))
    step = (width - LEFT - 20) / max(1, found.rounds)
    drawn = []
    for line, kind in enumerate(kinds):
        y = LINE * (line + 1)
        drawn.append(Markup('<text x="0" y="{}">{}</text>').format(y, kind))
        for round_ in sorted({event.round for event in found.events if event.kind == kind}):
            own = [event for event in found.events if (event.kind, event.round) == (kind, round_)]
            said = f"round {round_}: " + ", ".join(event.site or event.text for event in own)
            mark = Markup('<text class="{}" x="{:.0f}" y="{}" text-anchor="middle"><title>{}</title>{}{}</text>')
            number = len(own) if len(own) > 1 else ""
            drawn.append(mark.format(kind, LEFT + step * round_, y, said, SIGNS[kind], number))
    y = LINE * (len(kinds) + 1)
    every = next(every for every in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**6) if found.rounds / every <= 20)
    for round_ in range(0, found.rounds + 1, every):
        axis = Markup('<text class="axis" x="{:.0f}" y="{}" text-anchor="middle">{}</text>')
        drawn.append(axis.format(LEFT + step * round_, y, round_))
    head = '<svg class="timeline" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">{3}</svg>'
    return Markup(head).format(width, y + 6, "What happened in which round", Markup("").join(drawn))
