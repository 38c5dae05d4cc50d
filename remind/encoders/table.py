"""Tables → at most `tokens` tokens: each token embeds a run of columns (the paper's encoder of M4).

Alternatively each column is embedded, with attention between the columns (`model.encoders.table`).

Shapes: B patients, F columns, P features of the longest patch, c patches (or columns), l tokens, D width, Q knots.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import ModelConfig
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.encoders.base import Encoder, patches, register
from remind.encoders.hidden_values import HiddenCells
from remind.encoders.numbers import KNOTS, Periodic, knots, normal_scores
from remind.encoders.standardise import moments
from remind.privacy.tape import current_tape

CLIP = 8.0  # larger standardised values are outliers or errors; a linear embedding must not follow them


@register(TableSchema, "patches", title="runs of columns, each embedded as one patch", usual=True)
class TableEncoder(Encoder):
    """Embeds the features of each patch of columns: scaled value or one-hot level, and "is missing".

    With `features` a patch is one column, a layer of attention mixes the columns (FT-Transformer: Gorishniy et al.,
    2021, arXiv 2106.11959), and runs of columns are averaged to tokens.
    """

    taped = frozenset({"weight_lPD", "bias_lD"})
    index_lP: Tensor
    mean_F: Tensor
    std_F: Tensor
    knot_FQ: Tensor | None

    def __init__(self, schema: TableSchema, config: ModelConfig) -> None:
        super().__init__(schema, config)
        self.schema, self.hide, self.width = schema, config.hide, config.width
        levels = [len(schema.categories.get(column, ())) for column in schema.columns]
        self.levels = levels
        extra = 2 * config.encoders.periodic
        widths = [(count or 1 + extra) + 1 for count in levels]
        starts = np.concatenate([[0], np.cumsum(widths)])
        runs = patches(len(levels), config.tokens)
        single = config.encoders.table == "features"
        self.private = not single and type(self) is TableEncoder  # a subclass may compute something else
        columns = [[column] for run in runs for column in run] if single else runs
        features = [[f for column in run for f in range(starts[column], starts[column + 1])] for run in columns]
        longest = max(map(len, features))
        padding = int(starts[-1])  # one more feature that is always 0
        index = torch.tensor([run + [padding] * (longest - len(run)) for run in features])
        self.register_buffer("index_lP", index, persistent=False)
        self.register_buffer("mean_F", torch.tensor([schema.mean.get(c, 0.0) for c in schema.columns]))
        self.register_buffer("std_F", torch.tensor([schema.std.get(c, 1.0) for c in schema.columns]))
        by_rank = config.encoders.numbers == "quantile" and schema.standardise == "train"
        self.register_buffer("knot_FQ", torch.zeros(len(levels), KNOTS) if by_rank else None)
        self.weight_lPD = nn.Parameter(torch.randn(len(features), longest, config.width) / longest**0.5)
        self.bias_lD = nn.Parameter(torch.randn(len(features), config.width) * 0.02)
        self.adapter = nn.Linear(config.width, config.width)
        self.periodic = Periodic(len(levels), config.encoders.periodic) if extra else None
        self.runs = [len(run) for run in runs] if single else None
        self.mixing = (
            nn.TransformerEncoderLayer(
                config.width, config.heads, 2 * config.width, config.dropout, "gelu", batch_first=True, norm_first=True
            )
            if single
            else None
        )

    @staticmethod
    def token_count(schema: TableSchema, config: ModelConfig) -> int:
        """Return one token per patch of columns."""
        return len(patches(len(schema.columns), config.tokens))

    @classmethod
    @override
    def fits(cls, schema: TableSchema) -> bool:
        return schema.standardise == "train" and bool(schema.numeric)

    def fit(self, modality: Table) -> None:
        """Learn the scale of each numeric column from its observed values, if the schema requires it."""
        if self.schema.standardise != "train":
            return
        for f, levels in enumerate(self.levels):
            if not levels:
                value_N = modality.values_NF[:, f].astype(np.float64)
                seen_N = value_N[~np.isnan(value_N)]
                self.mean_F[f], self.std_F[f] = moments(seen_N)
                if self.knot_FQ is not None:
                    self.knot_FQ[f] = torch.from_numpy(knots(seen_N))

    @override
    def hidden_values(self) -> HiddenCells:
        tokens = len(self.weight_lPD) if self.runs is None else len(self.runs)
        return HiddenCells(self, self.scaled, self.levels, tokens * self.width)

    def forward(self, inputs: Tensor) -> Tensor:
        """Encode (B, F), with NaN for missing and level indices in categorical columns, → (B, l, D)."""
        if self.training and self.hide > 0:
            inputs = inputs.masked_fill(torch.rand_like(inputs) < self.hide, torch.nan)
        features_BX = functional.pad(self._features(inputs), (0, 1))
        patches_BcP = features_BX[:, self.index_lP]
        z_BcD = torch.einsum("blp,lpd->bld", patches_BcP, self.weight_lPD) + self.bias_lD
        if (tape := current_tape()) is not None:
            rows_cBP = patches_BcP.transpose(0, 1)
            tape.product(
                self.weight_lPD,
                self.bias_lD,
                rows_cBP.unsqueeze(2),
                z_BcD,
                lambda grad_BcD: grad_BcD.transpose(0, 1).unsqueeze(2),
            )
        if self.mixing is not None and self.runs is not None:
            mixed_BcD = self.mixing(z_BcD)
            z_BcD = torch.stack([run_BrD.mean(dim=1) for run_BrD in mixed_BcD.split(self.runs, dim=1)], dim=1)
        out: Tensor = z_BcD + self.adapter(functional.gelu(z_BcD))
        return out

    def _features(self, values_BF: Tensor) -> Tensor:
        missing_BF = values_BF.isnan()
        z_BF = self.scaled(values_BF)
        waves_BFK = self.periodic(z_BF) if self.periodic is not None else z_BF.new_zeros(*z_BF.shape, 0)
        parts = []
        for f, count in enumerate(self.levels):
            seen_B1 = ~missing_BF[:, f : f + 1]
            if count:
                level_B = values_BF[:, f].nan_to_num().long()
                parts += [functional.one_hot(level_B, count).to(z_BF.dtype) * seen_B1]
            else:
                parts += [torch.cat([z_BF[:, f : f + 1], waves_BFK[:, f]], dim=1) * seen_B1]
            parts += [missing_BF[:, f : f + 1].to(z_BF.dtype)]
        return torch.cat(parts, dim=1)

    def scaled(self, values_BF: Tensor) -> Tensor:
        """Return the scaled numbers, 0 where they are missing; the result is undefined for categorical columns."""
        if self.knot_FQ is None:
            z_BF = (values_BF - self.mean_F) / self.std_F
        else:
            z_BF = normal_scores(values_BF, self.knot_FQ)
        return z_BF.nan_to_num().clamp(-CLIP, CLIP)
