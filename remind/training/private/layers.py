"""Layers of torch on the tape, and which parameters of a model are on it at all.

A kind of layer is added with `register`: one function from (module, input, output) to a record.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from remind.errors import UserError
from remind.privacy.tape import Part, Tape, Whole, recording

Recorder = Callable[[Tape, Any, Tensor, Tensor], None]
_KINDS: dict[type[nn.Module], Recorder] = {}


def register(kind: type[nn.Module]) -> Callable[[Recorder], Recorder]:
    """Make a function record the layers of exactly this class."""

    def add(recorder: Recorder) -> Recorder:
        _KINDS[kind] = recorder
        return recorder

    return add


@register(nn.Linear)
def _linear(tape: Tape, layer: nn.Linear, x: Tensor, y: Tensor) -> None:
    """(P, …, I) → (P, …, O)."""
    x_EPSI = x.reshape(1, len(x), -1, x.shape[-1])

    def arrange(grad: Tensor) -> Tensor:
        return grad.reshape(1, len(grad), -1, grad.shape[-1])

    tape.product(layer.weight, layer.bias, x_EPSI, y, arrange, lambda sum_EIO: sum_EIO[0].t())


@register(nn.LayerNorm)
def _layer_norm(tape: Tape, layer: nn.LayerNorm, x: Tensor, y: Tensor) -> None:
    """(P, …, D) → (P, …, D)."""
    normed = functional.layer_norm(x.detach(), layer.normalized_shape, eps=layer.eps)
    here, weight, bias = tape.patient_P, layer.weight, layer.bias

    def parts(grad: Tensor) -> list[Part]:
        shape = (len(grad), -1, *layer.normalized_shape)
        found: list[Part] = [Whole(weight, (grad * normed).reshape(shape).sum(dim=1), here)]
        return found if bias is None else [*found, Whole(bias, grad.reshape(shape).sum(dim=1), here)]

    tape.add(y, (weight, bias), parts)


@contextmanager
def listening(model: nn.Module) -> Iterator[None]:
    """Inside the block, the model's layers tell the tape that records what goes through them."""
    hooks = [layer.register_forward_hook(_tell) for layer in model.modules() if type(layer) in _KINDS]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _tell(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    tape = recording()
    if tape is not None and any(p.requires_grad for p in layer.parameters(recurse=False)):
        _KINDS[type(layer)](tape, layer, inputs[0], output)


def refuse_what_is_not_taped(model: nn.Module) -> None:
    """Stop before anything is computed if a parameter trains that no layer tells the tape about.

    Raises
    ------
    UserError
        Names the parameter, or a layer that couples the patients of a step.
    """
    claimed: list[str] = []
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and any(p.requires_grad for p in model.parameters()):
            raise UserError(f"privacy.mode: {name} normalises over the patients of a batch, so that {_NO_BOUND}")
        own = (
            [n for n, _ in layer.named_parameters(recurse=False)]
            if type(layer) in _KINDS
            else getattr(layer, "taped", ())
        )
        claimed += [f"{name}.{parameter}".removeprefix(".") for parameter in own]
    exact, within = set(claimed), tuple(f"{name}." for name in claimed)  # within: of a list of parameters
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in exact and not name.startswith(within):
            raise unclaimed(name)


_NO_BOUND = "no bound on one patient's gradient bounds what the patient does to the model; freeze it, or choose another"


def unclaimed(name: str) -> UserError:
    """Return the error about a parameter whose per-patient gradients nobody computes."""
    where = (
        "freeze the encoders (federation.encoders = 'frozen')"
        if name.startswith("encoders.")
        else "choose a fusion model and options that docs/privacy.md lists"
    )
    return UserError(
        f"privacy.mode: {name} would train, but each patient's part in its gradient is not computed; {where}"
    )
