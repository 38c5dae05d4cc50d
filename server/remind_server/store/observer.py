"""The observer that writes a run into the store as it happens."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from torch import Tensor

from remind import groups
from remind.alerts.sending import Outcome
from remind.config import Config
from remind.metrics.statistics import GroupStatistics
from remind.version import VERSION
from remind_server.outputs.attendance import Attendance
from remind_server.outputs.calibration_tables import model_content
from remind_server.outputs.records import Observer, RoundRecord, RoundStart, RunResult, RunStart
from remind_server.store.open import writing
from remind_server.store.rows import cell_rows, expert_rows, merged_rows, round_group_rows, site_round_rows
from remind_server.store.schema import (
    FAILED,
    FINISHED,
    INCOMPLETE,
    LOST,
    RUNNING,
    TEST,
    VALIDATION,
    WAITING,
    AlertSent,
    Cell,
    ExpertUse,
    Group,
    MergedStatistics,
    Round,
    RoundGroup,
    RoundSite,
    Run,
    Site,
    SiteCounts,
    SiteRound,
    lost,
)

log = logging.getLogger(__name__)
BEAT = 5.0  # seconds between two heartbeats
HEARTBEAT = "run store heartbeat"  # the heartbeat thread

Write = Callable[[Session], None]


class StoreObserver(Observer):
    """Writes each event in one transaction; an unreachable database delays writing but never ends a run.

    A thread writes a heartbeat every few seconds, so that the dashboard notices when the coordinator is gone.
    """

    def __init__(self, engine: Engine, folder: Path, beat: float = BEAT) -> None:
        self.engine, self.folder, self.beat = writing(engine), folder, beat
        self.run_id = 0
        self._names: tuple[str, ...] = ()
        self._site: dict[str, int] = {}
        self._group: dict[int, int] = {}
        self._counted: dict[tuple[str, str], dict[str, list[int]]] = {}  # as last written
        self._withheld: Mapping[str, Collection[int]] = {}  # of validation patients, in the last round
        self._round = 0  # under way, or the last one
        self._waiting: list[Write] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._beating: threading.Thread | None = None
        self._attendance = Attendance()

    def begun(self, config: Config) -> None:
        """Insert the run, and start the heartbeat."""
        run = self._row(config)

        def enter(session: Session) -> None:
            _end_lost_runs(session)
            session.add(run)
            session.flush()
            self.run_id = run.id

        self._write(enter)
        self._start_heartbeat()

    def remember(self) -> dict[str, Any]:
        """Return the numbers of this run, its sites and its groups."""
        return {
            "run": self.run_id,
            "sites": self._site,
            "groups": {str(mask): number for mask, number in self._group.items()},
            "attendance": self._attendance.remember(),
        }

    def resumed(self, start: RunStart, round_: int, memory: Mapping[str, Any]) -> None:
        """Go on with the run's row, without what is there of later rounds; a store that lacks it gets it anew."""

        def known(session: Session) -> bool:
            run = session.get(Run, memory.get("run", 0))
            return run is not None and run.folder == str(self.folder)

        try:
            with Session(self.engine) as session:
                found = bool(memory) and known(session)
        except SQLAlchemyError:
            found = False
        if not found:
            super().resumed(start, round_, memory)
            self._attendance.resumed(start, round_, memory.get("attendance", {}))
            return
        self._attendance.resumed(start, round_, memory["attendance"])
        self._names, self.run_id, self._round = start.schema.names, memory["run"], round_
        self._site = dict(memory["sites"])
        self._group = {int(mask): number for mask, number in memory["groups"].items()}

        def write(session: Session) -> None:
            _end_lost_runs(session)
            for table in (Round, RoundSite, RoundGroup, SiteCounts):
                session.execute(delete(table).where(table.run_id == self.run_id, table.round > round_))
            alive = {"status": RUNNING, "reason": "", "ended": None, "round_began": None, "round_closes": None}
            self._change(session, round=round_, **alive)

        self._write(write)
        self._start_heartbeat()

    def _row(self, config: Config) -> Run:
        return Run(
            name=self.folder.name,
            folder=str(self.folder),
            cohort=Path(config.data.cohort).name,
            seed=config.seed,
            version=VERSION,
            config=config.flat(),
            classes=[],
            modalities=[],
            status=WAITING,
            reason="",
            began=time.time(),
            heard=time.time(),
            change=0,
            rounds=config.train.rounds,
            round=0,
            stage=1 if config.train.warmup_rounds else 2,
        )

    def _start_heartbeat(self) -> None:
        self._beating = threading.Thread(target=self._keep_beating, name=HEARTBEAT, daemon=True)
        self._beating.start()

    def started(self, start: RunStart) -> None:
        """Write the members with their patients, and the refused sites."""
        self._attendance.started(start)
        self._names = start.schema.names

        def write(session: Session) -> None:
            self._enter_sites(session, start.sites, start.refused)
            self._enter_groups(session, start.counts)
            self._change(
                session,
                status=RUNNING,
                cohort=start.schema.name,
                classes=list(start.schema.classes),
                modalities=list(start.schema.names),
            )

        self._write(write)

    def round_started(self, start: RoundStart) -> None:
        """Write the deadline of the round and the sites with a task."""
        now = time.time()
        self._round = start.round
        self._attendance.round_started(start)

        def write(session: Session) -> None:
            self._enter_sites(session, start.sites, start.refused)
            asked = {self._site[name] for name in start.asked}
            for site in session.scalars(select(Site).where(Site.run_id == self.run_id)):
                site.asked = site.number in asked
            self._change(session, stage=start.stage, round_began=now, round_closes=now + start.deadline)

        self._write(write)

    def answer_taken(self, site: str, problem: str | None) -> None:
        """Write that a site has answered in the current round; skipped while earlier events wait to be written."""
        if self._waiting:  # each attempt may last until the database times out, and the round waits for it
            return
        round_ = self._round

        def write(session: Session) -> None:
            self._enter_sites(session, {site: {}}, {})
            session.merge(RoundSite(run_id=self.run_id, round=round_, site=self._site[site], absent=problem))

        self._write(write)

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Write the round: time, bytes, who answered, and every group's λ, risk and validation scores."""
        self._attendance.round_done(record, tensors)
        self._withheld = record.withheld
        now = time.time()

        def write(session: Session) -> None:
            self._enter_sites(session, {name: {} for name in (*record.answered, *record.absent)}, {})
            self._enter_groups(session, dict.fromkeys(record.validation, 0) | dict(record.counts))
            round_ = Round(
                run_id=self.run_id, round=record.round, stage=record.stage, seconds=record.seconds, ended=now
            )
            round_.bytes_down, round_.bytes_up = record.bytes_down, record.bytes_up
            session.add(round_)
            for name, told in record.privacy.items():
                number = Site.run_id == self.run_id, Site.number == self._site[name]
                session.execute(update(Site).where(*number).values(privacy=told.model_dump()))
            for name in (*record.answered, *record.absent):
                absent = record.absent.get(name)
                session.merge(RoundSite(run_id=self.run_id, round=record.round, site=self._site[name], absent=absent))
            session.execute(insert(RoundGroup), round_group_rows(self.run_id, record, self._group))
            if of_sites := site_round_rows(self.run_id, record.round, record.validation_by_site, self._site):
                session.execute(insert(SiteRound), of_sites)
            self._replace_cells(session, VALIDATION, record.validation_by_site, record.withheld)
            self._enter_counts(session, VALIDATION, record.round, record.validation_by_site)
            alive = {"status": RUNNING, "reason": "", "ended": None}  # another process may have marked it as lost
            self._change(session, round=record.round, stage=record.stage, round_began=None, round_closes=None, **alive)

        self._write(write)

    def finished(self, result: RunResult) -> None:
        """Write the final model's scores per site and group, and whether a hospital that was expected is missing."""
        now = time.time()
        self._attendance.finished(result)
        gaps = self._attendance.gaps
        reason, status = "; ".join(gaps), INCOMPLETE if gaps else FINISHED

        def write(session: Session) -> None:
            validation = (VALIDATION, result.validation, self._withheld)
            for patients, by_site, withheld in (validation, (TEST, result.test, result.withheld)):
                self._enter_sites(session, {name: {} for name in by_site}, {})  # sums of all have a name of their own
                self._enter_groups(session, {k: 0 for found in by_site.values() for k in found})
                here = {name: found for name, found in withheld.items() if name in by_site}
                self._replace_cells(session, patients, by_site, here)
                self._enter_counts(session, patients, self._round + 1, by_site)
            model = model_content(result)
            self._change(
                session, status=status, reason=reason, ended=now, round_began=None, round_closes=None, model=model
            )

        self._write(write)
        self._end()

    def failed(self, reason: str) -> None:
        """Write that the run failed and why."""
        now = time.time()
        self._write(lambda session: self._change(session, status=FAILED, reason=reason, ended=now))
        self._end()

    def alerted(self, outcome: Outcome) -> None:
        """Write what became of an alert; called by the sender's threads, also after the end of the run."""
        one = outcome.alert
        row = AlertSent(
            at=one.at,
            ended=time.time(),
            kind=one.kind,
            subject=one.subject,
            target=outcome.target,
            attempts=outcome.attempts,
            problem=outcome.problem,
        )

        def write(session: Session) -> None:
            earlier = session.scalar(select(func.max(AlertSent.number)).where(AlertSent.run_id == self.run_id))
            row.run_id, row.number = self.run_id, (earlier or 0) + 1
            session.add(row)
            self._change(session)

        self._write(write)
        if self._over.is_set():
            self.engine.dispose()

    def stop_heartbeat(self) -> None:
        """Stop the heartbeat: none is written after this returns, unless the database hangs."""
        self._over.set()
        if self._beating is not None:
            self._beating.join(BEAT)

    def _end(self) -> None:
        self.stop_heartbeat()
        if self._waiting:
            log.error("the run store lacks the end of this run; its results folder is complete")
        self.engine.dispose()

    def _write(self, write: Write) -> None:
        """Write all pending events in order, each in its own transaction."""
        with self._lock:
            self._waiting.append(write)
            try:
                while self._waiting:
                    with Session(self.engine) as session, session.begin():
                        self._waiting[0](session)
                    self._waiting.pop(0)
            except SQLAlchemyError as error:
                log.warning("run store cannot be written, trying again later: %s", str(error).splitlines()[0])

    def _keep_beating(self) -> None:
        while not self._over.wait(self.beat):
            try:
                with self.engine.begin() as connection:
                    connection.execute(update(Run).where(Run.id == self.run_id).values(heard=time.time()))
            except SQLAlchemyError as error:
                log.debug("the heartbeat could not be written: %s", error)

    def _change(self, session: Session, **values: Any) -> None:
        session.execute(
            update(Run).where(Run.id == self.run_id).values(change=Run.change + 1, heard=time.time(), **values)
        )

    def _enter_sites(
        self, session: Session, sites: Mapping[str, Mapping[int, int]], refused: Mapping[str, str]
    ) -> None:
        """Add sites not seen before; note who is refused now."""
        for name in (*sites, *refused):
            known = name in self._site
            number = self._site.setdefault(name, len(self._site) + 1)
            train_n = sum(sites.get(name, {}).values())
            site = session.get(Site, (self.run_id, number)) if known else None
            if site is None:
                site = Site(run_id=self.run_id, number=number, name=name, train_n=0, asked=False)
                session.add(site)
            site.train_n = train_n or site.train_n
            if sites.get(name) or name in refused:
                site.refused = None if name in sites else refused[name]

    def _enter_groups(self, session: Session, counts: Mapping[int, int]) -> None:
        """Add groups not seen before; bring counts and the tail up to date."""
        for mask in counts:
            self._group.setdefault(mask, len(self._group) + 1)
        tail = groups.tail(counts)  # a group first seen without a count has no training patients: it is tail
        known = {group.mask: group for group in session.scalars(select(Group).where(Group.run_id == self.run_id))}
        for mask, count in counts.items():
            if mask not in known:
                row = Group(run_id=self.run_id, number=self._group[mask], mask=mask, name=self._name(mask))
                row.train_n, row.tail = count, mask in tail
                session.add(row)
            elif count:
                known[mask].train_n, known[mask].tail = count, mask in tail

    def _enter_counts(
        self, session: Session, patients: str, round_: int, by_site: Mapping[str, Mapping[int, GroupStatistics]]
    ) -> None:
        """Write which sites' patients were evaluated, and their counts by class if these are new."""
        for name, found in by_site.items():
            counts = {str(self._group[mask]): one.confusion_CC.sum(axis=1).tolist() for mask, one in found.items()}
            row = SiteCounts(run_id=self.run_id, patients=patients, round=round_, site=self._site[name])
            row.counts = None if self._counted.get((patients, name)) == counts else counts
            self._counted[patients, name] = counts
            session.merge(row)

    def _name(self, mask: int) -> str:
        return groups.name(mask, self._names)

    def _replace_cells(
        self,
        session: Session,
        patients: str,
        by_site: Mapping[str, Mapping[int, Any]],
        withheld: Mapping[str, Collection[int]],
    ) -> None:
        session.execute(delete(Cell).where(Cell.run_id == self.run_id, Cell.patients == patients))
        rows: Iterable[dict[str, Any]] = cell_rows(self.run_id, patients, by_site, self._site, self._group, withheld)
        session.execute(insert(Cell), list(rows))
        session.execute(
            delete(MergedStatistics).where(
                MergedStatistics.run_id == self.run_id, MergedStatistics.patients == patients
            )
        )
        if merged := merged_rows(self.run_id, patients, by_site, self._group):
            session.execute(insert(MergedStatistics), merged)
        session.execute(delete(ExpertUse).where(ExpertUse.run_id == self.run_id, ExpertUse.patients == patients))
        if experts := expert_rows(self.run_id, patients, by_site, self._group):
            session.execute(insert(ExpertUse), experts)


def _end_lost_runs(session: Session) -> None:
    """Mark runs whose process is gone as ended; they cannot do so themselves."""
    silent = (Run.status.in_((WAITING, RUNNING)), Run.heard < time.time() - LOST)
    for run in session.scalars(select(Run).where(*silent)):
        for name, value in lost(run.heard).items():
            setattr(run, name, value)
        run.change += 1
