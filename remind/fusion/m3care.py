"""M3Care (Zhang et al., KDD 2022): an absent modality is imputed from similar patients.

    S^i_{ab} = (1 − σ(ε_i))·k(φ_i(h_a), φ_i(h_b)) + σ(ε_i)·k(h_a, h_b),  k(x, y) = mean over w of exp(−‖x − y‖²/w)
    S_{ab} = mean of S^i_{ab} over the modalities i that both have;  A = relu(S − σ(t)), a patient is its own neighbour
    ĥ_i = two layers relu(Ā_i · W) over the neighbours who have modality i, Ā_i rows summing to 1
    present: g·h_i + (1 − g)·ĥ_i, g = σ(gate_i[h_i; ĥ_i]);  absent: ĥ_i
    transformer over the m modalities, head on the mean

h_i is the mean of modality i's tokens. The bandwidths are ½, 1 and 2 times the mean squared distance of the compared
patients. Difference, so that a prediction can be repeated: in training the neighbours are the patients of the step.
Outside training they are a fixed sample of training patients of the same site (`Support.patients`) and the patient
itself, never other patients of the batch; patients of the sample have neighbours only in the sample. For a patient
without similar patients, ĥ_i comes from the patient itself if it has the modality, otherwise from an input of 0.

Shapes: B patients, R patients to compare with, m modalities, D width, C classes.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from remind.config import Count
from remind.fusion.base import Context, FusionOutput, registry
from remind.fusion.comparing import ComparingModel, ComparingOptions
from remind.fusion.layers import TransformerLayer, modality_means, perceptron

BANDWIDTHS = (0.5, 1.0, 2.0)


class M3CareOptions(ComparingOptions):
    """Sizes. The structure is the paper's."""

    expansion: Count = Field(4, description="hidden width of the transformer layer's perceptron, in units of D")


@registry.register(
    "m3care",
    title="absent modalities imputed from similar patients by graph convolution, then a transformer over modalities",
    paper="Zhang et al., M3Care: learning with missing modalities in multimodal healthcare data, KDD 2022",
    year=2022,
    options=M3CareOptions,
)
class M3Care(ComparingModel):
    """Both stages are the same; no parameter belongs to a group. Training couples the patients of a step."""

    def __init__(self, context: Context, options: M3CareOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, range(len(context.modalities))
        self.project = nn.ModuleList(perceptron(width, width, width, context.dropout) for _ in modalities)
        self.mix_m = nn.Parameter(torch.zeros(len(modalities)))
        self.threshold = nn.Parameter(torch.zeros(()))
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in modalities)
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in modalities)
        self.gates = nn.ModuleList(nn.Linear(2 * width, width) for _ in modalities)
        self.position_mD = nn.Parameter(torch.zeros(len(modalities), width))
        self.layer = TransformerLayer(width, context.heads, options.expansion * width, context.dropout)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        h_BmD = modality_means(tokens)
        if self.training:
            imputed_BmD = self._imputed(h_BmD, presence_Bm)
        else:
            imputed_BmD = self._imputed_from(h_BmD, presence_Bm, *self.reference(h_BmD))
        parts = []
        for i, gate in enumerate(self.gates):
            share_BD = gate(torch.cat([h_BmD[:, i], imputed_BmD[:, i]], dim=1)).sigmoid()
            mixed_BD = share_BD * h_BmD[:, i] + (1 - share_BD) * imputed_BmD[:, i]
            parts.append(torch.where(presence_Bm[:, i, None], mixed_BD, imputed_BmD[:, i]))
        z_BmD = self.layer(torch.stack(parts, dim=1) + self.position_mD)
        return FusionOutput(self.head(self.norm(z_BmD).mean(dim=1)))

    def _imputed(self, h_BmD: Tensor, presence_Bm: Tensor) -> Tensor:
        """Return ĥ of patients who are compared with each other, (B, m, D)."""
        near_BB = self._near(h_BmD, presence_Bm, h_BmD, presence_Bm, self._scales(h_BmD, presence_Bm))
        near_BB = near_BB.masked_fill(torch.eye(len(near_BB), dtype=torch.bool, device=near_BB.device), 1.0)
        imputed = []
        for i, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            among_BB = _rows(near_BB * presence_Bm[:, i])
            x_BD = torch.relu(first(among_BB @ h_BmD[:, i]))
            imputed.append(torch.relu(second(among_BB @ x_BD)))
        return torch.stack(imputed, dim=1)

    def _imputed_from(self, h_BmD: Tensor, presence_Bm: Tensor, r_RmD: Tensor, has_Rm: Tensor) -> Tensor:
        """Return ĥ of patients who are compared with the R and with themselves, (B, m, D)."""
        scales = self._scales(r_RmD, has_Rm)
        within_RR = self._near(r_RmD, has_Rm, r_RmD, has_Rm, scales)
        within_RR = within_RR.masked_fill(torch.eye(len(r_RmD), dtype=torch.bool, device=r_RmD.device), 1.0)
        near_BR = self._near(h_BmD, presence_Bm, r_RmD, has_Rm, scales)
        imputed = []
        for i, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            y_RD = torch.relu(first(_rows(within_RR * has_Rm[:, i]) @ r_RmD[:, i]))
            own_B1 = presence_Bm[:, i, None].to(near_BR.dtype)
            among_B = _rows(torch.cat([near_BR * has_Rm[:, i], own_B1], dim=1))
            among_BR, itself_B1 = among_B[:, :-1], among_B[:, -1:]
            x_BD = torch.relu(first(among_BR @ r_RmD[:, i] + itself_B1 * h_BmD[:, i]))
            imputed.append(torch.relu(second(among_BR @ y_RD + itself_B1 * x_BD)))
        return torch.stack(imputed, dim=1)

    def _spaces(self, h_BmD: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the raw and the projected features of each modality."""
        return [(h_BD, project(h_BD)) for h_BD, project in zip(h_BmD.unbind(1), self.project, strict=True)]

    def _scales(self, r_RmD: Tensor, has_Rm: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the mean squared distance of the patients with each modality, raw and projected; without gradient."""
        return [
            (_spread(raw_RD[has_R]), _spread(projected_RD[has_R]))
            for (raw_RD, projected_RD), has_R in zip(self._spaces(r_RmD.detach()), has_Rm.unbind(1), strict=True)
        ]

    def _near(
        self, a_AmD: Tensor, has_Am: Tensor, b_BmD: Tensor, has_Bm: Tensor, scales: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Return relu(S − σ(t)) of each pair, (A, B)."""
        total_AB = a_AmD.new_zeros(len(a_AmD), len(b_BmD))
        shared_AB = has_Am.to(total_AB.dtype) @ has_Bm.to(total_AB.dtype).t()
        pairs = zip(self._spaces(a_AmD), self._spaces(b_BmD), scales, self.mix_m.sigmoid(), strict=True)
        for i, ((a_AD, pa_AD), (b_BD, pb_BD), (scale, projected_scale), mix) in enumerate(pairs):
            alike_AB = (1 - mix) * _kernel(pa_AD, pb_BD, projected_scale) + mix * _kernel(a_AD, b_BD, scale)
            total_AB = total_AB + alike_AB * (has_Am[:, i, None] & has_Bm[None, :, i])
        return torch.relu(total_AB / shared_AB.clamp(min=1) - self.threshold.sigmoid())


def _squared(a_AD: Tensor, b_BD: Tensor) -> Tensor:
    """Return squared Euclidean distances, (A, B), computed from inner products in the type of the input."""
    a_A1, b_1B = a_AD.square().sum(dim=1, keepdim=True), b_BD.square().sum(dim=1).unsqueeze(0)
    return (a_A1 + b_1B - 2 * a_AD @ b_BD.t()).clamp(min=0)


def _spread(x_RD: Tensor) -> Tensor:
    """Return the mean squared distance of two different rows, 2·the summed variance; 1 if there are fewer than two."""
    if len(x_RD) < 2:
        return x_RD.new_ones(())
    return 2 * x_RD.var(dim=0).sum() + 1e-6


def _kernel(a_AD: Tensor, b_BD: Tensor, scale: Tensor) -> Tensor:
    """Return the mean of Gaussian kernels over the bandwidths, (A, B)."""
    distance_AB = _squared(a_AD, b_BD) / scale
    return torch.stack([(-distance_AB / width).exp() for width in BANDWIDTHS]).mean(dim=0)


def _rows(weight_AB: Tensor) -> Tensor:
    """Return the weights normalised so that rows sum to 1, or to 0 if all weights of a row are 0."""
    return weight_AB / weight_AB.sum(dim=1, keepdim=True).clamp(min=1e-6)
