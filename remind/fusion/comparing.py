"""Fusion models that compare patients: in training with those of the step, otherwise with a fixed sample of the site.

Therefore a prediction does not depend on the other patients of the batch, and can be repeated. The sample contains
training patients, also in stage 1; it is empty without a support.

Shapes: B patients, R patients of the sample, m modalities, D width.
"""

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from remind.config import Count
from remind.fusion.base import Context, FusionModel, FusionOptions
from remind.fusion.layers import modality_means
from remind.fusion.support import Support


class ComparingOptions(FusionOptions):
    """Size of the sample."""

    reference: Count = Field(256, description="training patients of the site to compare with outside training, at most")


class ComparingModel(FusionModel):
    """Base class of these models. Training couples the patients of a step; both stages are the same."""

    compares = 256  # the options replace it
    not_exported = "it compares with a hospital's training patients, whose tokens do not leave the hospital"

    def __init__(self, context: Context, options: ComparingOptions) -> None:
        super().__init__(context, options)
        self.compares = options.reference
        self._support: Support | None = None

    @override
    def set_support(self, support: Support | None) -> None:
        self._support = support

    def reference(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sample: means of each modality's tokens (R, m, D), 0 where absent, and presence (R, m).

        The tensors have the type and device of `like`.
        """
        if self._support is None:
            modalities = len(self.context.modalities)
            means_RmD = like.new_zeros(0, modalities, self.context.width)
            return means_RmD, means_RmD.new_zeros(0, modalities).bool()
        tokens, presence_Rm = self._support.patients(self.compares)
        presence_Rm = presence_Rm.to(like.device)
        means_RmD = modality_means([self.of_others(i, z_RlD.to(like)) for i, z_RlD in enumerate(tokens)])
        return torch.where(presence_Rm.unsqueeze(2), means_RmD, 0.0), presence_Rm
