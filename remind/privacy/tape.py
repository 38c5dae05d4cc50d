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

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from remind.former_names import moved
from remind.privacy.tape_parts import Arrange, Outer, Part, Separate, Whole, square

__getattr__ = moved(__name__, {"remind.privacy.tape_parts": "restricted rows_of squared_norms weighted_sum"})


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
                    square_XP[x, i] = square(found.reshape(-1))
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
        """Let modules compute only these patients of the step within the block."""
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
