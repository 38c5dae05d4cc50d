"""Keeps torch's compiler out of processes that compile nothing: importing it takes as long as importing torch."""

import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import unwrap
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

Chosen = TypeVar("Chosen", bound=Optimizer)
COMPILER = "torch._dynamo"
_FILLS = {Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_}
_SCALES = {Tensor.mul, Tensor.div, Tensor.true_divide, Tensor.__mul__, Tensor.__rmul__, Tensor.__truediv__}


def eager(kind: type[Chosen]) -> type[Chosen]:
    """Return a kind of optimiser whose methods run as they are written.

    Torch excludes these methods from compilation when they are first called, and imports its compiler to do so. No step
    is compiled here. If the compiler is loaded already, the kind stays as it is.
    """
    if COMPILER in sys.modules:
        return kind
    for method in vars(Optimizer).values():
        original = getattr(method, "__wrapped__", None)
        if isinstance(method, FunctionType) and isinstance(original, FunctionType):
            original.__dict__.setdefault("__dynamo_disable", original)
    return type(kind.__name__, (kind,), {"step": torch.no_grad()(unwrap(kind.step))})


class ShapesOnly(TorchFunctionMode):
    """Within ``torch.device("meta")``: no value is drawn, filled in or scaled, as tensors there have none.

    Torch computes the shape of these results in Python, and imports its compiler to do so.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func`, or what gives the same shape."""
        del types
        if func in _FILLS or (func in _SCALES and all(isinstance(value, int | float) for value in args[1:])):
            return args[0]
        if getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else (kwargs or {})["tensor"]
        same: Callable[..., Any] = torch.empty if func in (torch.randn, torch.rand) else func
        return same(*args, **(kwargs or {}))
