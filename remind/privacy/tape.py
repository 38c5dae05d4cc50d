"""A tape that records the forward pass of a private step, to compute norms and sums of per-patient gradients.

While a tape records, layers add their inputs and outputs to it. One backward pass to the outputs then gives the norm of
each patient's gradient over *all* parameters without forming the gradient (ghost norms: Li et al. 2021, arXiv
2110.05679), and the weighted sum Σ c_i g_i for any coefficients c (book-keeping: Bu et al. 2022, arXiv 2210.00038).

This module does not depend on models. Hooks record the layers of torch (`remind.training.private.layers`). A module
that has parameters of its own calls `per_patient`, `gather_rows` or `Tape.product`, and names the parameters in
``taped``. `Tape.separate` records any module that is called for each patient by itself. Without a tape, these calls do
not change any bit of the result.

Shapes: B patients of the step, P of them in the current subset (such as those who have a modality), G groups, E
independent products (the experts, or 1), S rows of a patient in each, I inputs, O outputs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

Arrange = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Outer:
    """Per-patient gradients xᵀd of one parameter, as their factors.

    Attributes
    ----------
    input_EPSI, grad_EPSO
        The input x, and d, the gradient of the loss with respect to the product.
    patient_P
        Position of each patient in the step; None: all patients, in order.
    shaped
        Converts a sum (E, I, O) to the shape of the parameter.
    """

    parameter: Tensor
    input_EPSI: Tensor
    grad_EPSO: Tensor
    patient_P: Tensor | None
    shaped: Arrange

    @property
    def is_small(self) -> bool:
        """Whether the gradients take no more memory than their factors: then the norm and the sum share one product."""
        rows, inputs, outputs = *self.input_EPSI.shape[2:], self.grad_EPSO.shape[3]
        return rows > 1 and inputs * outputs <= rows * (inputs + outputs)

    def formed(self) -> "Whole":
        """Form each patient's gradient."""
        products_EPIO = self.input_EPSI.transpose(2, 3) @ self.grad_EPSO
        experts, patients, inputs, outputs = products_EPIO.shape
        flat_PX = products_EPIO.transpose(0, 1).reshape(patients, experts * inputs * outputs)
        return Whole(
            self.parameter, flat_PX, self.patient_P, lambda sum_X: self.shaped(sum_X.view(experts, inputs, outputs))
        )


@dataclass(frozen=True)
class Whole:
    """Per-patient gradients of one small parameter, (P, *shape). `patient_P` as in `Outer`.

    Attributes
    ----------
    shaped
        Converts a flat sum to the shape of the parameter; None: it is in that order.
    """

    parameter: Tensor
    grad_P: Tensor
    patient_P: Tensor | None
    shaped: Arrange | None = None


@dataclass(frozen=True)
class Separate:
    """Per-patient gradients of one parameter of a module that computes each patient by itself (`Tape.separate`).

    Attributes
    ----------
    square_P
        Squared norms.
    total
        Returns the sum of the gradients with coefficients (P,).
    """

    parameter: Tensor
    square_P: Tensor
    patient_P: Tensor | None
    total: Arrange


Part = Outer | Whole | Separate


@dataclass(frozen=True)
class Record:
    """An intermediate tensor that depends on parameters, and the function from its gradient to theirs."""

    output: Tensor
    parameters: tuple[Tensor, ...]
    parts: Callable[[Tensor], list[Part]]


@dataclass
class Tape:
    """The records since the last `clear`.

    Attributes
    ----------
    patient_P
        Positions in the step of the patients in the current subset; None: all patients, in order.
    """

    records: list[Record] = field(default_factory=list)
    patient_P: Tensor | None = None

    def clear(self) -> None:
        """Remove all records before the next step."""
        self.records.clear()

    def add(self, output: Tensor, parameters: Sequence[Tensor | None], parts: Callable[[Tensor], list[Part]]) -> None:
        """Record a tensor from whose gradient `parts` computes the per-patient gradients of the parameters."""
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
            W, to whose shape `shaped` converts a gradient (E, I, O), and b, (E, O).
        input_EPSI
            x.
        output, arrange
            y in the shape that it has in the graph, and the function that views its gradient as (E, P, S, O).
        """
        seen, here = input_EPSI.detach(), self.patient_P

        def parts(grad: Tensor) -> list[Part]:
            grad_EPSO = arrange(grad)
            outer = Outer(weight, seen, grad_EPSO, here, shaped)
            found: list[Part] = [outer.formed() if outer.is_small else outer]
            if bias is not None:
                grad_PEO = grad_EPSO.sum(dim=2).transpose(0, 1)
                found.append(Whole(bias, grad_PEO.reshape(len(grad_PEO), *bias.shape), here))
            return found

        self.add(output, (weight, bias), parts)

    def separate(self, outputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
        """Record a module that computed each of P patients by itself, whatever its layers; return its outputs together.

        Parameters
        ----------
        outputs
            One per patient, (1, …), computed without a tape.
        parameters
            Those of the module that require a gradient.
        """
        here, joined_P = self.patient_P, torch.cat(list(outputs))

        def parts(grad_P: Tensor) -> list[Part]:
            of_patient = torch.split(grad_P, 1)
            square_XP = grad_P.new_zeros(len(parameters), len(outputs))
            for i, (output, grad) in enumerate(zip(outputs, of_patient, strict=True)):
                for x, found in enumerate(gradients([output], [grad])):
                    square_XP[x, i] = _square(found.reshape(-1))
            totals: list[tuple[Tensor, tuple[Tensor, ...]]] = []

            def total(x: int, c_P: Tensor) -> Tensor:
                if not totals or not torch.equal(totals[0][0], c_P):  # one pass gives the sums of all parameters
                    counted = [i for i, c in enumerate(c_P.tolist()) if c]  # not the others: zero times infinity
                    weighted = [c_P[i] * of_patient[i] for i in counted]
                    totals[:] = [(c_P, gradients([outputs[i] for i in counted], weighted))]
                return totals[0][1][x]

            return [Separate(p, square_XP[x], here, partial(total, x)) for x, p in enumerate(parameters)]

        def gradients(of: Sequence[Tensor], grads: Sequence[Tensor]) -> tuple[Tensor, ...]:
            if not of:
                return tuple(torch.zeros_like(parameter) for parameter in parameters)
            return torch.autograd.grad(of, parameters, grads, retain_graph=True, materialize_grads=True)

        self.add(joined_P, parameters, parts)
        return joined_P

    @contextmanager
    def restricted_to(self, patient_P: Tensor) -> Iterator[None]:
        """Within the block, modules compute only these patients of the step."""
        before, self.patient_P = self.patient_P, patient_P
        try:
            yield
        finally:
            self.patient_P = before


_CURRENT: ContextVar[Tape | None] = ContextVar("tape", default=None)


def current_tape() -> Tape | None:
    """Return the tape that is recording; None if there is none."""
    return _CURRENT.get()


@contextmanager
def record(tape: Tape | None) -> Iterator[None]:
    """Record on a tape within the block; None: record nothing."""
    token = _CURRENT.set(tape)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def per_patient(parameter: Tensor, patients: int) -> Tensor:
    """Return a copy of a small parameter for each of P patients, (P, *shape); without a tape one copy, (1, *shape)."""
    tape = current_tape()
    if tape is None or not parameter.requires_grad:
        return parameter.unsqueeze(0)
    here, copies_P = tape.patient_P, parameter.unsqueeze(0).expand(patients, *parameter.shape)
    tape.add(copies_P, (parameter,), lambda grad_P: [Whole(parameter, grad_P, here)])
    return copies_P


def gather_rows(stacked_G: Tensor, row_B: Tensor, owners: Sequence[Tensor | None]) -> Tensor:
    """Return for each patient one of G tensors, ``stacked_G[row_B]``.

    Parameters
    ----------
    owners
        The parameter behind each of the G tensors; None: the tensor is not a parameter and has no gradient.
    """
    tape, own_B = current_tape(), stacked_G[row_B]
    if tape is None:
        return own_B
    if tape.patient_P is not None:
        raise ValueError("only the fusion model has parameters of groups, and it computes all patients of a step")

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


def squared_norms(parts: Sequence[Part], patients: int) -> Tensor:
    """Return the squared norm of each patient's gradient of one parameter, (B,), after summing its parts."""
    wholes = [part for part in parts if isinstance(part, Whole)]
    outers = [part for part in parts if isinstance(part, Outer)]
    if len(parts) == 1:
        return _scatter(_square_of(parts[0]), parts[0].patient_P, patients)
    if len(wholes) == len(parts):
        return _square(rows_of(parts, patients))
    if len(outers) != len(parts):
        raise ValueError("a parameter is used both in a product and elsewhere")
    inputs = [_scatter(part.input_EPSI, part.patient_P, patients, dim=1) for part in outers]
    grads = [_scatter(part.grad_EPSO, part.patient_P, patients, dim=1) for part in outers]
    first = outers[0]
    return _outer_norms(Outer(first.parameter, torch.cat(inputs, dim=2), torch.cat(grads, dim=2), None, first.shaped))


def rows_of(parts: Sequence[Part], patients: int) -> Tensor:
    """Return each patient's gradient of one parameter, flat, (B, numbers).

    Raises
    ------
    ValueError
        It is never formed: that of a product would take B times the memory of the parameter.
    """
    wholes = [part for part in parts if isinstance(part, Whole)]
    if not wholes or len(wholes) != len(parts):
        raise ValueError("gradients of a product are not formed patient by patient")
    return torch.stack([_scatter(_flatten(part.grad_P), part.patient_P, patients) for part in wholes]).sum(dim=0)


def restricted(part: Part, kept_B: Tensor) -> Part:
    """Return the part without the other patients, whose numbers may be infinite, so that they do not reach the sum."""
    if isinstance(part, Separate):  # its total leaves out who has the coefficient zero
        return part
    kept_P = kept_B if part.patient_P is None else kept_B[part.patient_P]
    index_P = kept_P.nonzero().squeeze(1)
    patient_P = index_P if part.patient_P is None else part.patient_P[index_P]
    if isinstance(part, Whole):
        return replace(part, grad_P=part.grad_P[index_P], patient_P=patient_P)
    return replace(
        part, input_EPSI=part.input_EPSI[:, index_P], grad_EPSO=part.grad_EPSO[:, index_P], patient_P=patient_P
    )


def weighted_sum(part: Part, coefficient_B: Tensor) -> Tensor:
    """Return Σ_i c_i·g_i of a part, in the shape of its parameter."""
    c_P = coefficient_B if part.patient_P is None else coefficient_B[part.patient_P]
    if isinstance(part, Separate):
        return part.total(c_P)
    if isinstance(part, Whole):
        total_X = c_P @ _flatten(part.grad_P)
        return total_X.view(part.parameter.shape) if part.shaped is None else part.shaped(total_X)
    grad_EPSO = part.grad_EPSO * c_P[None, :, None, None]
    return part.shaped(part.input_EPSI.flatten(1, 2).transpose(1, 2) @ grad_EPSO.flatten(1, 2))


def _square_of(part: Part) -> Tensor:
    """Return the squared norm of each patient's gradient, (P,)."""
    if isinstance(part, Separate):
        return part.square_P
    return _square(_flatten(part.grad_P)) if isinstance(part, Whole) else _outer_norms(part)


def _outer_norms(part: Outer) -> Tensor:
    """Return ‖Σ_s x_s ⊗ d_s‖² of each patient, summed over the E products, (P,).

    Computes ⟨XXᵀ, DDᵀ⟩, or forms the product XᵀD if that is smaller.
    """
    input_EPSI, grad_EPSO = part.input_EPSI, part.grad_EPSO
    if input_EPSI.shape[2] == 1:
        return (_square(input_EPSI.squeeze(2)) * _square(grad_EPSO.squeeze(2))).sum(dim=0)
    if part.is_small:
        return _square(part.formed().grad_P)
    gram_EPSS = input_EPSI @ input_EPSI.transpose(2, 3)
    return (gram_EPSS * (grad_EPSO @ grad_EPSO.transpose(2, 3))).sum(dim=(0, 2, 3)).clamp_min(0)


def _square(rows_PX: Tensor) -> Tensor:
    """Return ‖x‖² along the last dimension; torch reads the numbers once."""
    norm_P: Tensor = torch.linalg.vector_norm(rows_PX, dim=-1)
    return norm_P.square()


def _scatter(tensor_P: Tensor, patient_P: Tensor | None, patients: int, dim: int = 0) -> Tensor:
    """Scatter the rows of P patients to those of all B patients; the others get zeros."""
    if patient_P is None:
        return tensor_P
    shape = list(tensor_P.shape)
    shape[dim] = patients
    return tensor_P.new_zeros(shape).index_copy(dim, patient_P, tensor_P)


def _flatten(grad_P: Tensor) -> Tensor:
    """Flatten to one row per patient, (P, numbers); also for a scalar parameter and for P = 0."""
    return grad_P.reshape(len(grad_P), math.prod(grad_P.shape[1:]))
