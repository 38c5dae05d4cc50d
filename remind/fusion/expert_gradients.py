"""The experts' arithmetic, and memory for their gradients that lasts from step to step.

A step of the paper's largest model makes 2.4 GB of weight gradients. On a CPU autograd takes them from the operating
system afresh in every step and gives them back, and the page faults cost as much as all the arithmetic. Inside
`gradients_in_place` the products are written into the memory of the gradients of the step before.

Shapes: E experts, N rows (patients × slots), D width, H hidden width of an expert.
"""

import math
import weakref
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@contextmanager
def gradients_in_place() -> Iterator[None]:
    """Reuse the memory of the experts' weight gradients, for forward passes begun inside and by this thread.

    For loops that drop their gradients before each step, ``zero_grad(set_to_none=True)``. Values, accumulation over
    several backward passes and hooks are those of plain autograd, for autograd is given ordinary tensors; memory is
    used again only once nobody holds the gradient that lay in it, so a gradient kept from an earlier step keeps its
    values. The first step inside pays for the memory, and it stays taken until the end: let the context span many.

    Only first derivatives in reverse mode: for double backward, forward mode and `torch.func` stay outside. Changes
    nothing on other devices than the CPU, whose allocators keep their memory anyway.
    """
    if _memory.get() is not None:
        yield
        return
    token = _memory.set(_Memory())
    try:
        yield
    finally:
        _memory.reset(token)


def perceptrons(rows_END: Tensor, w1_EDH: Tensor, b1_EH: Tensor, w2_EHD: Tensor, b2_ED: Tensor) -> Tensor:
    """Each expert's W2 gelu(W1 row + b1) + b2 on its own rows, (E, N, D) → (E, N, D)."""
    memory = _memory.get()
    if memory is None or not torch.is_grad_enabled() or rows_END.device.type != "cpu":
        hidden_ENH = functional.gelu(torch.baddbmm(b1_EH.unsqueeze(1), rows_END, w1_EDH))
        return torch.baddbmm(b2_ED.unsqueeze(1), hidden_ENH, w2_EHD)
    out_END: Tensor = _Perceptrons.apply(memory, rows_END, w1_EDH, b1_EH, w2_EHD, b2_ED)
    return out_END


class _Memory:
    """Memory that comes back here, for the next tensor of about its size, when the last tensor in it is gone."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[Tensor]] = defaultdict(list)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """`torch.empty` on the CPU."""
        size = math.prod(shape) * dtype.itemsize
        if size == 0:
            return torch.empty(tuple(shape), dtype=dtype, device="cpu")
        room = 1 << (size - 1).bit_length()  # a power of 2: batches differ in size; what is never touched costs nothing
        free = self._free[room]
        try:
            block = free.pop()
        except IndexError:
            block = torch.empty(room, dtype=torch.uint8, device="cpu")
        lease = block.numpy()[:size]  # an array that the tensor's storage holds and nothing else does
        weakref.finalize(lease, free.append, block).atexit = False
        return torch.from_numpy(lease).view(dtype).view(tuple(shape))

    def cast(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """`x.to(dtype)`."""
        return x if x.dtype == dtype else self.empty(x.shape, dtype).copy_(x)

    def product(self, left_EXN: Tensor, right_ENY: Tensor, dtype: torch.dtype) -> Tensor:
        """Batched product, computed in the factors' type and given in `dtype`, (E, X, Y)."""
        shape = (*left_EXN.shape[:2], right_ENY.shape[2])
        return self.cast(torch.bmm(left_EXN, right_ENY, out=self.empty(shape, left_EXN.dtype)), dtype)


_memory: ContextVar[_Memory | None] = ContextVar("expert_gradients", default=None)


class _Perceptrons(torch.autograd.Function):
    """`perceptrons` with weight gradients in a `_Memory`.

    Autograd takes a gradient over without a copy if nobody else refers to the tensor, hence no tensor is kept here.
    """

    @staticmethod
    def forward(ctx: Any, memory: _Memory, *tensors: Tensor) -> Tensor:
        """See `perceptrons`. Under autocast the casts are made here, so that their gradients are, too."""
        ctx.memory, ctx.dtype = memory, tensors[1].dtype
        if torch.is_autocast_enabled("cpu") and ctx.dtype != torch.float64:
            tensors = tuple(memory.cast(x, torch.get_autocast_dtype("cpu")) for x in tensors)
        rows_END, w1_EDH, b1_EH, w2_EHD, b2_ED = tensors
        inner_ENH = memory.empty((*rows_END.shape[:2], w1_EDH.shape[2]), rows_END.dtype)
        torch.baddbmm(b1_EH.unsqueeze(1), rows_END, w1_EDH, out=inner_ENH)
        hidden_ENH = torch.ops.aten.gelu.out(inner_ENH, out=memory.empty(inner_ENH.shape, inner_ENH.dtype))
        ctx.save_for_backward(rows_END, w1_EDH, w2_EHD, inner_ENH, hidden_ENH)
        return torch.baddbmm(b2_ED.unsqueeze(1), hidden_ENH, w2_EHD)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_END: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of `forward`'s arguments, where they are asked for."""
        rows_END, w1_EDH, w2_EHD, inner_ENH, hidden_ENH = ctx.saved_tensors
        _, rows, w1, b1, w2, b2 = ctx.needs_input_grad
        d_rows = d_w1 = d_b1 = d_w2 = d_b2 = None
        if w2:
            d_w2 = ctx.memory.product(hidden_ENH.transpose(1, 2), d_END, ctx.dtype)
        if b2:
            d_b2 = d_END.sum(dim=1)
        if rows or w1 or b1:
            d_ENH = ctx.memory.product(d_END, w2_EHD.transpose(1, 2), d_END.dtype)
            torch.ops.aten.gelu_backward.grad_input(d_ENH, inner_ENH, grad_input=d_ENH)
            if w1:
                d_w1 = ctx.memory.product(rows_END.transpose(1, 2), d_ENH, ctx.dtype)
            if b1:
                d_b1 = d_ENH.sum(dim=1)
            if rows:
                d_rows = torch.bmm(d_ENH, w1_EDH.transpose(1, 2))
        return None, d_rows, d_w1, d_b1, d_w2, d_b2
