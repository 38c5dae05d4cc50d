"""Parts of per-patient gradients that a tape records, their norms and weighted sums.

Shapes: as in `remind.privacy.tape`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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


def squared_norms(parts: Sequence[Part], patients: int) -> Tensor:
    """Return the squared norm of each patient's gradient of one parameter, (B,), after summing its parts."""
    wholes = [part for part in parts if isinstance(part, Whole)]
    outers = [part for part in parts if isinstance(part, Outer)]
    if len(parts) == 1:
        return _scatter(_square_of(parts[0]), parts[0].patient_P, patients)
    if len(wholes) == len(parts):
        return square(rows_of(parts, patients))
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
    return square(_flatten(part.grad_P)) if isinstance(part, Whole) else _outer_norms(part)


def _outer_norms(part: Outer) -> Tensor:
    """Return ‖Σ_s x_s ⊗ d_s‖² of each patient, summed over the E products, (P,).

    Computes ⟨XXᵀ, DDᵀ⟩, or forms the product XᵀD if that is smaller.
    """
    input_EPSI, grad_EPSO = part.input_EPSI, part.grad_EPSO
    if input_EPSI.shape[2] == 1:
        return (square(input_EPSI.squeeze(2)) * square(grad_EPSO.squeeze(2))).sum(dim=0)
    if part.is_small:
        return square(part.formed().grad_P)
    gram_EPSS = input_EPSI @ input_EPSI.transpose(2, 3)
    return (gram_EPSS * (grad_EPSO @ grad_EPSO.transpose(2, 3))).sum(dim=(0, 2, 3)).clamp_min(0)


def square(rows_PX: Tensor) -> Tensor:
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
