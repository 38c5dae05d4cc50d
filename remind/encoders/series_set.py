"""Attention over all observations of a patient at once, and summary statistics of each item.

The encoder of series adds them with `model.encoders.series = "set"`: queries over the set of (item, time, value), as in
STraTS (Tipirneni and Reddy, 2022, arXiv 2107.14293), and the summary features that boosted trees use.

Shapes: P patients, O observations, I items, S = P·I segments, l tokens, K width of an observation, D width,
H heads.
"""

import torch
from torch import Tensor, nn

from remind.config import ModelConfig
from remind.data.cohort.kinds.series import SeriesBatch
from remind.encoders.codes import segment_softmax

STATISTICS = 7  # mean, first, last, lowest, highest, last − first, ln(1 + number)
HEADS = 4


def statistics(z_O: Tensor, time_O: Tensor, segment_O: Tensor, segments: int) -> Tensor:
    """Return the STATISTICS of each segment's standardised values, (S, 7); zeros for an empty segment.

    Values at the same time are sorted by size, so that the order of the observations does not matter.
    """
    count_S = z_O.new_zeros(segments).index_add(0, segment_O, torch.ones_like(z_O))
    mean_S = z_O.new_zeros(segments).index_add(0, segment_O, z_O) / count_S.clamp(min=1)
    order_O = torch.argsort(z_O, stable=True)
    for key_O in (time_O, segment_O):
        order_O = order_O[torch.argsort(key_O[order_O], stable=True)]
    start_S = (count_S.cumsum(0) - count_S).long()
    ordered_O = torch.cat([z_O[order_O], z_O.new_zeros(1)])
    first_S, last_S = ordered_O[start_S], ordered_O[(start_S + count_S.long() - 1).clamp(min=0)]
    empty_S = z_O.new_zeros(segments)
    low_S = empty_S.scatter_reduce(0, segment_O, z_O, "amin", include_self=False)
    high_S = empty_S.scatter_reduce(0, segment_O, z_O, "amax", include_self=False)
    values_S7 = torch.stack([mean_S, first_S, last_S, low_S, high_S, last_S - first_S, count_S.log1p()], dim=1)
    return torch.where((count_S > 0)[:, None], values_S7, 0.0)


class SetAttention(nn.Module):
    """One layer of attention over tokens that sum item vectors, all observations, and each item's statistics."""

    def __init__(self, items: int, tokens: int, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.tokens, self.heads = tokens, HEADS if width % HEADS == 0 else 1
        self.score = nn.Linear(width, tokens * self.heads)
        self.value = nn.Linear(width, width)
        self.statistics_I7D = nn.Parameter(torch.randn(items, STATISTICS, width) / STATISTICS**0.5)
        self.layer = nn.TransformerEncoderLayer(
            width, config.heads, 2 * width, config.dropout, "gelu", batch_first=True, norm_first=True
        )

    def forward(self, z_PlD: Tensor, h_OK: Tensor, z_O: Tensor, inputs: SeriesBatch, token_I: Tensor) -> Tensor:
        """Convert item tokens (P, l, D), embedded observations and their standardised values to tokens (P, l, D)."""
        patients, items, patient_O = len(z_PlD), len(token_I), inputs.patient_O
        weight_OX = segment_softmax(self.score(h_OK).to(h_OK.dtype), patient_O, patients)
        weight_OlH1 = weight_OX.view(len(h_OK), self.tokens, self.heads, 1)
        value_O1HK = self.value(h_OK).to(h_OK.dtype).view(len(h_OK), 1, self.heads, h_OK.shape[1] // self.heads)
        seen_PlD = h_OK.new_zeros(patients, self.tokens, z_PlD.shape[2]).index_add(
            0, patient_O, (weight_OlH1 * value_O1HK).flatten(2)
        )
        values_S7 = statistics(z_O, inputs.time_O, patient_O * items + inputs.item_O, patients * items)
        item_PID = torch.einsum("pix,ixd->pid", values_S7.view(patients, items, STATISTICS), self.statistics_I7D)
        numbers_PlD = torch.zeros_like(z_PlD).index_add(1, token_I, item_PID.to(z_PlD.dtype))
        out: Tensor = self.layer(z_PlD + seen_PlD + numbers_PlD)
        return out
