"""Logit adjustment by the class prior of each group."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from remind.config import NonNegative
from remind.objectives.base import Labels, Objective, registry
from remind.registry import Options


class LogitAdjustmentOptions(Options):
    """The strength of the adjustment."""

    tau: NonNegative = Field(1.0, description="τ of the adjusted logits f + τ·ln π")


@registry.register(
    "logit_adjustment",
    title="cross-entropy on logits + τ·ln(class prior of the patient's group)",
    paper="Menon et al., Long-tail learning via logit adjustment",
    year=2021,
    options=LogitAdjustmentOptions,
)
class LogitAdjustment(Objective):
    """ℓ = −ln softmax(f + τ·ln π_k)_y, with π_k the class shares among the training patients of the patient's group.

    Predictions use f alone. The paper has one prior; prevalence differs several-fold between modality combinations, so
    the prior here is the group's. One patient is added to each class; otherwise a class that a small group lacks would
    have the logit −∞. A group that was never seen is not adjusted.
    """

    outcomes = "it adjusts the logits of classes"
    needs_labels = True
    options: LogitAdjustmentOptions

    @override
    def criterion(self, logits_BC: Tensor, label_B: Tensor, group_B: Tensor, labels: Labels) -> Tensor:
        classes = logits_BC.shape[1]
        present, row_B = torch.unique(group_B, return_inverse=True)
        counts = [labels.get(k, (0,) * classes) for k in present.tolist()]
        count_GC = torch.tensor(counts, dtype=logits_BC.dtype, device=logits_BC.device) + 1
        log_prior_GC = (count_GC / count_GC.sum(dim=1, keepdim=True)).log()
        return functional.cross_entropy(logits_BC + self.options.tau * log_prior_GC[row_B], label_B, reduction="none")
