"""A tape of how each patient's loss reaches the parameters, from which steps with privacy take per-patient gradients.

While a tape records, layers tell it their inputs and outputs. One backward pass towards the outputs then gives, for
every patient, the norm of the gradient of *all* parameters without forming it (ghost norms: Li et al. 2021, arXiv
2110.05679), and for any coefficients c the weighted sum Σ c_i g_i (book-keeping: Bu et al. 2022, arXiv 2210.00038).

Nothing here knows of models. Layers of torch are recorded by hooks (`remind.training.private.layers`); a module that
uses parameters of its own calls `per_patient`, `gathered` or `Tape.product`, and names them in ``taped``. Without a
tape these calls give what the model computes anyway, bit for bit.

Shapes: B patients of the step, P of them at hand (those who have a modality), G groups, E independent products (the
experts, or 1), S rows of a patient in each, I inputs, O outputs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

Arrange = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Outer:
    """Gradients xᵀd of one parameter, one per patient, not formed.

    Attributes
    ----------
    input_EPSI, grad_EPSO
        x, and d: the gradient towards what x was multiplied to.
    patient_P
        Position of each patient in the step; None: all, in order.
    shaped
        Brings a sum (E, I, O) to the shape of the parameter.
    """

    parameter: Tensor
    input_EPSI: Tensor
    grad_EPSO: Tensor
    patient_P: Tensor | None
    shaped: Arrange


@dataclass(frozen=True)
class Whole:
    """Gradients of one small parameter, one per patient: (P, *shape). `patient_P` as in `Outer`."""

    parameter: Tensor
    grad_P: Tensor
    patient_P: Tensor | None


Part = Outer | Whole


@dataclass(frozen=True)
class Record:
    """A tensor on the way from parameters to the loss, and how its gradient gives theirs."""

    output: Tensor
    parameters: tuple[Tensor, ...]
    parts: Callable[[Tensor], list[Part]]


@dataclass
class Tape:
    """What has been recorded since the last `clear`.

    Attributes
    ----------
    patient_P
        Positions in the step of the patients whom modules see at the moment; None: all, in order.
    """

    records: list[Record] = field(default_factory=list)
    patient_P: Tensor | None = None

    def clear(self) -> None:
        """Forget the records: a step begins."""
        self.records.clear()

    def add(self, output: Tensor, parameters: Sequence[Tensor | None], parts: Callable[[Tensor], list[Part]]) -> None:
        """Record a tensor whose gradient gives those of these parameters."""
        if output.requires_grad:
            self.records.append(Record(output, tuple(p for p in parameters if p is not None), parts))

    def product(
        self,
        weight: Tensor,
        bias: Tensor | None,
        input_EPSI: Tensor,
        output: Tensor,
        arrange: Arrange,
        shaped: Arrange = lambda sum_EIO: sum_EIO,
    ) -> None:
        """Record y = x·W + b for each of E products.

        Parameters
        ----------
        weight, bias
            W, whose gradient `shaped` makes of (E, I, O), and b, (E, O).
        input_EPSI
            x.
        output, arrange
            y in the shape that the graph has, and the view of its gradient as (E, P, S, O).
        """
        seen, here = input_EPSI.detach(), self.patient_P

        def parts(grad: Tensor) -> list[Part]:
            grad_EPSO = arrange(grad)
            found: list[Part] = [Outer(weight, seen, grad_EPSO, here, shaped)]
            if bias is not None:
                grad_PEO = grad_EPSO.sum(dim=2).transpose(0, 1)
                found.append(Whole(bias, grad_PEO.reshape(len(grad_PEO), *bias.shape), here))
            return found

        self.add(output, (weight, bias), parts)

    @contextmanager
    def seeing(self, patient_P: Tensor) -> Iterator[None]:
        """Inside the block modules see only these patients of the step."""
        before, self.patient_P = self.patient_P, patient_P
        try:
            yield
        finally:
            self.patient_P = before


_CURRENT: ContextVar[Tape | None] = ContextVar("tape", default=None)


def recording() -> Tape | None:
    """Return the tape that records at the moment; None: none does."""
    return _CURRENT.get()


@contextmanager
def record(tape: Tape) -> Iterator[None]:
    """Record on a tape inside the block."""
    token = _CURRENT.set(tape)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def per_patient(parameter: Tensor, patients: int) -> Tensor:
    """Return a small parameter once for each of P patients, (P, *shape); without a tape once for all, (1, *shape)."""
    tape = recording()
    if tape is None or not parameter.requires_grad:
        return parameter.unsqueeze(0)
    here, copies_P = tape.patient_P, parameter.unsqueeze(0).expand(patients, *parameter.shape)
    tape.add(copies_P, (parameter,), lambda grad_P: [Whole(parameter, grad_P, here)])
    return copies_P


def gathered(stacked_G: Tensor, row_B: Tensor, owners: Sequence[Tensor | None]) -> Tensor:
    """Return each patient's own of G tensors, ``stacked_G[row_B]``.

    Parameters
    ----------
    owners
        The parameter that each of the G tensors is; None: it is none, and carries no gradient.
    """
    tape, own_B = recording(), stacked_G[row_B]
    if tape is None:
        return own_B
    if tape.patient_P is not None:
        raise ValueError("parameters of groups are of the fusion model, which sees all patients of a step")

    def parts(grad_B: Tensor) -> list[Part]:
        found: list[Part] = []
        for row, owner in enumerate(owners):
            patient_P = (row_B == row).nonzero().squeeze(1)
            if owner is not None and len(patient_P):
                found.append(Whole(owner, grad_B[patient_P], patient_P))
        return found

    present = set(row_B.tolist())
    tape.add(own_B, [owner for row, owner in enumerate(owners) if row in present], parts)
    return own_B


def norms_of(parts: Sequence[Part], patients: int) -> Tensor:
    """Return the squared norm of each patient's gradient of one parameter, (B,): its parts are summed first."""
    if all(isinstance(part, Whole) for part in parts):
        wholes = [part for part in parts if isinstance(part, Whole)]
        if len(wholes) == 1:
            square_P = _rows(wholes[0].grad_P).square().sum(dim=1)
            return _placed(square_P, wholes[0].patient_P, patients)
        grad_B = sum(_placed(_rows(part.grad_P), part.patient_P, patients) for part in wholes)
        assert isinstance(grad_B, Tensor)
        return grad_B.square().sum(dim=1)
    outers = [part for part in parts if isinstance(part, Outer)]
    if len(outers) != len(parts):
        raise ValueError("a parameter is used both in a product and by itself")
    first = outers[0]
    if len(outers) == 1:
        return _placed(_outer_norms(first.input_EPSI, first.grad_EPSO), first.patient_P, patients)
    inputs = [_placed(part.input_EPSI, part.patient_P, patients, dim=1) for part in outers]
    grads = [_placed(part.grad_EPSO, part.patient_P, patients, dim=1) for part in outers]
    return _outer_norms(torch.cat(inputs, dim=2), torch.cat(grads, dim=2))


def weighted_sum(part: Part, coefficient_B: Tensor) -> Tensor:
    """Return Σ_i c_i·g_i of a part, in the shape of its parameter."""
    c_P = coefficient_B if part.patient_P is None else coefficient_B[part.patient_P]
    if isinstance(part, Whole):
        return (c_P @ _rows(part.grad_P)).view(part.parameter.shape)
    grad_EPSO = part.grad_EPSO * c_P[None, :, None, None]
    return part.shaped(part.input_EPSI.flatten(1, 2).transpose(1, 2) @ grad_EPSO.flatten(1, 2))


def _outer_norms(input_EPSI: Tensor, grad_EPSO: Tensor) -> Tensor:
    """‖Σ_s x_s ⊗ d_s‖² of each patient, summed over the E products, (P,): ⟨XXᵀ, DDᵀ⟩, or the product if smaller."""
    rows, inputs, outputs = input_EPSI.shape[2], input_EPSI.shape[3], grad_EPSO.shape[3]
    if rows == 1:
        return (input_EPSI.square().sum(dim=(2, 3)) * grad_EPSO.square().sum(dim=(2, 3))).sum(dim=0)
    if rows * (inputs + outputs) <= inputs * outputs:
        gram_EPSS = input_EPSI @ input_EPSI.transpose(2, 3)
        return (gram_EPSS * (grad_EPSO @ grad_EPSO.transpose(2, 3))).sum(dim=(0, 2, 3)).clamp_min(0)
    return (input_EPSI.transpose(2, 3) @ grad_EPSO).square().sum(dim=(0, 2, 3))


def _placed(tensor_P: Tensor, patient_P: Tensor | None, patients: int, dim: int = 0) -> Tensor:
    """Rows of P patients among those of all B, zeros for the others."""
    if patient_P is None:
        return tensor_P
    shape = list(tensor_P.shape)
    shape[dim] = patients
    return tensor_P.new_zeros(shape).index_copy(dim, patient_P, tensor_P)


def _rows(grad_P: Tensor) -> Tensor:
    """One row per patient, (P, numbers): of a scalar parameter too, and of no patient."""
    return grad_P.reshape(len(grad_P), math.prod(grad_P.shape[1:]))
