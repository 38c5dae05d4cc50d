"""The observer that tells people of a run: a site is missing, its privacy budget is nearly spent, the run has ended."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from remind.alerts.message import Alert
from remind.alerts.sending import Sender
from remind.config import Config
from remind_server.outputs.attendance import Attendance
from remind_server.outputs.records import Observer, RoundRecord, RoundStart, RunResult, RunStart

NAMED = 5  # missing sites with their reasons in one alert
NEARLY = 0.1  # share of the budget of a run below which it is nearly spent


class AlertObserver(Observer):
    """Sends each event once: a site is told of when it begins to be missing, and again only after it was back.

    It only queues; the sender's threads do the rest. At the end of the run it waits for them, for a bounded time.
    """

    def __init__(self, sender: Sender, run: str) -> None:
        self.sender, self.run = sender, run
        self._missing: set[str] = set()
        self._spent: set[str] = set()
        self._attendance = Attendance()
        self._ended = False

    def begun(self, config: Config) -> None:
        """Nothing has happened yet."""

    def started(self, start: RunStart) -> None:
        """Note who is expected."""
        self._attendance.started(start)

    def remember(self) -> dict[str, Any]:
        """Return who was missing: a run that continues does not tell it again."""
        return {
            "missing": sorted(self._missing),
            "spent": sorted(self._spent),
            "attendance": self._attendance.remember(),
        }

    def resumed(self, start: RunStart, round_: int, memory: Mapping[str, Any]) -> None:
        """Restore what `remember` returned."""
        self._attendance.resumed(start, round_, memory.get("attendance", {}))
        self._missing, self._spent = set(memory.get("missing", ())), set(memory.get("spent", ()))

    def round_started(self, start: RoundStart) -> None:
        """Note who takes part."""
        self._attendance.round_started(start)

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Tell of the sites that are missing since this round, and of budgets that are nearly spent."""
        self._attendance.round_done(record, tensors)
        self._tell_of_budgets(record)
        new = sorted(record.absent.keys() - self._missing)
        self._missing = set(record.absent)
        if not new:
            return
        what = f"{new[0]} is missing" if len(new) == 1 else f"{len(new)} hospitals are missing"
        lines = [f"{site}: {record.absent[site]}" for site in new[:NAMED]]
        lines += [f"and {len(new) - NAMED} more"] if len(new) > NAMED else []
        lines.append(f"{len(record.answered)} hospitals counted in round {record.round} of {record.rounds}.")
        self._send("site-missing", f"{what} in round {record.round}", lines, round=record.round, sites=new)

    def _tell_of_budgets(self, record: RoundRecord) -> None:
        for site, told in sorted(record.privacy.items()):
            whole = told.epsilon + told.left
            if site in self._spent or told.left > NEARLY * whole:
                continue
            self._spent.add(site)
            lines = [f"ε {told.epsilon:.2f} is spent in this run and {told.left:.2f} left, after round {record.round}."]
            self._send("budget-low", f"privacy budget of {site} nearly spent", lines, round=record.round, sites=[site])

    def finished(self, result: RunResult) -> None:
        """Tell how the run ended."""
        self._attendance.finished(result)
        gaps = self._attendance.gaps
        rounds = "one round" if result.last == 1 else f"{result.last} rounds"
        self._end("incomplete" if gaps else "finished", gaps or [f"{rounds}, all went well."])

    def failed(self, reason: str) -> None:
        """Tell that the run failed and why."""
        self._end("failed", [reason])

    def _end(self, status: str, lines: list[str]) -> None:
        if self._ended:
            return
        self._ended = True
        said = {"finished": "has finished", "incomplete": "has ended incomplete", "failed": "has failed"}[status]
        self._send("run-ended", said, lines, status=status)
        self.sender.close()

    def _send(self, kind: Any, what: str, lines: list[str], **about: Any) -> None:
        subject = f"REMIND: run {self.run}: {what}" if kind != "run-ended" else f"REMIND: run {self.run} {what}"
        self.sender.send(Alert(kind, subject, "\n".join(lines), {"run": self.run, **about}))
