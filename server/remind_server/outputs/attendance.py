"""Record which sites took part in a run. A run that misses expected sites is reported as incomplete."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from remind import groups
from remind_server.outputs.gaps import gaps_of, summary_warnings
from remind_server.outputs.records import Observer, RoundRecord, RoundStart, RunResult, RunStart

if TYPE_CHECKING:
    from torch import Tensor

# Exit code of a run that ended although some site never took part or was not examined, or a group was never trained.
INCOMPLETE = 3


class Attendance(Observer):
    """Observer that lists, at the end of a run, the sites that never counted and those that missed some rounds."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.expected: tuple[str, ...] = ()
        self.never: dict[str, str] = {}
        self.missed: Counter[str] = Counter()
        self.how: dict[str, Counter[str]] = {}  # site → kind of absence → rounds
        self._groups: dict[int, str] = {}
        self._trained: set[int] = set()
        self.unexamined: dict[str, str] = {}
        self._why: dict[str, str] = {}
        self._counted: set[str] = set()
        self._waiting: set[str] = set()  # members that no round has asked so far
        self._asked: set[str] = set()
        self._effective: list[float] = []
        self._errors: list[float] = []

    def remember(self) -> dict[str, Any]:
        """Return which sites counted and which missed rounds so far."""
        return {
            "refused": self.refused,
            "expected": list(self.expected),
            "missed": dict(self.missed),
            "how": {site: dict(kinds) for site, kinds in self.how.items()},
            "groups": {str(k): name for k, name in self._groups.items()},
            "trained": sorted(self._trained),
            "why": self._why,
            "counted": sorted(self._counted),
            "asked": sorted(self._asked),
            "waiting": sorted(self._waiting),
            "effective": self._effective,
            "errors": self._errors,
        }

    def resumed(self, start: RunStart, round_: int, memory: Mapping[str, Any]) -> None:
        """Restore what `remember` returned."""
        self.started(start)
        if memory:
            self.refused, self.expected = dict(memory["refused"]), tuple(memory["expected"])
            self.missed, self._why = Counter(memory["missed"]), dict(memory["why"])
            self._counted = set(memory["counted"])
            self.how = {site: Counter(kinds) for site, kinds in memory["how"].items()}
            self._groups |= {int(k): name for k, name in memory["groups"].items()}
            self._trained = set(memory["trained"])
            self._asked, self._waiting = set(memory.get("asked", ())), set(memory.get("waiting", ()))
            self._effective, self._errors = list(memory.get("effective", ())), list(memory.get("errors", ()))

    def started(self, start: RunStart) -> None:
        """Store the refused and the expected sites."""
        self.refused, self.expected = dict(start.refused), start.expected
        self._names = start.schema.names

    def round_started(self, start: RoundStart) -> None:
        """Update the refused sites: a newcomer may have joined since."""
        self.refused = dict(start.refused)
        self._asked.update(start.asked)
        self._waiting = set(start.sites) - self._asked

    def round_done(self, record: RoundRecord, tensors: "Mapping[str, Tensor]") -> None:
        """Store which sites counted in the round."""
        self._counted |= set(record.answered)
        if record.chances:
            self._effective.append(record.effective_sites)
            self._errors += [] if record.sampling_error is None else [record.sampling_error]
        self._why |= record.absent
        self.expected = record.expected or self.expected
        self.missed.update(record.absent.keys())
        for site, kind in record.how.items():
            self.how.setdefault(site, Counter())[kind] += 1
        self._groups |= {k: groups.name(k, self._names) for k in record.counts if k not in self._groups}
        self._trained |= record.counts.keys() - set(record.frozen)

    def finished(self, result: RunResult) -> None:
        """Summarise the run."""
        self.unexamined = dict(result.absent)
        self.never = {site: why for site, why in self._why.items() if site not in self._counted} | self.refused

    def content(self) -> dict[str, Any]:
        """Return the entries of ``summary.json``. `status` is ``incomplete`` if the run has `gaps`."""
        missed = {site: n for site, n in sorted(self.missed.items()) if site not in self.never}
        how = {site: dict(sorted(kinds.items())) for site, kinds in sorted(self.how.items()) if site in missed}
        found = {
            "expected": list(self.expected),
            "took_part": sorted(self._counted),
            "never_took_part": self.never,
            "rounds_missed": missed,
            "missed_how": how,
            "never_trained": self.untrained,
            "drawn": self._drawn(),
        }
        return {"status": "incomplete" if gaps_of(found) else "completed", **found}

    def _drawn(self) -> dict[str, Any] | None:
        """Return what ``federation.participation`` did to the run, if rounds asked a part of the sites."""
        if not self._effective:
            return None
        error = sum(self._errors) / len(self._errors) if self._errors else None
        return {
            "rounds": len(self._effective),
            "effective_sites": sum(self._effective) / len(self._effective),
            "sampling_error": error,
            "never_drawn": sorted(self._waiting - self._counted - self._why.keys()),
        }

    @property
    def untrained(self) -> list[str]:
        """Groups of the run that no site ever trained on, because too few that have them counted."""
        return [name for k, name in sorted(self._groups.items()) if k not in self._trained]

    @property
    def gaps(self) -> list[str]:
        """Return why the run is incomplete; empty if it is not."""
        return gaps_of(self.content())

    @property
    def warnings(self) -> list[str]:
        """Return the warnings for the end of the run; none if every site took part until the end."""
        return summary_warnings({"absent": self.unexamined, **self.content()})
