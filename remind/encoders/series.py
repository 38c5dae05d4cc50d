"""Irregular series → tokens: time-aware attention over each item's observations, no binning, no imputation.

Each observation (item, time, value) is embedded. The observations of one patient and item are pooled by attention with
learned queries (which can learn the mean, the latest value, …) and by maximum. The items' vectors become tokens.
Shapes: B patients, O observations of the batch, I items, Q queries, K width of an observation, l tokens, D width.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import ModelConfig
from remind.data.cohort.kinds.series import Series, SeriesBatch
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.encoders.base import Encoder, patches, register
from remind.encoders.hidden_values import HiddenObservations
from remind.encoders.series_set import SetAttention
from remind.encoders.standardise import moments

CLIP = 8.0  # limit of values, in standard deviations of the item
FREQUENCIES = 4  # frequencies of the sines and cosines of time; the highest has half a horizon as its period
QUERIES = 4


@register(SeriesSchema, "attention", title="time-aware attention over each item's observations", usual=True)
class SeriesEncoder(Encoder):
    """One token per item, or per run of items where there are more items than tokens."""

    mean_I: Tensor
    std_I: Tensor
    token_I: Tensor

    def __init__(self, schema: SeriesSchema, config: ModelConfig) -> None:
        super().__init__(schema, config)
        items, width = len(schema.items), config.width
        self.hide = config.hide
        self.queries = math.gcd(QUERIES, width)
        self.items, self.horizon = items, schema.horizon_hours
        self.schema = schema
        self.register_buffer("mean_I", torch.tensor([schema.mean.get(item, 0.0) for item in schema.items]))
        self.register_buffer("std_I", torch.tensor([schema.std.get(item, 1.0) for item in schema.items]))
        runs = patches(items, config.tokens)
        self.register_buffer("token_I", torch.tensor([t for t, run in enumerate(runs) for _ in run]), persistent=False)
        self.tokens = len(runs)
        self.slope_IK = nn.Parameter(torch.randn(items, width))
        self.offset_IK = nn.Parameter(torch.randn(items, width))
        self.clock = nn.Linear(1 + 2 * FREQUENCIES, width)
        self.mix = nn.Linear(width, width)
        self.score = nn.Linear(width, self.queries)
        pooled = 2 * width + 1
        self.pool_IXD = nn.Parameter(torch.randn(items, pooled, width) / math.sqrt(pooled))
        self.absent_ID = nn.Parameter(torch.randn(items, width) * 0.02)
        self.adapter = nn.Linear(width, width)
        self.set = SetAttention(items, self.tokens, config) if config.encoders.series == "set" else None

    @staticmethod
    def token_count(schema: SeriesSchema, config: ModelConfig) -> int:
        """Return the number of tokens: one per item or run of items."""
        return len(patches(len(schema.items), config.tokens))

    @classmethod
    @override
    def fits(cls, schema: SeriesSchema) -> bool:
        return schema.standardise == "train"

    def fit(self, modality: Series) -> None:
        """Fit each item's mean and standard deviation if the schema requires it; an unobserved item keeps 0 and 1."""
        if self.schema.standardise != "train":
            return
        value_O = modality.value_O.astype(np.float64)
        for i in range(self.items):
            self.mean_I[i], self.std_I[i] = moments(value_O[modality.item_O == i])

    @override
    def hidden_values(self) -> HiddenObservations:
        size = self.tokens * self.absent_ID.shape[1]
        return HiddenObservations(self, self.standardised, self.items, self.horizon, size)

    def forward(self, inputs: SeriesBatch) -> Tensor:
        """Encode the observations of B patients → (B, l, D)."""
        if self.training and self.hide > 0:
            inputs = _some(inputs, self.hide)
        h_OK = self._observations(inputs)
        segment_O = inputs.patient_O * self.items + inputs.item_O
        segments = inputs.patients * self.items
        count_S = h_OK.new_zeros(segments).index_add(0, segment_O, h_OK.new_ones(len(segment_O)))
        pooled_SX = torch.cat(
            [self._attend(h_OK, segment_O, segments), _segment_max(h_OK, segment_O, count_S), count_S.log1p()[:, None]],
            dim=1,
        )
        pooled_BIX = pooled_SX.view(inputs.patients, self.items, pooled_SX.shape[1])
        item_BID = torch.einsum("bix,ixd->bid", pooled_BIX, self.pool_IXD)
        seen_BI1 = (count_S > 0).view(inputs.patients, self.items, 1)
        item_BID = torch.where(seen_BI1, item_BID, self.absent_ID)
        z_BlD = item_BID.new_zeros(inputs.patients, self.tokens, item_BID.shape[-1]).index_add(
            1, self.token_I, item_BID
        )
        if self.set is not None:
            z_BlD = self.set(z_BlD, h_OK, self.standardised(inputs), inputs, self.token_I)
        out: Tensor = z_BlD + self.adapter(functional.gelu(z_BlD))
        return out

    def standardised(self, inputs: SeriesBatch) -> Tensor:
        """Return the standardised and clipped values of the observations, (O,)."""
        return ((inputs.value_O - self.mean_I[inputs.item_O]) / self.std_I[inputs.item_O]).clamp(-CLIP, CLIP)

    def _observations(self, inputs: SeriesBatch) -> Tensor:
        """Return the embedding of each observation, (O, K)."""
        z_O = self.standardised(inputs)
        t_O1 = (inputs.time_O / self.horizon).unsqueeze(1)
        angle_OF = t_O1 * (math.pi * torch.arange(1, FREQUENCIES + 1, device=t_O1.device, dtype=t_O1.dtype))
        clock_OK = self.clock(torch.cat([t_O1, angle_OF.sin(), angle_OF.cos()], dim=1))
        h_OK = functional.gelu(
            z_O.unsqueeze(1) * self.slope_IK[inputs.item_O] + self.offset_IK[inputs.item_O] + clock_OK
        )
        out: Tensor = self.mix(h_OK)
        return out

    def _attend(self, h_OK: Tensor, segment_O: Tensor, segments: int) -> Tensor:
        """Return the attention-weighted mean of each segment, (S, K); each of Q queries pools K/Q of the width."""
        score_OQ = self.score(h_OK)
        index_OQ = segment_O.unsqueeze(1).expand(-1, self.queries)
        highest_SQ = score_OQ.new_full((segments, self.queries), -torch.inf).scatter_reduce(
            0, index_OQ, score_OQ.detach(), "amax"
        )
        weight_OQ = (score_OQ - highest_SQ[segment_O]).exp()
        total_SQ = weight_OQ.new_zeros(segments, self.queries).index_add(0, segment_O, weight_OQ)
        weight_OQ = weight_OQ / total_SQ[segment_O]
        weighted_OK = (
            h_OK.view(len(h_OK), self.queries, h_OK.shape[1] // self.queries) * weight_OQ.unsqueeze(2)
        ).flatten(1)
        return h_OK.new_zeros(segments, h_OK.shape[1]).index_add(0, segment_O, weighted_OK)


def _segment_max(h_OK: Tensor, segment_O: Tensor, count_S: Tensor) -> Tensor:
    """Return the maximum over each segment's observations per feature, 0 for an empty segment, (S, K)."""
    index_OK = segment_O.unsqueeze(1).expand(-1, h_OK.shape[1])
    empty_SK = h_OK.new_full((len(count_S), h_OK.shape[1]), -torch.inf)
    highest_SK = empty_SK.scatter_reduce(0, index_OK, h_OK, "amax")
    return torch.where(count_S.unsqueeze(1) > 0, highest_SK, torch.zeros_like(highest_SK))


def _some(inputs: SeriesBatch, hide: float) -> SeriesBatch:
    """Keep each observation with probability 1 − `hide`."""
    return inputs.taken(torch.rand(len(inputs.item_O), device=inputs.item_O.device) >= hide)
