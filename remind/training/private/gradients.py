"""The gradient of a private step: the noisy sum of clipped per-patient gradients, divided by a public number.

    g = (Σ_i min(1, C/‖g_i‖)·g_i + N(0, σ²C²)) / (q·n),   g_i = ∇ r_i·ℓ_i over all trained parameters together

(DP-SGD: Abadi et al. 2016, arXiv 1607.00133, with Poisson sampling and ghost norms). Weights are applied before
clipping, so one patient changes the sum by at most C, regardless of the weight. Every trained parameter gets noise,
even if no sampled patient has a gradient for it, because the absence of noise would reveal this.

Shapes: B patients of the step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from typing_extensions import override

from remind.objectives.base import Objective, StepInput
from remind.privacy.noise import Randomness, add_noise
from remind.privacy.tape import Part, Tape, Whole, record, squared_norms, weighted_sum
from remind.training.gradients import Gradients
from remind.training.private.layers import record_layers, unrecorded_error
from remind.training.site_model import SiteModel


@dataclass(frozen=True)
class Clipping:
    """Clipping norm, noise and normaliser of a step.

    Attributes
    ----------
    clip, noise
        C and σ.
    patients
        q·n, the expected number of patients of a step, with the published n.
    """

    clip: float
    noise: float
    patients: float


@dataclass(frozen=True)
class ClippedSum:
    """The sum of clipped gradients by parameter name, without noise, and each patient's norm before clipping, (B,)."""

    sums: Mapping[str, Tensor]
    norm_B: Tensor


class PrivateGradients(Gradients):
    """Gradients that satisfy differential privacy for the patients of a site.

    Parameters
    ----------
    model
        Encoders and fusion. Parameters that require a gradient are trained.
    how
        Clipping norm, noise and normaliser.
    secret, question
        See `Randomness`.
    idle
        Returns whether a parameter, by its name, is trained in no step of this stage, independent of the sampled
        patients. It gets no gradient.
    """

    def __init__(
        self,
        model: SiteModel,
        how: Clipping,
        secret: bytes,
        question: str,
        idle: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self.model, self.how, self.idle = model, how, idle
        self._secret, self._question = secret, question
        self._tape, self._steps = Tape(), 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the inputs and outputs of layers. Tokens must be computed within this context, before `compute`."""
        self._tape.clear()
        with record_layers(self.model), record(self._tape):
            yield

    @override
    def compute(self, objective: Objective, step: StepInput) -> None:
        sums = self.clipped_sum(objective, step).sums if len(step.weight_B) else {}
        self._write(sums)

    def compute_empty(self) -> None:
        """Write the gradient of a step without patients, which is only noise."""
        self._write({})

    def clipped_sum(self, objective: Objective, step: StepInput) -> ClippedSum:
        """Return the sum of the clipped gradients of the patients of a step.

        Raises
        ------
        UserError
            The tape has no record of a trained parameter.
        """
        named = self._training()
        names = {id(parameter): name for name, parameter in named.items()}
        loss = (step.weight_B * objective.patient_losses(step)).sum()
        records, patients = list(self._tape.records), len(step.weight_B)
        self._tape.clear()
        # The pass also computes the gradients of parameters without a record, to check that they have none. It does
        # not compute those of recorded parameters.
        explained = {id(parameter) for one in records for parameter in one.parameters}
        others = {name: p for name, p in self.model.named_parameters() if p.requires_grad and id(p) not in explained}
        outputs = [one.output for one in records]
        found = torch.autograd.grad(loss, [*outputs, *others.values()], allow_unused=True)
        parts: dict[str, list[Part]] = {}
        for one, grad in zip(records, found, strict=False):
            if grad is not None:
                for part in one.parts(grad):
                    if id(part.parameter) in names:
                        parts.setdefault(names[id(part.parameter)], []).append(part)
        for name, grad in zip(others, found[len(records) :], strict=True):
            if grad is not None:
                raise unrecorded_error(name)
        return self._clipped(parts, patients, step.weight_B)

    def _clipped(self, parts: Mapping[str, Sequence[Part]], patients: int, like: Tensor) -> ClippedSum:
        square_B = torch.zeros(patients, dtype=like.dtype, device=like.device)
        for several in parts.values():
            square_B += squared_norms(several, patients).to(square_B.dtype)
        norm_B = square_B.sqrt()
        coefficient_B = (self.how.clip / norm_B.clamp_min(1e-30)).clamp(max=1.0)
        sums = {
            name: torch.stack([weighted_sum(part, coefficient_B.to(_dtype(part))) for part in several]).sum(dim=0)
            for name, several in parts.items()
        }
        return ClippedSum(sums, norm_B)

    def _training(self) -> dict[str, Parameter]:
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad and not self.idle(n)}

    @torch.no_grad()
    def _write(self, sums: Mapping[str, Tensor]) -> None:
        """Add noise to the sum over all parameters and write the gradient."""
        self._tape.clear()
        named = dict(sorted(self._training().items()))
        exact = [
            sums[name].double().cpu().numpy().reshape(-1) if name in sums else np.zeros(parameter.numel())
            for name, parameter in named.items()
        ]
        randomness = Randomness(self._secret, self._question, f"noise of step {self._steps}")
        self._steps += 1
        if not named:
            return
        given = add_noise(np.concatenate(exact), self.how.clip, self.how.noise, randomness) / self.how.patients
        pieces = torch.split(torch.from_numpy(given), [parameter.numel() for parameter in named.values()])
        for parameter, piece in zip(named.values(), pieces, strict=True):
            parameter.grad = piece.view(parameter.shape).to(parameter)


def _dtype(part: Part) -> torch.dtype:
    return part.grad_P.dtype if isinstance(part, Whole) else part.grad_EPSO.dtype
