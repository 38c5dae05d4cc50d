"""The gradient of a private step: the noisy sum of clipped per-patient gradients, divided by a public number.

    g = (Σ_i min(1, C/‖g_i‖)·g_i + N(0, σ²C²)) / (q·n),   g_i = ∇ r_i·ℓ_i over all trained parameters together

(DP-SGD: Abadi et al. 2016, arXiv 1607.00133, with Poisson sampling and ghost norms). Weights are applied before
clipping, so one patient changes the sum by at most C, regardless of the weight. Every trained parameter gets noise,
even if no sampled patient has a gradient for it, because the absence of noise would reveal this.

Shapes: B patients of the step, P numbers of some parameters.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter
from typing_extensions import override

from remind.objectives.base import Objective, StepInput
from remind.privacy.noise import PIECE, DrawnAhead, GridNoise, Randomness, draw
from remind.privacy.tape import Tape, record
from remind.privacy.tape_parts import Part, restricted, rows_of, squared_norms, weighted_sum
from remind.training.gradients import Gradients
from remind.training.private.layers import (
    Buffers,
    buffers,
    record_layers,
    require_unchanged,
    unrecorded_error,
)
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


@dataclass(frozen=True)
class Each:
    """Each patient's gradient of some parameters, flat and side by side, (B, P), and the norm over all, (B,)."""

    gradient_BP: Tensor
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
        self._noise: DrawnAhead | None = None
        self._buffers: Buffers = {}

    @contextmanager
    def recording(self, noisy: bool = True) -> Iterator[None]:
        """Record the inputs and outputs of layers. Tokens must be computed within this context, before `compute`.

        Parameters
        ----------
        noisy
            Whether `compute` is called. It needs as many normal numbers as there are parameters, and another thread
            draws them in the meantime: they depend on no patient.
        """
        self._tape.clear()
        self._buffers = buffers(self.model)
        with ThreadPoolExecutor(1) as thread, record_layers(self.model), record(self._tape):
            if noisy:
                numbers = sum(parameter.numel() for parameter in self.training().values())
                self._noise = DrawnAhead(self._randomness(), numbers, thread)
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
        return self._clipped(self._parts(objective, step), len(step.weight_B), step.weight_B)

    def each(self, objective: Objective, step: StepInput, names: Sequence[str]) -> Each:
        """Return every patient's own gradient of these parameters, which must be small, and the norm of all of it.

        No step needs it: anybody who knows the model can compute it from records.

        Raises
        ------
        UserError, ValueError
            As for the clipped sum; one of the parameters is a matrix of a layer, whose gradients are never formed.
        """
        parts, patients = self._parts(objective, step), len(step.weight_B)
        norm_B = self._norms(parts, patients, step.weight_B)
        named = dict(self.model.named_parameters())
        rows = [
            rows_of(parts[name], patients) if name in parts else norm_B.new_zeros(patients, named[name].numel())
            for name in names
        ]
        return Each(torch.cat(rows, dim=1), norm_B)

    def _parts(self, objective: Objective, step: StepInput) -> dict[str, list[Part]]:
        """Return how each patient's loss reaches the parameters that train, by name."""
        named = self.training()
        names = {id(parameter): name for name, parameter in named.items()}
        loss = (step.weight_B * objective.patient_losses(step)).sum()
        require_unchanged(self.model, self._buffers)
        explained = {id(parameter) for one in self._tape.records for parameter in one.parameters}
        records = [one for one in self._tape.records if any(id(parameter) in names for parameter in one.parameters)]
        self._tape.clear()
        # The pass also computes the gradients of parameters without a record, to check that they have none. It does
        # not compute those of recorded parameters.
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
        return parts

    def _clipped(self, parts: Mapping[str, Sequence[Part]], patients: int, like: Tensor) -> ClippedSum:
        norm_B = self._norms(parts, patients, like)
        coefficient_B = (self.how.clip / norm_B.clamp_min(1e-30)).clamp(max=1.0)
        finite_B = torch.isfinite(norm_B)
        if not finite_B.all():  # of a model chosen so that some patient's gradient overflows: he counts as zero, which
            coefficient_B = coefficient_B.where(finite_B, 0.0)  # clipping allows; a refusal would tell that he is here
            parts = {name: [restricted(part, finite_B) for part in several] for name, several in parts.items()}
        sums: dict[str, Tensor] = {}
        for name, several in parts.items():
            for part in several:
                total = weighted_sum(part, coefficient_B.to(part.parameter.dtype))
                sums[name] = sums[name] + total if name in sums else total
        return ClippedSum(sums, norm_B)

    @staticmethod
    def _norms(parts: Mapping[str, Sequence[Part]], patients: int, like: Tensor) -> Tensor:
        square_B = torch.zeros(patients, dtype=like.dtype, device=like.device)
        for several in parts.values():
            square_B += squared_norms(several, patients).to(square_B.dtype)
        return square_B.sqrt()

    def training(self) -> dict[str, Parameter]:
        """Return the parameters that train in these steps, by name."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad and not self.idle(n)}

    def _randomness(self) -> Randomness:
        return Randomness(self._secret, self._question, f"noise of step {self._steps}")

    @torch.no_grad()
    def _write(self, sums: Mapping[str, Tensor]) -> None:
        """Add noise to the sum over all parameters and write the gradient, a piece of the cache's size at a time."""
        self._tape.clear()
        named = dict(sorted(self.training().items()))
        numbers = sum(parameter.numel() for parameter in named.values())
        ahead, self._noise = self._noise, None
        drawn_P = ahead.result() if ahead is not None else draw(self._randomness(), numbers)
        self._steps += 1
        if len(drawn_P) != numbers:
            raise ValueError("noise was drawn for another number of parameters")
        noise = GridNoise(self.how.clip, self.how.noise, numbers)  # P: of all parameters
        end = 0
        for name, parameter in named.items():
            exact = sums[name].reshape(-1).cpu() if name in sums else torch.zeros(parameter.numel())
            gradient = torch.empty(parameter.numel(), dtype=parameter.dtype)
            for piece, into in zip(torch.split(exact, PIECE), torch.split(gradient, PIECE), strict=True):
                begin, end = end, end + len(piece)
                given = noise.add(piece.double().numpy(), drawn_P[begin:end])
                into.copy_(torch.from_numpy(given)).div_(self.how.patients)
            parameter.grad = gradient.view(parameter.shape).to(parameter.device)
