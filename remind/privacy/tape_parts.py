"""Parts of per-patient gradients that a tape records, their norms and weighted sums.

A norm is never too small: where sums can cancel, what rounding can have taken from it is added. A coordinator chooses
the model, and with activations of a mean far above their spread it could otherwise make a norm vanish in rounding.

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
        apart_B = torch.stack([_scatter(_square_of(part), part.patient_P, patients).sqrt() for part in parts]).sum(
            dim=0
        )
        return square(rows_of(parts, patients)) + _rounding(apart_B, len(parts)) * apart_B.square()
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
    """Return at least ‖Σ_s x_s ⊗ d_s‖² of each patient, summed over the E products, (P,).

    Computes ⟨XXᵀ, DDᵀ⟩, or forms the product XᵀD if that is smaller. Of the first, terms cancel if the rows of d add up
    to little and those of x have a common mean. What rounding takes from it, a part of ‖X‖²·‖D‖² at most, is added, and
    so is what numbers that are too small for their format can have lost.
    """
    input_EPSI, grad_EPSO = part.input_EPSI, part.grad_EPSO
    rows, inputs, outputs = *input_EPSI.shape[2:], grad_EPSO.shape[3]
    if rows == 1:
        return (_length(input_EPSI.squeeze(2)) * _length(grad_EPSO.squeeze(2))).square().sum(dim=0)
    if part.is_small:
        square_P = square(part.formed().grad_P)
        squares_EP = [square(x_EPSX.flatten(2)) for x_EPSX in (input_EPSI, grad_EPSO)]
    else:
        gram_EPSS, other_EPSS = input_EPSI @ input_EPSI.transpose(2, 3), grad_EPSO @ grad_EPSO.transpose(2, 3)
        square_P = (gram_EPSS * other_EPSS).sum(dim=(0, 2, 3)).clamp_min(0)
        squares_EP = [x_EPSS.diagonal(dim1=2, dim2=3).sum(dim=2) for x_EPSS in (gram_EPSS, other_EPSS)]
    input_EP, grad_EP = squares_EP
    rounded_EP = _rounding(grad_EPSO, rows + inputs + outputs) * input_EP * grad_EP
    lost_EP = _tiny(grad_EPSO) * rows * (inputs * grad_EP + outputs * input_EP)
    return square_P + (rounded_EP + lost_EP).sum(dim=0)


def _length(rows_EPX: Tensor) -> Tensor:
    """Return at least ‖x‖ along the last dimension, also where its square is too small for the format."""
    norm_EP: Tensor = torch.linalg.vector_norm(rows_EPX, dim=-1)
    return norm_EP + math.sqrt(rows_EPX.shape[-1] * _tiny(rows_EPX))


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).smallest_normal


def _rounding(like: Tensor, terms: int) -> float:
    """Return a bound on the relative error of a sum of so many terms, whatever its order (Higham 2002, chapter 3)."""
    return terms * torch.finfo(like.dtype).eps / 2


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
