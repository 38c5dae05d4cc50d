"""Blocks: the units in which tensors are sent, averaged and (later) masked.

Block ``shared`` goes to every site; ``group:<bitmask>`` holds Φ_k and B_k and goes only to sites that observe group k;
``encoder:<modality>`` exists only where encoders are shared, and goes to sites that have the modality. What a rule
sends besides the parameters (``rule/<word>/<parameter>``) is in the block of the parameter. A message holds one flat
buffer and an index of its tensors: one array however many tensors (flower §2).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import Parameter

from remind.config.federation import WireType
from remind.federation.quantised import dequantise, nbytes_of, quantise
from remind.quoting import quoted

ENCODERS = "encoders."
RULE = "rule/"  # begins the names of what a rule sends besides the parameters
SHARED = "shared"
INT8: Literal["int8"] = "int8"  # an update, not a value: see `quantised`
SentType = WireType | Literal["int8"]
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def group_block(group: int) -> str:
    """Return the name of the block of Φ_k and B_k."""
    return f"group:{group}"


def encoder_block(modality: str) -> str:
    """Return the name of the block of a modality's shared encoder."""
    return f"encoder:{modality}"


def beside(word: str, parameter: str) -> str:
    """Return the name of what a rule sends besides a parameter, such as its control variate."""
    return f"{RULE}{word}/{parameter}"


def split_beside(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the parameters among tensors of a message, and what a rule sent besides them."""
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(RULE)}
    return own, {name: tensor for name, tensor in tensors.items() if name not in own}


def block_of(name: str) -> str:
    """Return the block of a parameter of `SiteModel`, from its name, or of what a rule sends besides it.

    Raises
    ------
    ValueError
        No parameter has such a name. Names in a message come from another party and cannot be trusted.
    """
    parts = name.split("/", 2)
    parameter = parts[2] if name.startswith(RULE) and len(parts) == 3 else name
    match parameter.split("."):
        case ["encoders", modality, _, *_]:
            return encoder_block(modality)
        case ["fusion", "groups", group, _, *_] if group.isdecimal() and group == str(int(group)):
            return group_block(int(group))
        case ["fusion", part, *_] if part != "groups":
            return SHARED
    raise ValueError(f"{quoted(name)!r} is not the name of a tensor of this model")


def travelling(
    named: Iterable[tuple[str, Parameter]], encoders_shared: bool, travels: Callable[[str], bool] = lambda name: True
) -> dict[str, Parameter]:
    """Return the parameters of a `SiteModel` that may be sent; those of an encoder only if encoders are shared.

    Parameters
    ----------
    travels
        The federated rule's decision about a name.
    """
    return {name: p for name, p in named if travels(name) and (encoders_shared or not name.startswith(ENCODERS))}


class Entry(BaseModel):
    """The position of one tensor in a buffer."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(max_length=300)]
    block: Annotated[str, Field(max_length=300)]
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=8)]
    dtype: SentType

    @property
    def nbytes(self) -> int:
        """Return the number of bytes in the buffer."""
        if self.dtype == INT8:
            return nbytes_of(prod(self.shape))
        return prod(self.shape) * DTYPES[self.dtype].itemsize


Types = SentType | Callable[[str], SentType]  # one for all tensors, or by name


def index_of(tensors: Mapping[str, Tensor], dtype: Types) -> tuple[Entry, ...]:
    """Return the index of the buffer that `pack` makes: tensors sorted by name."""
    return tuple(
        Entry(name=name, block=block_of(name), shape=tuple(tensor.shape), dtype=_type(dtype, name))
        for name, tensor in sorted(tensors.items())
    )


def pack(tensors: Mapping[str, Tensor], dtype: Types) -> NDArray[np.uint8]:
    """Pack tensors into one flat buffer of raw bytes in native order (little-endian on every machine torch runs on)."""
    parts = [_raw(tensor, _type(dtype, name)) for name, tensor in sorted(tensors.items())]
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)


def _raw(tensor: Tensor, dtype: SentType) -> NDArray[np.uint8]:
    if dtype == INT8:
        return quantise(tensor)
    return tensor.detach().to("cpu", DTYPES[dtype]).contiguous().view(-1).view(torch.uint8).numpy()


def _type(dtype: Types, name: str) -> SentType:
    return dtype(name) if callable(dtype) else dtype


class Unpacked(Mapping[str, Tensor]):
    """The tensors of a buffer, by name: each is copied out of it when it is asked for, and every time.

    Raises
    ------
    ValueError
        The index does not fit the buffer, or names a tensor twice or in a wrong block.
    """

    def __init__(self, index: Iterable[Entry], buffer: NDArray[np.uint8]) -> None:
        self._places, self._buffer = places_of(index, buffer), buffer

    def __getitem__(self, name: str) -> Tensor:
        entry, start = self._places[name]
        part = self._buffer[start : start + entry.nbytes]
        if entry.dtype == INT8:
            return dequantise(part, prod(entry.shape)).view(entry.shape)
        return torch.from_numpy(part.copy()).view(DTYPES[entry.dtype]).view(entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def unpack(index: Iterable[Entry], buffer: NDArray[np.uint8]) -> dict[str, Tensor]:
    """Return the tensors of a buffer, by name; errors as in `Unpacked`."""
    return dict(Unpacked(index, buffer))


def places_of(index: Iterable[Entry], buffer: NDArray[np.uint8]) -> dict[str, tuple[Entry, int]]:
    """Return the entry of each tensor and where it begins in the buffer; errors as in `Unpacked`."""
    tensors: dict[str, tuple[Entry, int]] = {}
    start = 0
    for entry in index:
        if entry.name in tensors:
            raise ValueError(f"tensor {entry.name} occurs twice")
        if entry.block != block_of(entry.name):
            raise ValueError(f"tensor {entry.name} claims block {entry.block}, not {block_of(entry.name)}")
        stop = start + entry.nbytes
        if stop > buffer.size:
            raise ValueError(f"buffer of {buffer.size} bytes ends within {entry.name}")
        tensors[entry.name] = entry, start
        start = stop
    if start != buffer.size:
        raise ValueError(f"buffer has {buffer.size - start} bytes that its index does not name")
    return tensors
