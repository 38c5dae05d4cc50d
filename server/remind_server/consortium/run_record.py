"""The record of a run: progress, expected hospitals and what each did, scores, path of the results.

The SuperLink knows only whether a run's program ended; this record knows whether hospitals took part. The run's
ServerApp writes it (`RecordKeeper`), one file per run; ``run --wait``, ``runs`` and ``list`` read it. They only read,
so this file loads neither torch nor the rest of a run.
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from remind_server.consortium.flower import Run
from remind_server.consortium.folder import Folder

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


def status_text(run: Run, record: RunRecord | None) -> str:
    """Return the status of a run as text: Flower's, whether it was lost, and the hospitals that did not take part."""
    if record is not None and record.status == "failed" and not run.finished:
        return f"{run.status}, lost: {record.reason}"
    if record is None or record.status != "incomplete":
        return run.status
    return f"{run.status}, incomplete: without {record.reason}"
