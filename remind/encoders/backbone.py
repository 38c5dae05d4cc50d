"""Functions for backbones of images: inspection without weights, removal of unused parts, batches of one patient."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from remind.seeds import seeded


@contextmanager
def weightless() -> Iterator[None]:
    """Build networks inside this context without memory for weights and without using torch's random numbers."""
    with seeded(0), torch.device("meta"):
        yield


def idle_modules(net: nn.Module, inputs: Tensor) -> tuple[str, ...]:
    """Return modules whose weights do not affect the output, such as heads, or norms after unused pooling.

    Sending, decaying and storing them would be useless. `net` and `inputs` are weightless; `net` cannot be used
    afterwards.
    """
    out: Tensor = net(inputs)
    out.sum().backward()  # type: ignore[no-untyped-call]
    idle = tuple(_without_gradient(net))
    remove(net, idle)
    try:
        same = net(inputs).shape == out.shape
    except Exception:  # the network calls the module, although it does not use the result
        same = False
    return idle if same else ()


def remove(net: nn.Module, modules: tuple[str, ...]) -> None:
    """Remove modules from a network."""
    for name in modules:
        net.set_submodule(name, nn.Identity())


@contextmanager
def steady_norms(net: nn.Module, patients: int) -> Iterator[None]:
    """Make batch norms use their running statistics for a single patient, also in training.

    Statistics of one patient do not describe a batch, and a 1 × 1 map has no variance.
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
    """Return the largest modules whose weights all require a gradient but have none."""
    for name, child in module.named_children():
        weights = list(child.parameters())
        if weights and all(w.requires_grad and w.grad is None for w in weights):
            yield path + name
        else:
            yield from _without_gradient(child, f"{path}{name}.")
