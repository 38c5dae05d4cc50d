"""ClusMFL (Wang et al. 2025, arXiv 2502.12180): a pool of cluster centres of each modality and label.

    h_i = mean of the tokens of modality i
    each hospital: FINCH clusters its h_i of label c; P_ic: the centres of large enough clusters of all hospitals
    f_i = h_i where modality i is present, else a centre of P_iy, drawn in every step; y is the patient's own label
    head on [LN f_1; …; LN f_m]
    loss + contrast·mean over present i of −1/|P_iy| Σ_{p ∈ P_iy} ln(e^{cos(h_i, p)/τ} / Σ_{q ∈ P_i} e^{cos(h_i, q)/τ})

At prediction y is unknown. There f_i = Σ_c q_c·mean(P_ic), with q_c ∝ exp(mean over present j of
mean_{p ∈ P_jc} cos(h_j, p)/τ); the paper does not define this case. Where P_ic is empty (before the first round, or
because no hospital has enough patients with the label), a learned embedding of the modality replaces it. The encoder of
a modality is averaged in proportion to the patients who have it, as under every rule here (`federation.block_weights`).

The pool is the only part of a model that is not averaged (`FusionModel.merged`): a hospital sends its own centres and
receives the centres of all. If there are more than `pool`, the coordinator clusters them again. *A centre is the mean
feature of patients with one label*: of at least `least` patients, and of at least the hospital's minimum count.
A hospital shortens a centre whose root mean square exceeds `MOST_RMS`. The coordinator leaves out a reply with a longer
one, or with more centres of a modality and label than half the pool, so that a false reply is bounded.

Shapes: B patients, m modalities, D width, C classes, P centres in the pool.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import Count, NonNegative, Positive
from remind.fusion.base import Context, Criterion, FusionModel, FusionOptions, FusionOutput, Patients, Told, registry
from remind.fusion.finch import centres
from remind.fusion.layers import modality_means
from remind.seeds import derive

MOST_RMS = 4.0  # of a centre's numbers; cosines and the head's norm, which see centres, depend little on their length
ROUNDING = 0.01  # relative, of a centre's length on the wire (bfloat16)


class ClusMFLOptions(FusionOptions):
    """Options of the pool and of the contrastive loss."""

    pool: Count = Field(16, description="centres of each modality and label in the pool, at most; half from a hospital")
    least: Count = Field(5, description="patients behind a centre, at least")
    sample: Count = Field(
        1024, description="patients of each modality and label that a hospital clusters, at most; drawn at random"
    )
    contrast: NonNegative = Field(0.5, description="factor of the contrast with the pool")
    temperature: Positive = Field(0.5, description="τ")


@dataclass(frozen=True, kw_only=True)
class WithCentres(FusionOutput):
    """Output in training: the logits and the contrastive loss for every label that a patient may have.

    Attributes
    ----------
    of_label_BCC
        Logits of each patient if absent modalities are imputed from each label.
    contrast_BC
        The contrastive loss with the pool, for each label.
    """

    of_label_BCC: Tensor
    contrast_BC: Tensor

    @override
    def loss(self, label_B: Tensor, criterion: Criterion) -> Tensor:
        row_B = torch.arange(len(label_B), device=label_B.device)
        return criterion(self.of_label_BCC[row_B, label_B], label_B) + self.contrast_BC[row_B, label_B]


@registry.register(
    "clusmfl",
    title="pool of cluster centres of each modality and label; a centre of the same label for an absent modality",
    paper="Wang et al., ClusMFL, arXiv 2502.12180",
    year=2025,
    options=ClusMFLOptions,
)
class ClusMFL(FusionModel):
    """Both stages are the same; no parameter belongs to a group."""

    takes_alone = False  # its loss has more inputs than the common logits
    outcomes = "it has centres of each class"
    merged = ("pool_mCPD",)
    one_space = True

    def __init__(self, context: Context, options: ClusMFLOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        self.options = options
        shape = (modalities, context.classes, options.pool, width)
        self.pool_mCPD = nn.Parameter(torch.zeros(shape), requires_grad=False)  # a row of zeros is empty
        self.placeholder_mD = nn.Parameter(torch.randn(modalities, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(context.dropout)
        self.head = nn.Linear(modalities * width, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        h_BmD, pool_mCPD = modality_means(tokens), self.pool_mCPD.detach()
        filled_mCP = pool_mCPD.abs().sum(dim=3) > 0
        score_BmCP = torch.einsum("bid,icpd->bicp", _unit(h_BmD), _unit(pool_mCPD)) / self.options.temperature
        mean_mCD = self._of_label(pool_mCPD.sum(dim=2) / filled_mCP.sum(dim=2).clamp(min=1).unsqueeze(2))
        fit_BC = self._fit(score_BmCP, filled_mCP, presence_Bm)
        expected_BmD = torch.einsum("bc,icd->bid", fit_BC.softmax(dim=1), mean_mCD.to(fit_BC.dtype))
        logits_BC = self._logits(h_BmD, expected_BmD, presence_Bm)
        if not self.training:
            return FusionOutput(logits_BC)
        drawn_BCmD = self._drawn(pool_mCPD, filled_mCP, len(h_BmD))
        of_label = [self._logits(h_BmD, drawn_BCmD[:, c], presence_Bm) for c in range(drawn_BCmD.shape[1])]
        contrast_BC = self.options.contrast * self._contrast(score_BmCP, filled_mCP, presence_Bm)
        return WithCentres(logits_BC, of_label_BCC=torch.stack(of_label, dim=1), contrast_BC=contrast_BC)

    def _logits(self, h_BmD: Tensor, stand_in_BmD: Tensor, presence_Bm: Tensor) -> Tensor:
        f_BmD = torch.where(presence_Bm.unsqueeze(2), h_BmD, stand_in_BmD.to(h_BmD.dtype))
        logits_BC: Tensor = self.head(self.dropout(self.norm(f_BmD)).flatten(1))
        return logits_BC

    def _of_label(self, centre: Tensor) -> Tensor:
        """Return the features that replace each modality for each label, (…, m, C, D): centres, or placeholders."""
        empty = (centre == 0).all(dim=-1, keepdim=True)
        return torch.where(empty, self.placeholder_mD.unsqueeze(1).to(centre.dtype), centre)

    def _fit(self, score_BmCP: Tensor, filled_mCP: Tensor, presence_Bm: Tensor) -> Tensor:
        """Return the mean similarity of a patient's present modalities to the centres of each label, (B, C)."""
        mean_BmC = _mean(score_BmCP, filled_mCP.unsqueeze(0), 3)
        return _mean(mean_BmC, presence_Bm.unsqueeze(2), 1)

    def _drawn(self, pool_mCPD: Tensor, filled_mCP: Tensor, patients: int) -> Tensor:
        """Draw a centre of each label and modality for each patient, (B, C, m, D)."""
        luck_BmCP = torch.rand(patients, *filled_mCP.shape, device=pool_mCPD.device)
        choice_BmC = torch.where(filled_mCP, luck_BmCP, -1.0).argmax(dim=3)
        one_hot_BmCP = functional.one_hot(choice_BmC, pool_mCPD.shape[2]).to(pool_mCPD.dtype)
        drawn_BmCD = torch.einsum("bicp,icpd->bicd", one_hot_BmCP, pool_mCPD)
        return self._of_label(drawn_BmCD).transpose(1, 2)

    def _contrast(self, score_BmCP: Tensor, filled_mCP: Tensor, presence_Bm: Tensor) -> Tensor:
        """Return the contrastive loss of each patient, for each label that the patient may have, (B, C)."""
        masked_BmCP = score_BmCP.masked_fill(~filled_mCP, -torch.inf)
        any_m = filled_mCP.any(dim=(1, 2))
        masked_BmCP = torch.where(any_m[:, None, None], masked_BmCP, 0.0)  # without any centre there is no contrast
        log_p_BmCP = score_BmCP - masked_BmCP.logsumexp(dim=(2, 3), keepdim=True)
        loss_BmC = -_mean(log_p_BmCP, filled_mCP.unsqueeze(0), 3)
        counts_BmC = presence_Bm.unsqueeze(2) & filled_mCP.any(dim=2)
        return torch.where(counts_BmC, loss_BmC, 0.0).sum(dim=1) / presence_Bm.sum(dim=1, keepdim=True)

    # The pool

    @override
    @torch.no_grad()
    def gather(self, patients: Patients, least: int, received: Mapping[str, Tensor]) -> None:
        """Replace the pool with the centres of this hospital."""
        parts = [(modality_means(seen), presence_Bm, label_B) for seen, presence_Bm, label_B in patients]
        self.pool_mCPD.zero_()
        if not parts:
            return
        h_NmD, presence_Nm, label_N = (torch.cat(column) for column in zip(*parts, strict=True))
        for i, pool_CPD in enumerate(self.pool_mCPD):
            for c, pool_PD in enumerate(pool_CPD):
                row_R = self._sample((presence_Nm[:, i] & (label_N == c)).nonzero().squeeze(1), derive(i, "clusmfl", c))
                own_KD = centres(h_NmD[row_R, i].double(), _share(self.options.pool), max(self.options.least, least))
                pool_PD[: len(own_KD)] = _shortened(own_KD).to(pool_PD)

    def _sample(self, row_R: Tensor, seed: int) -> Tensor:
        """Return at most `sample` of the rows, in their order: the same ones in every round."""
        if len(row_R) <= self.options.sample:
            return row_R
        order_R = torch.randperm(len(row_R), generator=torch.Generator().manual_seed(seed))
        return row_R[order_R[: self.options.sample].sort().values.to(row_R.device)]

    @classmethod
    @override
    def merge(cls, name: str, replies: Sequence[Told], before: Tensor) -> Tensor:
        """Return the centres of all hospitals; the previous ones for a modality and label that no hospital sent."""
        merged_mCPD = before.clone()
        for place in ((i, c) for i in range(before.shape[0]) for c in range(before.shape[1])):
            sent_KD = torch.cat([_filled(reply_mCPD[place]) for reply_mCPD, _ in replies])
            if len(sent_KD) > before.shape[2]:
                sent_KD = centres(sent_KD.double(), before.shape[2]).to(sent_KD)
            if len(sent_KD):
                merged_mCPD[place] = 0
                merged_mCPD[place][: len(sent_KD)] = sent_KD.to(before)
        return merged_mCPD

    @classmethod
    @override
    def beyond(cls, name: str, received: Tensor) -> str | None:
        """Return whether a site tells more centres, or longer ones, than `gather` leaves."""
        most = _share(received.shape[2])
        if (number := int((received.abs().sum(dim=3) > 0).sum(dim=2).max())) > most:
            return f"it tells {number} centres of a modality and label; a hospital has at most {most}"
        if (longest := float(_rms(received.double()).max())) > MOST_RMS * (1 + ROUNDING):
            return f"it tells a centre of root mean square {longest:.3g}; a hospital's own has at most {MOST_RMS:g}"
        return ""


def _share(pool: int) -> int:
    """Return how many centres of a modality and label one hospital may have in a pool."""
    return max(pool // 2, 1)


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(dim=-1).sqrt()


def _shortened(centre_KD: Tensor) -> Tensor:
    """Return centres of the same directions, none longer than a hospital may tell."""
    return centre_KD * (MOST_RMS / _rms(centre_KD).clamp(min=MOST_RMS)).unsqueeze(-1)


def _filled(pool_PD: Tensor) -> Tensor:
    return pool_PD[pool_PD.abs().sum(dim=1) > 0]


def _mean(x: Tensor, counts: Tensor, dim: int) -> Tensor:
    """Return the mean over the entries that count; 0 if no entry counts."""
    counts = counts.expand_as(x)
    return torch.where(counts, x, 0.0).sum(dim=dim) / counts.sum(dim=dim).clamp(min=1)


def _unit(x: Tensor) -> Tensor:
    """Return x/‖x‖ over the last dimension; 0 for 0."""
    return functional.normalize(x, dim=-1)
