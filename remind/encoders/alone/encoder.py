"""Tokens with the scores of a hospital's own models, and tokens with its numbers for a shared linear model.

Shapes: B patients, R tokens of numbers, m modalities, D width, C classes, X numbers per patient, Z columns of a linear
model.
"""

import json
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from remind.config import ModelConfig
from remind.data.batches.batch import Batch
from remind.data.cohort.schema import CohortSchema
from remind.data.features.batches import Rows, has_rows, levels_of, rows_of
from remind.encoders.alone.crossfit import LEAST, CrossFitted
from remind.encoders.alone.learners import columns_of, moments, standardised, told_by_many
from remind.encoders.base import Encoder
from remind.errors import UserError
from remind.fusion.around import known_rows

ALONE = "@alone"  # name of this encoder at a site; no modality can have this name
LEARNERS = {"none": (), "shares": (), "trees": ("trees",), "linear": ("linear",), "both": ("trees", "linear")}
STATE = "content_T"
FAR = 3.0  # standardised columns are clipped at this many deviations; rare levels would exceed it


def linear_rows(schema: CohortSchema, config: ModelConfig) -> tuple[int, ...]:
    """Return the number of tokens with each modality's numbers for ``model.linear``; empty without it."""
    if not config.linear:
        return ()
    return tuple(
        ceil(columns_of(levels_of(modality)) / config.width) if has_rows(modality) else 0
        for modality in schema.modalities
    )


def check_alone(schema: CohortSchema, config: ModelConfig) -> None:
    """Check that a cohort can be used with ``model.encoders.alone`` and ``model.linear``.

    Raises
    ------
    UserError
        The cohort has no data for these models.
    """
    if not config.stays:
        return
    if not any(has_rows(modality) for modality in schema.modalities):
        lacks = f"cohort {schema.name} has no table, series or codes to fit on"
        if LEARNERS[config.encoders.alone]:
            raise UserError(f"model.encoders.alone: {lacks}; set it to shares, or to none")
        if config.linear:
            raise UserError(f"model.linear: {lacks}; set it to false")


class AloneEncoder(Encoder):
    """Cross-fitted scores from all tables, series and codes of a patient, as tokens (B, R, D).

    The first tokens contain the class scores, then the class log-shares at the site, then which modalities the scores
    were computed from, then zeros. Nothing in them is trained. With ``model.linear`` more tokens follow, (B, R, D),
    with each modality's numbers, standardised by the site's training patients. They are zero in unused positions, in
    columns with too few different patients (`told_by_many`), and for patients without the modality. The fitted models
    are bytes in the encoder's file, in the site's vault, and are never sent.
    """

    content_T: Tensor

    def __init__(self, schema: CohortSchema, config: ModelConfig) -> None:
        super().__init__(schema, config)
        self.schema, self.width = schema, config.width
        self.learners = LEARNERS[config.encoders.alone]
        self.rows_m = linear_rows(schema, config)
        wanted = self.learners or self.rows_m
        self.modalities = [(i, m) for i, m in enumerate(schema.modalities) if wanted and has_rows(m)]
        self.levels_X = [levels for _, m in self.modalities for levels in levels_of(m)]
        self.register_buffer(STATE, torch.empty(0, dtype=torch.uint8))
        self._fitted = CrossFitted()
        self._moments: list[dict[str, Any]] = []

    @staticmethod
    def token_count(schema: Any, config: ModelConfig) -> int:
        """Return the number of tokens with scores plus that of tokens with numbers."""
        known = known_rows(len(schema.classes), len(schema.modalities), config.width)
        return known + sum(linear_rows(schema, config))

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the modalities whose values this encoder needs."""
        return tuple(modality.name for _, modality in self.modalities)

    def learn(self, batch: Batch, label_B: NDArray[np.int64], seed: int) -> None:
        """Fit on the site's training patients."""
        rows_BX, classes = self._rows(batch), len(self.schema.classes)
        fitted = CrossFitted.fit(self.learners, rows_BX, label_B, classes, self.levels_X, seed)
        having, found = batch.presence_Bm.cpu().numpy(), []
        for (i, modality), own_BX in zip(self.modalities, self._by_modality(rows_BX), strict=True):
            own_PX = own_BX[having[:, i]] if having[:, i].any() else own_BX
            model = moments(own_PX, levels_of(modality))
            found.append({**model, "told": told_by_many(model, own_PX, LEAST)})
        self._keep(fitted.to_bytes() + b"\n" + json.dumps(found if self.rows_m else []).encode())

    @override
    def forward(self, inputs: Batch) -> Tensor:
        presence_Bm, classes = inputs.presence_Bm, len(self.schema.classes)
        known_BX = presence_Bm.new_zeros((len(presence_Bm), 2 * classes), dtype=torch.float32)
        rows_BX = self._rows(inputs)
        if self._fitted.classes:  # no classes: nothing was fitted
            known_BX[:, :classes] = torch.from_numpy(self._fitted.scores(rows_BX))
            known_BX[:, classes:] = torch.tensor(self._fitted.base_C)
        known_BX = torch.cat([known_BX, presence_Bm.to(known_BX.dtype)], dim=1)
        rows = known_rows(classes, presence_Bm.shape[1], self.width)
        padded_BX = functional.pad(known_BX, (0, rows * self.width - known_BX.shape[1]))
        return torch.cat([padded_BX.view(-1, rows, self.width), self._numbers(rows_BX, presence_Bm)], dim=1)

    def _numbers(self, rows_BX: Rows, presence_Bm: Tensor) -> Tensor:
        """Return the standardised numbers of every modality, (B, R, D)."""
        numbers_BRD = torch.zeros(len(rows_BX), sum(self.rows_m), self.width, device=presence_Bm.device)
        for (i, _), own_BX, model in zip(self.modalities, self._by_modality(rows_BX), self._moments, strict=False):
            told_Z = np.asarray(model["told"])
            columns_BZ = torch.from_numpy(standardised(model, own_BX).clip(-FAR, FAR) * told_Z).to(numbers_BRD)
            columns_BZ = columns_BZ * presence_Bm[:, i : i + 1]
            start, rows = sum(self.rows_m[:i]), self.rows_m[i]
            padded_BX = functional.pad(columns_BZ, (0, rows * self.width - columns_BZ.shape[1]))
            numbers_BRD[:, start : start + rows] = padded_BX.view(-1, rows, self.width)
        return numbers_BRD

    def _by_modality(self, rows_BX: Rows) -> list[Rows]:
        """Return the numbers of each modality."""
        stops = np.cumsum([len(levels_of(modality)) for _, modality in self.modalities])
        return np.split(rows_BX, stops[:-1], axis=1) if self.modalities else []

    def _rows(self, batch: Batch) -> Rows:
        """Return all numbers of each patient, (B, X); NaN for a modality that the patient lacks."""
        parts = [np.zeros((len(batch.index_B), 0), dtype=np.float32)]
        for i, modality in self.modalities:
            having_B = batch.presence_Bm[:, i].cpu().numpy()
            rows_BX = np.full((len(having_B), len(levels_of(modality))), np.nan, dtype=np.float32)
            rows_BX[having_B] = rows_of(modality, batch.inputs[modality.name])
            parts.append(rows_BX)
        return np.concatenate(parts, axis=1)

    def _keep(self, content: bytes) -> None:
        models, _, numbers = content.partition(b"\n")
        self._fitted, self._moments = CrossFitted.from_bytes(models), json.loads(numbers or b"[]")
        self.content_T = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else self.content_T[:0]

    @override
    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Accept stored models of any size."""
        if (found := state_dict.get(prefix + STATE)) is not None and not torch.equal(found.cpu(), self.content_T.cpu()):
            self._keep(found.cpu().numpy().tobytes())
        super()._load_from_state_dict(state_dict, prefix, *rest)
