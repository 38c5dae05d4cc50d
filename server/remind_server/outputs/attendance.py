"""Record which sites took part in a run. A run that misses expected sites is reported as incomplete."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from remind_server.outputs.records import Observer, RoundRecord, RoundStart, RunResult, RunStart

INCOMPLETE = 3  # exit code of a run that ended although some site never took part or was not examined


class Attendance(Observer):
    """Observer that lists, at the end of a run, the sites that never counted and those that missed some rounds."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.expected: tuple[str, ...] = ()
        self.never: dict[str, str] = {}
        self.missed: Counter[str] = Counter()
        self.unexamined: dict[str, str] = {}
        self._why: dict[str, str] = {}
        self._counted: set[str] = set()

    def remember(self) -> dict[str, Any]:
        """Return which sites counted and which missed rounds so far."""
        return {
            "refused": self.refused,
            "expected": list(self.expected),
            "missed": dict(self.missed),
            "why": self._why,
            "counted": sorted(self._counted),
        }

    def resumed(self, start: RunStart, round_: int, memory: Mapping[str, Any]) -> None:
        """Restore what `remember` returned."""
        self.started(start)
        if memory:
            self.refused, self.expected = dict(memory["refused"]), tuple(memory["expected"])
            self.missed, self._why = Counter(memory["missed"]), dict(memory["why"])
            self._counted = set(memory["counted"])

    def started(self, start: RunStart) -> None:
        """Store the refused and the expected sites."""
        self.refused, self.expected = dict(start.refused), start.expected

    def round_started(self, start: RoundStart) -> None:
        """Update the refused sites: a newcomer may have joined since."""
        self.refused = dict(start.refused)

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Store which sites counted in the round."""
        self._counted |= set(record.answered)
        self._why |= record.absent
        self.expected = record.expected or self.expected
        self.missed.update(record.absent.keys())

    def finished(self, result: RunResult) -> None:
        """Summarise the run."""
        self.unexamined = dict(result.absent)
        self.never = {site: why for site, why in self._why.items() if site not in self._counted} | self.refused

    def content(self) -> dict[str, Any]:
        """Return the entries of ``summary.json``. `status` is ``incomplete`` if an expected site never took part."""
        missed = {site: n for site, n in sorted(self.missed.items()) if site not in self.never}
        status = "incomplete" if self.never else "completed"
        return {
            "status": status,
            "expected": list(self.expected),
            "took_part": sorted(self._counted),
            "never_took_part": self.never,
            "rounds_missed": missed,
        }

    @property
    def warnings(self) -> list[str]:
        """Return the warnings for the end of the run; none if every site took part until the end."""
        return summary_warnings({"absent": self.unexamined, **self.content()})


def summary_warnings(summary: Mapping[str, Any]) -> list[str]:
    """Return the same warnings, from a ``summary.json``."""
    never, absent = summary.get("never_took_part", {}), summary.get("absent", {})
    found = [f"site {site} never took part: {why}" for site, why in sorted(never.items())]
    found += [f"site {site} was not examined: {why}" for site, why in sorted(absent.items()) if site not in never]
    return found
