"""Sessions that a person has ended by signing out: their cookies count no more, even if somebody kept them."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from remind.files import make_private


@dataclass
class EndedSessions:
    """Names of ended sessions, until they would have ended by themselves.

    Attributes
    ----------
    path
        File that keeps them over a restart, readable by its owner alone; None: in memory, for tokens that do not
        outlive the process either.
    """

    path: Path | None = None
    _until: dict[str, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.path is not None and self.path.exists():
            for line in self.path.read_text(encoding="ascii", errors="replace").splitlines():
                name, _, until = line.partition(" ")
                if until.isdecimal() and int(until) > time.time():
                    self._until[name] = int(until)

    def __contains__(self, name: str) -> bool:
        return name in self._until

    def add(self, name: str, until: int) -> None:
        """End a session that would last until then, in seconds since 1970."""
        self._until = {other: end for other, end in self._until.items() if end > time.time()} | {name: until}
        if self.path is not None:
            make_private(self.path)
            with self.path.open("a", encoding="ascii") as file:
                file.write(f"{name} {until}\n")
