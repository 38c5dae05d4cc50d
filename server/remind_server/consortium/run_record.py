"""The record of a run: progress, expected hospitals and what each did, scores, path of the results.

The SuperLink knows only whether a run's program ended; this record knows whether hospitals took part. The run's
ServerApp writes it (`RecordKeeper`), one file per run; ``run --wait``, ``runs`` and ``list`` read it.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from remind.config import Config
from remind_server.consortium.flower import CONSORTIUM
from remind_server.consortium.folder import Folder, write_file
from remind_server.consortium.ledger import read_ledger
from remind_server.consortium.pulse import Pulse
from remind_server.outputs.attendance import Attendance
from remind_server.outputs.records import Observer, RoundRecord, RoundStart, RunResult, RunStart
from remind_server.outputs.tables import summary

How = Literal["answered", "late", "absent", "refused"]


class SiteRecord(BaseModel):
    """A hospital's last action in a run; `round` 0 is enrolment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: How
    why: str = ""
    round: int = 0
    at: float


class RunRecord(BaseModel):
    """The state of a run, as its ServerApp records it.

    Attributes
    ----------
    run, id
        Flower's number, and the identity that a resumed run shares with the one before it; empty: the same.
    status
        ``incomplete``: it ended, but a hospital never took part or was never drawn, or a group was never trained.
    scores
        Mean AUROC and accuracy over sites on test patients; empty before the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    id: str = ""
    results: str
    status: Literal["waiting", "running", "completed", "incomplete", "failed"] = "waiting"
    reason: str = ""
    round: int = 0
    rounds: int = 0
    began: float
    heard: float
    expected: tuple[str, ...] = ()
    sites: dict[str, SiteRecord] = {}
    scores: dict[str, float | None] = {}

    @property
    def without(self) -> str:
        """Return which hospitals never took part and why, as text; empty if none."""
        return "; ".join(f"{n}: {s.why}" for n, s in sorted(self.sites.items()) if s.how != "answered")


class RecordKeeper(Observer):
    """Observer that keeps the record of a run."""

    def __init__(self, path: Path, run: int, results: Path, name: str = "") -> None:
        now = time.time()
        self.path, self._attendance, self._pulse = path, Attendance(), Pulse(path)
        self.record = RunRecord(run=str(run), id=name, results=str(results), began=now, heard=now)

    def begun(self, config: Config) -> None:
        """Enter the run, and show from now on that its process lives."""
        self._change(rounds=config.train.rounds)
        self._pulse.start()

    def started(self, start: RunStart) -> None:
        """Record the expected hospitals, and those that do not take part."""
        self._attendance.started(start)
        self._change(status="running", expected=start.expected, sites=self._sites({}, start.refused, (), 0))

    def remember(self) -> dict[str, Any]:
        """Return the record, and who took part."""
        return {"record": self.record.model_dump(mode="json"), "attendance": self._attendance.remember()}

    def resumed(self, start: RunStart, round_: int, memory: Mapping[str, Any]) -> None:
        """Continue with the record of the Flower run before; it is the same run."""
        if not memory:
            super().resumed(start, round_, memory)
            return
        self._attendance.resumed(start, round_, memory["attendance"])
        before = RunRecord.model_validate_json(json.dumps(memory["record"]))
        found = {"began": before.began, "rounds": before.rounds, "round": round_, "expected": before.expected}
        self._change(**found, sites=before.sites, status="running")
        self._pulse.start()

    def round_started(self, start: RoundStart) -> None:
        """Record newly refused hospitals."""
        self._attendance.round_started(start)

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Record what each hospital did in the round."""
        self._attendance.round_done(record, tensors)
        sites = self._sites(record.absent, record.refused, record.answered, record.round, record.late)
        self._change(round=record.round, expected=record.expected, sites=sites)

    def finished(self, result: RunResult) -> None:
        """Record the scores, and whether all expected hospitals took part."""
        self._pulse.stop()
        self._attendance.finished(result)
        means = summary(result)["mean_over_sites"]
        scores = {name: means[name] for name in ("auroc", "accuracy")}
        content = self._attendance.content()
        self._change(status=content["status"], reason="; ".join(self._attendance.gaps), scores=scores)

    def failed(self, reason: str) -> None:
        """Record why the run failed."""
        self._pulse.stop()
        self._change(status="failed", reason=reason)

    def _sites(
        self,
        absent: Mapping[str, str],
        refused: Mapping[str, str],
        answered: tuple[str, ...],
        round_: int,
        late: tuple[str, ...] = (),
    ) -> dict[str, SiteRecord]:
        now, found = time.time(), dict(self.record.sites)
        for name, why in refused.items():
            before = found.get(name)
            if before is None or (before.how, before.why) != ("refused", why):
                found[name] = SiteRecord(how="refused", why=why, round=round_, at=now)
        for name, why in absent.items():
            found[name] = SiteRecord(how="late" if name in late else "absent", why=why, round=round_, at=now)
        for name in answered:
            found[name] = SiteRecord(how="answered", round=round_, at=now)
        return found

    def _change(self, **values: Any) -> None:
        self.record = self.record.model_copy(update={**values, "heard": time.time()})
        write_file(self.path, (self.record.model_dump_json(indent=1) + "\n").encode())


def of_this_run(run: int, results: Path, name: str = "") -> tuple[list[Observer], list[str]]:
    """Return the record keeper and the enrolled names, for a ServerApp started by a consortium; else None."""
    if not (root := os.environ.get(CONSORTIUM)):
        return [], []
    folder = Folder(Path(root))
    enrolled = [site.name for site in read_ledger(folder.ledger).active()]
    return [RecordKeeper(record_path(folder, run), run, results, name)], enrolled


def record_path(folder: Folder, run: int | str) -> Path:
    """Return the path of a run's record."""
    return folder.runs / f"{run}.json"


def read_record(folder: Folder, run: int | str) -> RunRecord | None:
    """Return the record of a run; None if it has none, such as a run of another app."""
    try:
        return RunRecord.model_validate(json.loads(record_path(folder, run).read_text("utf-8")))
    except (OSError, ValueError, ValidationError):
        return None


def records_of(folder: Folder, name: str) -> list[RunRecord]:
    """Return the records of all Flower runs with this identity."""
    found = (read_record(folder, path.stem) for path in folder.runs.glob("*.json"))
    return [record for record in found if record is not None and (record.id or record.run) == name]


def last_of_sites(folder: Folder) -> dict[str, tuple[str, SiteRecord]]:
    """Return site → the last run that sent it a task, and what the site did."""
    found: dict[str, tuple[str, SiteRecord]] = {}
    for path in folder.runs.glob("*.json"):
        record = read_record(folder, path.stem)
        for name, site in record.sites.items() if record else ():
            if name not in found or found[name][1].at < site.at:
                found[name] = path.stem, site
    return found
