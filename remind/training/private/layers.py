"""Records torch layers on the tape, and checks that all trained parameters of a model are recorded.

`register` adds a class of layers: a function that records (layer, input, output).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from remind.encoders.base import Encoder
from remind.errors import UserError
from remind.privacy.tape import Tape, current_tape
from remind.privacy.tape_parts import Part, Whole

Buffers = Mapping[str, tuple[int, int]]  # identity and version by name
Recorder = Callable[[Tape, Any, Tensor, Tensor], None]
_KINDS: dict[type[nn.Module], Recorder] = {}


def register(kind: type[nn.Module]) -> Callable[[Recorder], Recorder]:
    """Register a function that records the layers of exactly this class."""

    def add(recorder: Recorder) -> Recorder:
        _KINDS[kind] = recorder
        return recorder

    return add


@register(nn.Linear)
def _linear(tape: Tape, layer: nn.Linear, x: Tensor, y: Tensor) -> None:
    """Record a layer (P, …, I) → (P, …, O)."""
    x_EPSI = x.reshape(1, len(x), -1, x.shape[-1])

    def arrange(grad: Tensor) -> Tensor:
        return grad.reshape(1, len(grad), -1, grad.shape[-1])

    tape.product(layer.weight, layer.bias, x_EPSI, y, arrange, lambda sum_EIO: sum_EIO[0].t())


@register(nn.LayerNorm)
def _layer_norm(tape: Tape, layer: nn.LayerNorm, x: Tensor, y: Tensor) -> None:
    """Record a layer (P, …, D) → (P, …, D)."""
    normed = functional.layer_norm(x.detach(), layer.normalized_shape, eps=layer.eps)
    here, weight, bias = tape.patient_P, layer.weight, layer.bias

    def parts(grad: Tensor) -> list[Part]:
        shape = (len(grad), -1, *layer.normalized_shape)
        found: list[Part] = [Whole(weight, (grad * normed).reshape(shape).sum(dim=1), here)]
        return found if bias is None else [*found, Whole(bias, grad.reshape(shape).sum(dim=1), here)]

    tape.add(y, (weight, bias), parts)


@contextmanager
def record_layers(model: nn.Module) -> Iterator[None]:
    """Let the model's layers record their inputs and outputs on the current tape within the block."""
    hooks = [layer.register_forward_hook(_record) for layer in model.modules() if type(layer) in _KINDS]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    tape = current_tape()
    if tape is not None and any(p.requires_grad for p in layer.parameters(recurse=False)):
        _KINDS[type(layer)](tape, layer, inputs[0], output)


def require_recorded(model: nn.Module) -> None:
    """Refuse a model with a trained parameter that no layer records.

    Raises
    ------
    UserError
        The text names the parameter, or a layer that couples the patients of a step.
    """
    claimed: list[str] = []
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and any(p.requires_grad for p in model.parameters()):
            raise UserError(f"privacy.mode: {name} normalises over the patients of a batch, so {_NO_BOUND}")
        if isinstance(layer, Encoder) and not layer.private:
            claimed.append(name)  # `Tape.separate` records all of it
        own = (
            [n for n, _ in layer.named_parameters(recurse=False)]
            if type(layer) in _KINDS
            else getattr(layer, "taped", ())
        )
        claimed += [f"{name}.{parameter}".removeprefix(".") for parameter in own]
    exact, within = set(claimed), tuple(f"{name}." for name in claimed)  # within: parameters of a list
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in exact and not name.startswith(within):
            raise unrecorded_error(name)


def buffers(model: nn.Module) -> Buffers:
    """Return which state a model has besides its parameters, and how often it has been changed."""
    return {name: (id(buffer), buffer._version) for name, buffer in model.named_buffers()}


def require_unchanged(model: nn.Module, before: Buffers) -> None:
    """Refuse a model that keeps what it sees of patients, as running means do: no noise would be added to it.

    Raises
    ------
    UserError
        The text names the buffer.
    """
    for name, state in buffers(model).items():
        if name in before and before[name] != state:
            raise UserError(
                f"privacy.mode: the step changes {name}, which is computed from patients and gets no noise; choose a "
                "layer that keeps no statistics, or freeze the encoders (federation.encoders = 'frozen')"
            )


_NO_BOUND = (
    "a bound on one patient's gradient does not bound the patient's effect; choose a network with group or layer norm, "
    "or freeze the encoders (federation.encoders = 'frozen')"
)


def unrecorded_error(name: str) -> UserError:
    """Return the error about a parameter whose per-patient gradients are not computed."""
    where = (
        "freeze the encoders (federation.encoders = 'frozen')"
        if name.startswith("encoders.")
        else "choose a fusion model and options that docs/privacy.md lists"
    )
    return UserError(
        f"privacy.mode: {name} would be trained, but its per-patient gradients cannot be computed; {where}"
    )
