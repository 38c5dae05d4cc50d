"""The observer that writes a run into the store as it happens."""

import logging
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from torch import Tensor

from remind.alerts.sending import Outcome
from remind.config import Config
from remind.version import VERSION
from remind_server.outputs.attendance import Attendance
from remind_server.outputs.calibration_tables import model_content
from remind_server.outputs.records import Observer, RoundRecord, RoundStart, RunResult, RunStart
from remind_server.outputs.tables import label_rows
from remind_server.store.heartbeat import BEAT, Heartbeat
from remind_server.store.open import writing
from remind_server.store.rows import round_group_rows, site_round_rows
from remind_server.store.run_rows import RunRows, end_lost_runs
from remind_server.store.schema import (
    FAILED,
    FINISHED,
    INCOMPLETE,
    RUNNING,
    TEST,
    VALIDATION,
    WAITING,
    AlertSent,
    Round,
    RoundGroup,
    RoundSite,
    Run,
    Site,
    SiteRound,
    tables_by_round,
)
from remind_server.store.target import target_content
from remind_server.store.write_queue import WriteQueue

log = logging.getLogger(__name__)


class StoreObserver(Observer):
    """Writes each event in one transaction; an unreachable database delays writing but never ends a run.

    A thread writes a heartbeat every few seconds, so that the dashboard notices when the coordinator is gone.
    """

    def __init__(self, engine: Engine, folder: Path, beat: float = BEAT) -> None:
        self.engine, self.folder = writing(engine), folder
        self.rows = RunRows()
        self.heartbeat = Heartbeat(self.engine, lambda: self.rows.run_id, beat)
        self._queue = WriteQueue(self.engine)
        self._withheld: Mapping[str, Collection[int]] = {}  # of validation patients, in the last round
        self._round = 0  # the current round, or the last one
        self._attendance = Attendance()

    @property
    def run_id(self) -> int:
        """Number of the run in the store; 0 before it has one."""
        return self.rows.run_id

    def begun(self, config: Config) -> None:
        """Insert the run, and start the heartbeat."""
        run = self._row(config)

        def enter(session: Session) -> None:
            end_lost_runs(session)
            session.add(run)
            session.flush()
            self.rows.run_id = run.id

        self._queue.write(enter)
        self.heartbeat.start()

    def remember(self) -> dict[str, Any]:
        """Return the numbers of this run, its sites and its groups."""
        return {**self.rows.remember(), "attendance": self._attendance.remember()}

    def resumed(self, start: RunStart, round_: int, memory: Mapping[str, Any]) -> None:
        """Continue the run's row and remove later rounds; create the row if the store does not have it."""

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
        self.rows.restore(memory)
        self.rows.modalities, self._round = start.schema.names, round_

        def write(session: Session) -> None:
            end_lost_runs(session)
            for table in tables_by_round():
                session.execute(delete(table).where(table.run_id == self.rows.run_id, table.round > round_))
            alive = {"status": RUNNING, "reason": "", "ended": None, "round_began": None, "round_closes": None}
            self.rows.change(session, round=round_, **alive)

        self._queue.write(write)
        self.heartbeat.start()

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

    def started(self, start: RunStart) -> None:
        """Write the members with their patients, and the refused sites."""
        self._attendance.started(start)
        self.rows.modalities = start.schema.names

        def write(session: Session) -> None:
            self.rows.enter_sites(session, start.sites, start.refused)
            self.rows.enter_groups(session, start.counts)
            self.rows.change(
                session,
                status=RUNNING,
                cohort=start.schema.name,
                classes=list(start.schema.classes),
                outcome=start.schema.predicts.kind,
                target=target_content(start.schema.predicts),
                modalities=list(start.schema.names),
            )

        self._queue.write(write)

    def round_started(self, start: RoundStart) -> None:
        """Write the deadline of the round and the sites with a task."""
        now = time.time()
        self._round = start.round
        self._attendance.round_started(start)

        def write(session: Session) -> None:
            self.rows.enter_sites(session, start.sites, start.refused)
            asked = {self.rows.site_number[name] for name in start.asked}
            for site in session.scalars(select(Site).where(Site.run_id == self.rows.run_id)):
                site.asked = site.number in asked
            self.rows.change(session, stage=start.stage, round_began=now, round_closes=now + start.deadline)

        self._queue.write(write)

    def answer_taken(self, site: str, problem: str | None) -> None:
        """Write that a site has answered in the current round; skipped while earlier events wait to be written."""
        if self._queue.pending:  # each attempt may last until the database times out, and the round waits for it
            return
        round_ = self._round

        def write(session: Session) -> None:
            self.rows.enter_sites(session, {site: {}}, {})
            session.merge(RoundSite(run_id=self.run_id, round=round_, site=self.rows.site_number[site], absent=problem))

        self._queue.write(write)

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Write the round: time, bytes, who answered, and every group's λ, risk and validation scores."""
        self._attendance.round_done(record, tensors)
        self._withheld = record.withheld
        now, rows = time.time(), self.rows

        def write(session: Session) -> None:
            rows.enter_sites(session, {name: {} for name in (*record.answered, *record.absent)}, {})
            rows.enter_groups(session, dict.fromkeys(record.validation, 0) | dict(record.counts))
            round_ = Round(
                run_id=rows.run_id, round=record.round, stage=record.stage, seconds=record.seconds, ended=now
            )
            round_.bytes_down, round_.bytes_up = record.bytes_down, record.bytes_up
            round_.effective_sites = record.effective_sites if record.chances else None
            round_.sampling_error = record.sampling_error
            session.add(round_)
            for name, told in record.privacy.items():
                number = Site.run_id == rows.run_id, Site.number == rows.site_number[name]
                session.execute(update(Site).where(*number).values(privacy=told.model_dump()))
            for name in (*record.answered, *record.absent):
                absent = record.absent.get(name)
                session.merge(
                    RoundSite(run_id=rows.run_id, round=record.round, site=rows.site_number[name], absent=absent)
                )
            session.execute(insert(RoundGroup), round_group_rows(rows.run_id, record, rows.group_number))
            if of_sites := site_round_rows(rows.run_id, record.round, record.validation_by_site, rows.site_number):
                session.execute(insert(SiteRound), of_sites)
            rows.replace_cells(session, VALIDATION, record.validation_by_site, record.withheld)
            rows.enter_counts(session, VALIDATION, record.round, record.validation_by_site)
            alive = {"status": RUNNING, "reason": "", "ended": None}  # another process may have marked it as lost
            rows.change(session, round=record.round, stage=record.stage, round_began=None, round_closes=None, **alive)

        self._queue.write(write)

    def finished(self, result: RunResult) -> None:
        """Write the final model's scores per site and group, and whether a hospital that was expected is missing."""
        now = time.time()
        self._attendance.finished(result)
        gaps = self._attendance.gaps
        reason, status = "; ".join(gaps), INCOMPLETE if gaps else FINISHED

        def write(session: Session) -> None:
            validation = (VALIDATION, result.validation, self._withheld)
            for patients, by_site, withheld in (validation, (TEST, result.test, result.withheld)):
                self.rows.enter_sites(
                    session, {name: {} for name in by_site}, {}
                )  # sums of all have a name of their own
                self.rows.enter_groups(session, {k: 0 for found in by_site.values() for k in found})
                here = {name: found for name, found in withheld.items() if name in by_site}
                self.rows.replace_cells(session, patients, by_site, here)
                self.rows.enter_counts(session, patients, self._round + 1, by_site)
            self.rows.change(
                session,
                status=status,
                reason=reason,
                ended=now,
                round_began=None,
                round_closes=None,
                model=model_content(result),
                target=target_content(result.schema.predicts, label_rows(result)),
            )

        self._queue.write(write)
        self._end()

    def failed(self, reason: str) -> None:
        """Write that the run failed and why."""
        now = time.time()
        self._queue.write(lambda session: self.rows.change(session, status=FAILED, reason=reason, ended=now))
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
            earlier = session.scalar(select(func.max(AlertSent.number)).where(AlertSent.run_id == self.rows.run_id))
            row.run_id, row.number = self.rows.run_id, (earlier or 0) + 1
            session.add(row)
            self.rows.change(session)

        self._queue.write(write)
        if self.heartbeat.stopped:
            self.engine.dispose()

    def _end(self) -> None:
        self.heartbeat.stop()
        if self._queue.pending:
            log.error("the run store lacks the end of this run; its results folder is complete")
        self.engine.dispose()
