"""PEPSY (Nguyen et al., NeurIPS 2025, arXiv 2510.22880): selected embedding controls rescale a patient's features.

    h_i = mean of the tokens of modality i, 0 where it is absent;  z = f_e([h_1; …; h_m]) ∈ R^D
    Ψ = N controls c_n with keys k_n;  the selected ones: the `top-k` largest cos(z, k_n), w their softmax(cos/τ)
    r = 1 + f_r([z; Σ w_n c_n]);  head on LN(z ∘ r)
    loss + pull·mean over the selected of (1 − cos(z, k_n)), which changes the keys only

Patients with the same pattern of missing data select the controls that this pattern has trained: Ψ is a hospital's
profile. f_e, f_r and the head are averaged. *Controls are not* (`FusionModel.merged`). As in probabilistic federated
prompt tuning, whose aggregation the paper uses, a hospital has a part of the common controls: it tells those that at
least its minimum count of training patients select (`gather`), and sends all others back as it received them. The
coordinator matches what was told with the previous controls, and each control becomes the mean of its matches
(`matched`). Therefore a control that one hospital's patients select moves as far as that hospital moved it, and
hospitals without such patients do not dilute it; one that nobody tells stays as it is. All hospitals have equal weight.

All hospitals start a round from the same controls. While steps are shorter than the distance between controls, each is
matched with itself; the matching matters where controls have passed each other, at high learning rates.

Our choices where the paper defines nothing: ∘ is the product; the number of controls is fixed, while federated prompt
tuning has a Beta-Bernoulli prior on it; a match is the assignment with the least squared distance. Encoders handle
features that are missing within a modality.

Shapes: B patients, m modalities, D width, N controls, K selected; R rows of N that a hospital tells.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import Count, NonNegative, Positive
from remind.fusion.base import Context, FusionModel, FusionOptions, FusionOutput, Patients, Told, registry
from remind.fusion.layers import modality_means, perceptron

ROUNDS = 10  # maximum number of matching rounds


class PepsyOptions(FusionOptions):
    """Options of the controls."""

    controls: Count = Field(16, description="N")
    top_k: Count = Field(4, description="controls selected for a patient")
    temperature: Positive = Field(0.5, description="τ of the selected controls' weights")
    pull: NonNegative = Field(0.1, description="factor of the distance between a representation and its keys")
    expansion: Count = Field(2, description="hidden width of the networks, in units of D")


@registry.register(
    "pepsy",
    title="embedding controls that a patient's keys select reconfigure the representation; matched across hospitals",
    paper="Nguyen et al., PEPSY, NeurIPS 2025, arXiv 2510.22880",
    year=2025,
    options=PepsyOptions,
)
class Pepsy(FusionModel):
    """Both stages are the same; no parameter belongs to a group."""

    merged = ("controls_NK",)
    one_space = True

    def __init__(self, context: Context, options: PepsyOptions) -> None:
        super().__init__(context, options)
        width, wide = context.width, len(context.modalities) * context.width
        self.options, self.chosen = options, min(options.top_k, options.controls)
        self.encode = perceptron(wide, options.expansion * width, width, context.dropout)
        self.reconfigure = perceptron(2 * width, options.expansion * width, width, context.dropout)
        self.controls_NK = nn.Parameter(torch.randn(options.controls, 2 * width) * width**-0.5)  # key, then control
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        z_BD = self.encode(modality_means(tokens).flatten(1))
        key_ND, control_ND = self.controls_NK.chunk(2, dim=1)
        cos_BK, place_BK = self._selected(z_BD)
        weight_BK = (cos_BK / self.options.temperature).softmax(dim=1)
        told_BD = (weight_BK.unsqueeze(2) * control_ND[place_BK]).sum(dim=1).to(z_BD.dtype)
        r_BD = 1 + self.reconfigure(torch.cat([z_BD, told_BD], dim=1))
        logits_BC = self.head(self.norm(z_BD * r_BD))
        if not self.training:
            return FusionOutput(logits_BC)
        fixed_BD = functional.normalize(z_BD.detach().to(key_ND.dtype), dim=1)
        own_BK = (fixed_BD.unsqueeze(1) * functional.normalize(key_ND[place_BK], dim=2)).sum(dim=2)
        return FusionOutput(logits_BC, auxiliary_B=self.options.pull * (1 - own_BK).mean(dim=1))

    def _selected(self, z_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosines and the numbers of the controls that each representation selects, (B, K) each."""
        key_ND = self.controls_NK.chunk(2, dim=1)[0]
        near_BN = functional.normalize(z_BD.to(key_ND.dtype), dim=1) @ functional.normalize(key_ND, dim=1).T
        cos_BK, place_BK = near_BN.topk(self.chosen, dim=1)
        return cos_BK, place_BK

    @override
    @torch.no_grad()
    def gather(self, patients: Patients, least: int, received: Mapping[str, Tensor]) -> None:
        """Set the controls that fewer than `least` patients select back to what was received."""
        before_NK = received.get("controls_NK")
        if before_NK is None:  # no controls travel: the hospital keeps its own
            return
        count_N = torch.zeros(len(before_NK), dtype=torch.long, device=self.controls_NK.device)
        for seen, _, _ in patients:
            _, place_BK = self._selected(self.encode(modality_means(seen).flatten(1)))
            count_N += place_BK.flatten().bincount(minlength=len(count_N))
        few_N1 = (count_N < least).unsqueeze(1)
        self.controls_NK.copy_(torch.where(few_N1, before_NK.to(self.controls_NK), self.controls_NK))

    @classmethod
    @override
    def merge(cls, name: str, replies: Sequence[Told], before: Tensor) -> Tensor:
        """Return the matched controls of all hospitals, each of which tells some."""
        told = [reply[(reply != sent.to(reply.dtype)).any(dim=1)].double() for reply, sent in replies]
        return matched(told, before.double()).to(before.dtype)


def matched(told: Sequence[Tensor], before_NK: Tensor) -> Tensor:
    """Return N summaries (N, K) of the rows (R, K), R ≤ N, of each hospital, starting from the previous summaries.

    Repeat until nothing changes: assign each hospital's rows to the summaries, one to one, with the least sum of
    squared distances; replace each summary with the mean of its rows. A summary without a row is the previous one. The
    order of the hospitals does not matter.
    """
    from scipy.optimize import linear_sum_assignment

    summary_NK, last = before_NK, None
    for _ in range(ROUNDS):
        places = [linear_sum_assignment(torch.cdist(summary_NK, row_RK).square().numpy()) for row_RK in told]
        sum_NK, count_N = torch.zeros_like(before_NK), torch.zeros(len(before_NK), dtype=torch.long)
        for row_RK, (place_R, row_R) in zip(told, places, strict=True):
            sum_NK[place_R] += row_RK[row_R]
            count_N[place_R] += 1
        summary_NK = torch.where(count_N[:, None] > 0, sum_NK / count_N.clamp(min=1)[:, None], before_NK)
        if last is not None and all(np.array_equal(a, b) for a, b in zip(places, last, strict=True)):
            break
        last = places
    return summary_NK
