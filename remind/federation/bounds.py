"""How large a message may be, asked before any of it is parsed: parsing costs many times what a text weighs.

The receiver knows what the right answer to its question holds, hence how large that can be at most. A text longer than
that, or one with more values, is refused unread. One cheap look tells: a JSON text cannot hold more values than it has
commas and opening brackets.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from remind.metrics.histograms import BINS
from remind.metrics.statistics import scored_classes

LONGEST_VALUE = 26  # characters of a number in JSON and what parts it from the next: -1.7976931348623157e+308, "
CELL_VALUES, CELL_TEXT = 5, 32  # of a filled bin: class, hit, bin, patients
TENSOR_VALUES, TENSOR_TEXT = 16, 800  # of a tensor's line in an index: name, block, shape, type
SOME_VALUES, SOME_TEXT = 200, 20_000  # of all the rest
ARRAY_HEADER = 4096  # bytes before the data of a serialised array


@dataclass(frozen=True)
class Bounds:
    """Most characters and values of a message's JSON, and most bytes of its buffer."""

    text: int
    values: int
    buffer: int

    def problem(self, text: str, buffer: int) -> str:
        """Why a message is not read; empty if it may be. `buffer` is the size of its array in bytes."""
        if len(text) > self.text:
            return f"its text has {len(text)} characters; at most {self.text} are expected"
        if (values := text.count(",") + text.count("[") + text.count("{")) > self.values:
            return f"it holds about {values} values; at most {self.values} are expected"
        if buffer > self.buffer + ARRAY_HEADER:
            return f"its tensors have {buffer} bytes; at most {self.buffer} are expected"
        return ""


ORDINARY = Bounds(text=8 << 20, values=400_000, buffer=1 << 40)
"""Of what nobody can foresee: enrolments (schemas of many columns), tasks (whose tensors the site checks by name)."""
NO_TENSORS = Bounds(ORDINARY.text, ORDINARY.values, 0)


def reply_bounds(groups: int, classes: int, experts: int, tensors: int = 0, nbytes: int = 0) -> Bounds:
    """What the answer to a task or an examination can hold.

    Parameters
    ----------
    groups
        Groups the site can have statistics of.
    classes, experts
        C, and E.
    tensors, nbytes
        Tensors that were sent and come back, and their bytes.
    """
    histograms = len(scored_classes(classes))
    cells = groups * 2 * histograms * 2 * BINS
    others = groups * (2 * (30 + classes * (classes + 1) + experts) + 10)
    values = SOME_VALUES + others + cells * CELL_VALUES + tensors * TENSOR_VALUES
    text = SOME_TEXT + LONGEST_VALUE * (SOME_VALUES + others) + cells * CELL_TEXT
    text += tensors * (LONGEST_VALUE * TENSOR_VALUES + TENSOR_TEXT)
    return Bounds(text, values, 4 * nbytes)  # of another type they are named as such, in better words


def largest(many: Iterable[Bounds]) -> Bounds:
    """What any of these allows; nothing at all without any."""
    every = [Bounds(0, 0, 0), *many]
    return Bounds(max(b.text for b in every), max(b.values for b in every), max(b.buffer for b in every))
