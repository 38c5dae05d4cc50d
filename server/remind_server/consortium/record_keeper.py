"""Keeps the record of a run (`run_record`): an observer in the ServerApp that a consortium started."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from remind.config import Config
from remind_server.consortium.flower import CONSORTIUM
from remind_server.consortium.folder import Folder, write_file
from remind_server.consortium.ledger import read_ledger
from remind_server.consortium.pulse import Pulse
from remind_server.consortium.run_record import RunRecord, SiteRecord, record_path
from remind_server.outputs.attendance import Attendance
from remind_server.outputs.records import Observer, RoundRecord, RoundStart, RunResult, RunStart
from remind_server.outputs.tables import summary


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
