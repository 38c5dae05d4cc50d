"""The wire format: a message and its buffer as a Flower `RecordDict`. This is the library's only import of Flower.

One array, one string (flower §2).
"""

from io import BytesIO
from typing import Annotated, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from remind.federation.bounds import Bounds
from remind.federation.message_types import Message, first_problem
from remind.federation.messages import Enrol, Enrolment, Examination, Examine, Refusal, Report, Task
from remind.federation.secure_messages import Deal, Dealt, Keys, MaskedAnswer, Prepare, Unmask, Unmasked
from remind.quoting import listed, quoted

_AnyMessage = Annotated[
    Enrol
    | Enrolment
    | Prepare
    | Keys
    | Deal
    | Dealt
    | Task
    | Report
    | Examine
    | Examination
    | MaskedAnswer
    | Unmask
    | Unmasked
    | Refusal,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Message] = TypeAdapter(_AnyMessage)
Expected = TypeVar("Expected", bound=Message)
NUMPY = "numpy.ndarray"  # Flower's word for an array in NumPy's own format


def to_record(message: Message, buffer: NDArray[np.uint8] | None = None) -> RecordDict:
    """Return the record of a message and its tensors."""
    record = RecordDict({"message": ConfigRecord({"json": message.model_dump_json()})})
    if buffer is not None:
        record["buffer"] = ArrayRecord({"bytes": Array(buffer)})
    return record


def from_record(record: RecordDict, bounds: Bounds | None = None) -> tuple[Message, NDArray[np.uint8]]:
    """Return the message and the tensors of a record.

    Parameters
    ----------
    bounds
        Limits, checked before parsing; None for a record that this process made itself.

    Raises
    ------
    ValueError
        The record differs from what `to_record` makes, or its message is not valid for its type.
    """
    texts, arrays = record.get("message"), record.get("buffer")  # a view by type would keep the record (flower §14)
    if (
        not isinstance(texts, ConfigRecord)
        or list(texts) != ["json"]
        or not (arrays is None or isinstance(arrays, ArrayRecord))
        or len(record) != (1 if arrays is None else 2)
    ):
        raise ValueError(f"message holds records {listed(sorted(record))}, not one JSON text and at most one buffer")
    text = str(texts["json"])
    if bounds is not None:
        size = sum(len(array.data) for array in arrays.values()) if arrays is not None else 0
        if problem := bounds.problem(text, size):
            raise ValueError(f"the message is too large: {problem}")
    try:
        message = _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None
    return message, np.empty(0, np.uint8) if arrays is None else _flat(arrays)


def _flat(arrays: ArrayRecord) -> NDArray[np.uint8]:
    if list(arrays) != ["bytes"]:
        raise ValueError(f"buffer holds arrays {listed(sorted(arrays))}, not one")
    try:
        buffer = _in_place(arrays["bytes"])
    except Exception as error:  # untrusted bytes: NumPy may raise anything
        raise ValueError(f"buffer is not an array ({type(error).__name__})") from None
    if buffer.dtype != np.uint8 or buffer.ndim != 1:
        raise ValueError(f"buffer is {quoted(buffer.dtype)} of {buffer.ndim} dimensions, not flat bytes")
    return buffer


def _in_place(array: Array) -> NDArray[np.uint8]:
    """Return a flat array of bytes where it lies in its message, read-only; any other as Flower reads it."""
    head = BytesIO(array.data)  # shares the bytes
    if array.stype == NUMPY and np.lib.format.read_magic(head) == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(head)
        if dtype == np.uint8 and len(shape) == 1 and len(array.data) == head.tell() + shape[0]:
            return np.frombuffer(array.data, np.uint8, offset=head.tell())
    return array.numpy()


class PeerRefusedError(ValueError):
    """The other end answered that it cannot, with its reason; `leaves`: nor will it later in this run."""

    def __init__(self, text: str, leaves: bool = False) -> None:
        super().__init__(text)
        self.leaves = leaves


def read_as(
    record: RecordDict, kind: type[Expected], bounds: Bounds | None = None
) -> tuple[Expected, NDArray[np.uint8]]:
    """Read as `from_record` does, and require a message of one kind."""
    message, buffer = from_record(record, bounds)
    if isinstance(message, Refusal) and kind is not Refusal:
        raise PeerRefusedError(f"refused: {message.reason}", message.leaves)
    if not isinstance(message, kind):
        raise ValueError(f"expected {kind.__name__}, got {type(message).__name__}")
    return message, buffer
