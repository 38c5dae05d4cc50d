"""Slows down who sends wrong tokens, by address, and logs it."""

import logging
import time
from dataclasses import dataclass, field

log = logging.getLogger(__name__)
FREE = 5  # wrong tokens of an address that cost nothing but the pause
LONGEST = 60.0  # seconds for which an address has to wait
FORGOTTEN = 900.0  # seconds after its last wrong token, after which the count of an address restarts
MOST = 10_000  # addresses that are remembered


@dataclass
class _Address:
    wrong: int = 0
    last: float = 0.0
    until: float = 0.0


@dataclass
class Guesses:
    """Wrong tokens of each address.

    From the sixth in a row on, an address waits 2, 4, 8 … `LONGEST` seconds. Until then no token of it is checked,
    not even the right one: so parallel guesses gain nothing.
    """

    _found: dict[str, _Address] = field(default_factory=dict, repr=False)

    def wait(self, address: str) -> float:
        """Return for how many seconds the tokens of an address are refused unseen; 0: not at all."""
        found = self._found.get(address)
        return 0.0 if found is None else max(0.0, found.until - time.monotonic())

    def wrong(self, address: str) -> None:
        """Remember a wrong token, and log it: the first, the second, the fourth … in a row."""
        now = time.monotonic()
        found = self._found.pop(address, _Address())
        if now - found.last > FORGOTTEN:
            found = _Address()
        found.wrong, found.last = found.wrong + 1, now
        if found.wrong > FREE:
            found.until = now + min(2.0 ** (found.wrong - FREE), LONGEST)
        self._found[address] = found  # at the end: those that were silent for longest come first
        while len(self._found) > MOST:
            del self._found[next(iter(self._found))]
        if found.wrong & (found.wrong - 1) == 0:
            log.warning("sign-in: wrong token from %s (%d in a row)", address, found.wrong)

    def right(self, address: str) -> None:
        """Forget the wrong tokens of an address that has sent the right one."""
        self._found.pop(address, None)
