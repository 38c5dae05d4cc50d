"""The content of an alert: names, rounds, dates and reasons, but no data about patients."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Kind = Literal["site-missing", "run-ended", "certificate-expires", "budget-low"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MOST = 2_000  # maximum number of characters of a text, because it may contain reasons from other parties
_SUBJECT = 150  # maximum number of characters
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Alert:
    """An event about which people are notified.

    Attributes
    ----------
    subject
        One line.
    about
        The run, its round, the sites or the certificate, in a form for programs.
    at
        Seconds since 1970.
    """

    kind: Kind
    subject: str
    text: str
    about: Mapping[str, str | int | list[str]] = field(default_factory=dict)
    at: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        """Remove control characters and shorten both texts, because names and reasons come from other parties."""
        line = _CONTROL.sub(" ", self.subject.replace("\n", " "))
        object.__setattr__(self, "subject", line if len(line) <= _SUBJECT else line[: _SUBJECT - 1] + "…")
        text = _CONTROL.sub(" ", self.text)
        object.__setattr__(self, "text", text if len(text) <= MOST else text[: MOST - 1] + "…")

    def content(self) -> dict[str, object]:
        """Return the JSON content for a webhook; many chat services show ``text``."""
        texts = {"kind": self.kind, "subject": self.subject, "text": f"{self.subject}\n{self.text}".strip()}
        return texts | {"at": self.at, "about": dict(self.about)}
