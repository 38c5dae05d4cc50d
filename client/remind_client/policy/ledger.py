"""The state of the policy: rounds per day, groups released to each run, number of requests per run.

It is stored in small files that are replaced atomically.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remind.errors import UserError
from remind.processes.locks import locked
from remind.processes.private_files import private_folder, write_private

Natural = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Ledger:
    """The ledger in a folder of the site."""

    folder: Path

    def rounds(self, day: date) -> int:
        """Return the number of training rounds that began on this day."""
        kept = _read(self.folder / "rounds.json", _Day)
        return kept.rounds if kept.day == day.isoformat() else 0

    def begin_round(self, day: date, limit: int | None) -> bool:
        """Count a round before it begins, so that a crash cannot leave a round uncounted.

        False if the limit is reached.
        """
        with self._locked():
            number = self.rounds(day)
            if limit is not None and number >= limit:
                return False
            _write(self.folder / "rounds.json", _Day(day=day.isoformat(), rounds=number + 1))
            return True

    def begin(self, run: int | str, what: str, limit: int) -> bool:
        """Count a request of a run before it is answered.

        False if the run already made `limit` requests of that kind.
        """
        with self._locked():
            kept = _read(self._of(run), _Run)
            number = kept.requests.get(what, 0)
            if number >= limit:
                return False
            _write(self._of(run), kept.with_request(what, number + 1))
            return True

    def approve(self, configuration: str, approved: bool = True) -> None:
        """Store that run configs with this fingerprint are approved, or no longer approved."""
        with self._locked():
            kept = self.approved() | {configuration} if approved else self.approved() - {configuration}
            _write(self.folder / "approved.json", _Approved(configurations=tuple(sorted(kept))))

    def approved(self) -> frozenset[str]:
        """Return the fingerprints of the approved run configs."""
        return frozenset(_read(self.folder / "approved.json", _Approved).configurations)

    def is_repeated(self, run: int | str, round_: int, question: str) -> bool:
        """Note this question of a run for a round, unless the run has asked it before; return whether it has.

        The answer is the same as then, so it reveals nothing new and is not counted.
        """
        with self._locked():
            kept = _read(self._of(run), _Run)
            if kept.asked.get(str(round_)) == question:
                return True
            _write(self._of(run), kept.model_copy(update={"asked": {**kept.asked, str(round_): question}}))
            return False

    def release(self, run: int | str, groups: frozenset[int], configuration: str = "") -> None:
        """Store the groups that were released to this run, and the fingerprint of the run's config."""
        with self._locked():
            kept = _read(self._of(run), _Run)
            released = {"groups": tuple(sorted(groups)), "configuration": configuration or kept.configuration}
            _write(self._of(run), kept.model_copy(update=released))

    def configuration(self, run: int | str) -> str:
        """Return the fingerprint of the config with which the run enrolled this site; empty if none is known."""
        return _read(self._of(run), _Run).configuration

    def released(self, run: int | str) -> frozenset[int] | None:
        """Return the groups that were released to the run; None if the run has not enrolled this site."""
        groups = _read(self._of(run), _Run).groups
        return None if groups is None else frozenset(groups)

    def _of(self, run: int | str) -> Path:
        return self.folder / f"run-{run}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(private_folder(self.folder) / "lock"):
            yield


class _Kept(BaseModel):
    """Base of what the files hold; the default is what a file that is not there means."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Day(_Kept):
    day: str = ""
    rounds: Natural = 0


class _Approved(_Kept):
    configurations: tuple[str, ...] = ()


class _Run(_Kept):
    """Of a run: released groups, digest of each round's question, and the number of each request under its name."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, Natural]

    groups: tuple[Natural, ...] | None = None
    configuration: str = ""
    asked: dict[str, str] = {}

    @property
    def requests(self) -> Mapping[str, int]:
        return self.__pydantic_extra__

    def with_request(self, what: str, number: int) -> "_Run":
        return _Run.model_validate(self.model_dump() | {what: number})


K = TypeVar("K", bound=_Kept)


def _read(path: Path, kind: type[K]) -> K:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return kind()
    except ValidationError:
        raise UserError(
            f"{path}: damaged; look why, then remove it (rounds of today are then counted from 0)"
        ) from None


def _write(path: Path, content: _Kept) -> None:
    write_private(path, content.model_dump_json(exclude_none=True).encode())
