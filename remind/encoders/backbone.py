"""What backbones of pictures have in common: a look at them without weights, parts they do not use, single patients."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from remind.seeds import seeded


@contextmanager
def weightless() -> Iterator[None]:
    """Networks built within have shapes and no memory, and take nothing from torch's randomness."""
    with seeded(0), torch.device("meta"):
        yield


def idle_modules(net: nn.Module, inputs: Tensor) -> tuple[str, ...]:
    """Modules with weights that do not reach the output: heads, norms after the pooling that is not used here.

    They would be sent, decayed and stored for nothing. `net` and `inputs` are weightless; `net` is spoilt.
    """
    out: Tensor = net(inputs)
    out.sum().backward()  # type: ignore[no-untyped-call]
    idle = tuple(_without_gradient(net))
    remove(net, idle)
    try:
        same = net(inputs).shape == out.shape
    except Exception:  # something of it is called after all, although nothing comes of it
        same = False
    return idle if same else ()


def remove(net: nn.Module, modules: tuple[str, ...]) -> None:
    """Take modules out of a network."""
    for name in modules:
        net.set_submodule(name, nn.Identity())


@contextmanager
def steady_norms(net: nn.Module, patients: int) -> Iterator[None]:
    """Within the block batch norms of a single patient use what they have learned, also in training.

    One patient's statistics say nothing about a batch, and of a 1 × 1 map there are none.
    """
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.training] if patients == 1 else []
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def _without_gradient(module: nn.Module, path: str = "") -> Iterator[str]:
    """The largest modules all of whose weights could have a gradient and have none."""
    for name, child in module.named_children():
        weights = list(child.parameters())
        if weights and all(w.requires_grad and w.grad is None for w in weights):
            yield path + name
        else:
            yield from _without_gradient(child, f"{path}{name}.")
