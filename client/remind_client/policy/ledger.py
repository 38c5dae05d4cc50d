"""The state of the policy: rounds per day, groups released to each run, number of requests per run.

It is stored in small files that are replaced atomically.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from remind.errors import UserError
from remind.processes.locks import locked
from remind.processes.private_files import private_folder, write_private


@dataclass(frozen=True)
class Ledger:
    """The ledger in a folder of the site."""

    folder: Path

    def rounds(self, day: date) -> int:
        """Number of training rounds that began on this day."""
        kept = _read(self.folder / "rounds.json")
        return int(kept.get("rounds", 0)) if kept.get("day") == day.isoformat() else 0

    def begin_round(self, day: date, limit: int | None) -> bool:
        """Count a round before it begins, so that a crash cannot leave a round uncounted.

        False if the limit is reached.
        """
        with self._locked():
            number = self.rounds(day)
            if limit is not None and number >= limit:
                return False
            _write(self.folder / "rounds.json", {"day": day.isoformat(), "rounds": number + 1})
            return True

    def begin(self, run: int | str, what: str, limit: int) -> bool:
        """Count a request of a run before it is answered.

        False if the run already made `limit` requests of that kind.
        """
        with self._locked():
            kept = _read(self._of(run))
            number = int(kept.get(what, 0))
            if number >= limit:
                return False
            _write(self._of(run), kept | {what: number + 1})
            return True

    def approve(self, configuration: str, approved: bool = True) -> None:
        """Store that run configs with this fingerprint are approved, or no longer approved."""
        with self._locked():
            kept = self.approved() | {configuration} if approved else self.approved() - {configuration}
            _write(self.folder / "approved.json", {"configurations": sorted(kept)})

    def approved(self) -> frozenset[str]:
        """Fingerprints of the approved run configs."""
        return frozenset(_read(self.folder / "approved.json").get("configurations", ()))

    def is_repeated(self, run: int | str, round_: int, question: str) -> bool:
        """Whether a run has asked this very question for a round before; note it, unless it has.

        The answer is the same as then, so it reveals nothing new and is not counted.
        """
        with self._locked():
            kept = _read(self._of(run))
            asked: dict[str, str] = kept.get("asked", {})
            if asked.get(str(round_)) == question:
                return True
            _write(self._of(run), kept | {"asked": asked | {str(round_): question}})
            return False

    def release(self, run: int | str, groups: frozenset[int]) -> None:
        """Store the groups that were released to this run."""
        with self._locked():
            _write(self._of(run), _read(self._of(run)) | {"groups": sorted(groups)})

    def released(self, run: int | str) -> frozenset[int] | None:
        """Groups that were released to the run; None if the run has not enrolled this site."""
        path = self._of(run)
        return frozenset(_read(path)["groups"]) if path.is_file() else None

    def _of(self, run: int | str) -> Path:
        return self.folder / f"run-{run}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(private_folder(self.folder) / "lock"):
            yield


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        kept = None
    if not isinstance(kept, dict):
        raise UserError(f"{path}: damaged; look why, then remove it (rounds of today are then counted from 0)")
    return kept


def _write(path: Path, content: dict[str, Any]) -> None:
    write_private(path, json.dumps(content).encode())
