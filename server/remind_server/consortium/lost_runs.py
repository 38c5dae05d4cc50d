"""Runs whose process is gone without a word: `serve` closes their records and tells people of them.

The process of a run touches its record every few seconds. It cannot report its own kill, and Flower's status alone can
stay at ``running``, for example after the machine restarted.
"""

import time

from remind.alerts.message import Alert
from remind.alerts.sending import Sender
from remind.durations import duration
from remind.errors import UserError
from remind_server.consortium.flower import Control, UnreachableError
from remind_server.consortium.folder import Folder, write_file
from remind_server.consortium.run_record import RunRecord, read_record, record_path

SILENT = 60.0  # seconds without one after which a run that Flower has ended did not record its end
LOST = 600.0  # seconds without one after which a run counts as lost whatever Flower says
STOPPED = "finished:stopped"


def close_lost_runs(folder: Folder, link: Control, sender: Sender, now: float | None = None) -> list[str]:
    """Close the records of runs whose process is gone, and send an alert for each that nobody stopped.

    A process that lives on after all writes its record again with its next event.

    Returns
    -------
    list[str]
        A line for each closed run.

    Raises
    ------
    UnreachableError
        The SuperLink does not answer.
    UserError
        A record cannot be written.
    """
    now, closed = time.time() if now is None else now, []
    for path in sorted(folder.runs.glob("*.json")):
        record = read_record(folder, path.stem)
        if record is None or record.status not in ("waiting", "running"):
            continue
        status = _status(link, int(record.run))
        why = _why(status, now - path.stat().st_mtime)
        if not why:
            continue
        _close(folder, record, why)
        closed.append(f"run {record.run}: {why}")
        if status != STOPPED:
            name = record.id or record.run
            subject = f"REMIND: run {name} was lost after round {record.round} of {record.rounds}"
            sender.send(Alert("run-ended", subject, why, {"run": name, "round": record.round, "status": "lost"}))
    return closed


def _status(link: Control, run: int) -> str:
    try:
        return link.run(run).status
    except UnreachableError:
        raise
    except UserError:
        return "finished:unknown"


def _why(status: str, silent: float) -> str:
    """Return why a run counts as lost; empty if it does not."""
    if status.startswith("finished"):
        if silent < SILENT:
            return ""
        if status == STOPPED:
            return "it was stopped"
        return (
            "its process ended without a word: it was killed, or the machine stopped; "
            "`remind consortium resume` continues it"
        )
    if silent < LOST:
        return ""
    return (
        f"nothing was heard of its process for {duration(silent)}, and Flower shows it as {status}; "
        "`remind consortium stop` ends it, and `remind consortium resume` continues it"
    )


def _close(folder: Folder, record: RunRecord, why: str) -> None:
    closed = record.model_copy(update={"status": "failed", "reason": why})
    try:
        write_file(record_path(folder, record.run), (closed.model_dump_json(indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(f"{record_path(folder, record.run)}: cannot be written: {error.strerror}") from None
