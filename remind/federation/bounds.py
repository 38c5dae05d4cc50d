"""Limits on the size of a message, checked before it is parsed: parsing needs many times the memory of the text.

The receiver knows what a correct answer to its request contains, and so its largest size. A longer text, or one with
more values, is refused without parsing. Counting is cheap: a JSON text cannot hold more values than it has commas and
opening brackets.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from remind.metrics.histograms import BINS
from remind.metrics.tempering import BETA_K
from remind.outcomes.base import Outcome

LONGEST_VALUE = 26  # characters of a number in JSON and its separator: -1.7976931348623157e+308, "
CELL_VALUES, CELL_TEXT = 5, 32  # per filled bin: class, hit, bin, patients
TENSOR_VALUES, TENSOR_TEXT = 16, 800  # per tensor in an index: name, block, shape, type
SOME_VALUES, SOME_TEXT = 200, 20_000  # for everything else
ARRAY_HEADER = 4096  # bytes before the data of a serialised array


@dataclass(frozen=True)
class Bounds:
    """Largest numbers of characters and values in a message's JSON, and of bytes in its buffer."""

    text: int
    values: int
    buffer: int

    def problem(self, text: str, buffer: int) -> str:
        """Return why a message is refused; empty if it may be read. `buffer` is the size of its array in bytes."""
        if len(text) > self.text:
            return f"its text has {len(text)} characters; at most {self.text} are expected"
        if (values := text.count(",") + text.count("[") + text.count("{")) > self.values:
            return f"it holds about {values} values; at most {self.values} are expected"
        if buffer > self.buffer + ARRAY_HEADER:
            return f"its tensors have {buffer} bytes; at most {self.buffer} are expected"
        return ""


ORDINARY = Bounds(text=8 << 20, values=400_000, buffer=1 << 40)
"""Bounds for content of unknown size: enrolments (schemas of many columns), tasks (the site checks tensors by name)."""
NO_TENSORS = Bounds(ORDINARY.text, ORDINARY.values, 0)


def reply_bounds(groups: int, outcome: Outcome, experts: int, tensors: int = 0, nbytes: int = 0) -> Bounds:
    """Return the bounds of the answer to a task or an examination.

    Parameters
    ----------
    groups
        Groups that the site can have statistics of.
    outcome, experts
        What is predicted, and E.
    tensors, nbytes
        Number and bytes of the tensors that were sent and come back.
    """
    classes = len(outcome.strata) if outcome.by_class else 0
    cells = groups * 3 * outcome.histograms * 2 * BINS  # test, validation, calibrated
    others = groups * (3 * (30 + classes * (classes + 1) + outcome.sums + experts) + 16 + 2 * len(BETA_K))
    values = SOME_VALUES + others + cells * CELL_VALUES + tensors * TENSOR_VALUES
    text = SOME_TEXT + LONGEST_VALUE * (SOME_VALUES + others) + cells * CELL_TEXT
    text += tensors * (LONGEST_VALUE * TENSOR_VALUES + TENSOR_TEXT)
    # A wrong type is allowed here, because a later check reports it more clearly.
    return Bounds(text, values, 4 * nbytes)


def largest(many: Iterable[Bounds]) -> Bounds:
    """Return the largest of these bounds; bounds of zero if there are none."""
    every = [Bounds(0, 0, 0), *many]
    return Bounds(max(b.text for b in every), max(b.values for b in every), max(b.buffer for b in every))
