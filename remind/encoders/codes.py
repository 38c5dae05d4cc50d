"""Sets of codes → tokens: each code's embedding, pooled by attention with learned queries.

A set has no order and usually few members, so a few tokens suffice: l is the number of queries, at most QUERIES.
Shapes: P patients, O codes of the batch, R rows of the embedding, l tokens, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import ModelConfig
from remind.data.cohort.kinds.codes import CodesBatch, CodesSchema
from remind.encoders.base import Encoder, register

QUERIES = 4
SPREADING, LARGEST = 0x1E3779B97F4A7C15, 2**63 - 1  # Fibonacci hashing of positions in a long vocabulary


@register(CodesSchema, "set", title="attention over the set of codes", usual=True)
class CodesEncoder(Encoder):
    """Each token is a weighted mean of the patient's codes, plus a term for their number."""

    def __init__(self, schema: CodesSchema, config: ModelConfig) -> None:
        super().__init__(schema, config)
        self.listed, self.hide = len(schema.vocabulary), config.hide
        self.hashed = not self.listed or self.listed > config.encoders.buckets
        self.size = config.encoders.buckets if self.hashed else self.listed
        tokens = self.token_count(schema, config)
        self.embedding = nn.Embedding(self.size, config.width)
        self.score = nn.Linear(config.width, tokens)
        self.number_lD = nn.Parameter(torch.randn(tokens, config.width) * 0.02)
        self.adapter = nn.Linear(config.width, config.width)

    @staticmethod
    def token_count(schema: CodesSchema, config: ModelConfig) -> int:
        """Return the number of tokens: one per query."""
        return min(config.tokens, QUERIES)

    def forward(self, inputs: CodesBatch) -> Tensor:
        """Encode the codes of P patients → (P, l, D)."""
        code_O, patient_O = inputs.code_O, inputs.patient_O
        if self.training and self.hide > 0:
            kept_O = some(patient_O, inputs.patients, self.hide)
            code_O, patient_O = code_O[kept_O], patient_O[kept_O]
        h_OD = self._embed(code_O)
        weight_Ol = segment_softmax(self.score(h_OD).to(h_OD.dtype), patient_O, inputs.patients)
        weighted_OlD = weight_Ol.unsqueeze(2) * h_OD.unsqueeze(1)
        pooled_PlD = h_OD.new_zeros(inputs.patients, *weighted_OlD.shape[1:]).index_add(0, patient_O, weighted_OlD)
        count_P = h_OD.new_zeros(inputs.patients).index_add(0, patient_O, h_OD.new_ones(len(patient_O)))
        z_PlD = pooled_PlD + count_P.log1p()[:, None, None] * self.number_lD
        out: Tensor = z_PlD + self.adapter(functional.gelu(z_PlD))
        return out

    @override
    def rows(self, inputs: CodesBatch) -> dict[str, tuple[Tensor, Tensor]]:
        rows = self._rows_of(inputs.code_O)
        return {"embedding.weight": (torch.cat(rows), inputs.patient_O.repeat(len(rows)))}

    def _embed(self, code_O: Tensor) -> Tensor:
        """Return the embedding of each code, (O, D)."""
        rows = [self.embedding(row_O) for row_O in self._rows_of(code_O)]
        out: Tensor = rows[0] if len(rows) == 1 else (rows[0] + rows[1]) / 2**0.5
        return out

    def _rows_of(self, code_O: Tensor) -> tuple[Tensor, ...]:
        """Return the rows of each code, (O,) each.

        The embedding of a hashed code combines two rows, from different digits of its hash: codes that share one row
        rarely share both. A vocabulary with more codes than rows is hashed too.
        """
        if not self.hashed:
            return (code_O,)
        if self.listed:
            code_O = (code_O + 1) * SPREADING & LARGEST
        return code_O % self.size, code_O // self.size % self.size


def segment_softmax(score_OQ: Tensor, segment_O: Tensor, segments: int) -> Tensor:
    """Compute the softmax over the entries of each segment, for every query."""
    index_OQ = segment_O.unsqueeze(1).expand_as(score_OQ)
    lowest_SQ = score_OQ.new_full((segments, score_OQ.shape[1]), -torch.inf)
    highest_SQ = lowest_SQ.scatter_reduce(0, index_OQ, score_OQ.detach(), "amax")
    raised_OQ = (score_OQ - highest_SQ[segment_O]).exp()
    total_SQ = torch.zeros_like(lowest_SQ).index_add(0, segment_O, raised_OQ)
    return raised_OQ / total_SQ[segment_O]


def some(patient_O: Tensor, patients: int, hide: float) -> Tensor:
    """Keep each code with probability 1 − `hide`, and at least one code of every patient."""
    draw_O = torch.rand(len(patient_O), device=patient_O.device)
    luckiest_P = draw_O.new_zeros(patients).scatter_reduce(0, patient_O, draw_O, "amax")
    return (draw_O >= hide) | (draw_O == luckiest_P[patient_O])
