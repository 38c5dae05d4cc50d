"""The token of what a hospital knows alone, and how the fusion model reads it.

Shapes: B patients, m modalities, D width, C classes, X numbers per patient.
"""

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
from remind.encoders.alone.crossfit import CrossFitted
from remind.encoders.base import Encoder
from remind.errors import UserError

ALONE = "@alone"  # its name among a site's encoders; no modality can have it
LEARNERS = {"none": (), "shares": (), "trees": ("trees",), "linear": ("linear",), "both": ("trees", "linear")}
STATE = "content_T"


def check_alone(schema: CohortSchema, config: ModelConfig) -> None:
    """Raise an error where a cohort cannot be used with ``model.encoders.alone``.

    Raises
    ------
    UserError
        It has nothing to fit on, or model.width is too small for scores, shares and presence in one token.
    """
    if config.encoders.alone == "none":
        return
    if LEARNERS[config.encoders.alone] and not any(has_rows(modality) for modality in schema.modalities):
        raise UserError(
            f"model.encoders.alone: cohort {schema.name} has no table, series or codes to fit on; set it to shares, "
            "or to none"
        )
    classes, modalities = len(schema.classes), len(schema.modalities)
    if config.width < 2 * classes + modalities:
        raise UserError(
            f"model.width: {config.width} is less than 2 · {classes} classes + {modalities} modalities, which "
            "model.encoders.alone needs; raise it, or set model.encoders.alone to none"
        )


class AloneEncoder(Encoder):
    """Cross-fitted scores of all tables, series and codes of a patient together, as one token (B, 1, D).

    The token holds the scores of the classes, then how common each is at the site (log-shares), then which modalities
    the scores were computed from, then zeros: nothing of it trains. The models lie in the encoder's file as bytes, at
    the site and in its vault, and never travel.
    """

    content_T: Tensor

    def __init__(self, schema: CohortSchema, config: ModelConfig) -> None:
        super().__init__(schema, config)
        self.schema, self.width = schema, config.width
        self.learners = LEARNERS[config.encoders.alone]
        self.modalities = [(i, m) for i, m in enumerate(schema.modalities) if self.learners and has_rows(m)]
        self.levels_X = [levels for _, m in self.modalities for levels in levels_of(m)]
        self.register_buffer(STATE, torch.empty(0, dtype=torch.uint8))
        self._fitted = CrossFitted()

    @staticmethod
    def token_count(schema: Any, config: ModelConfig) -> int:
        """One."""
        return 1

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the modalities that it needs the values of."""
        return tuple(modality.name for _, modality in self.modalities)

    def learn(self, batch: Batch, label_B: NDArray[np.int64], seed: int) -> None:
        """Fit on the site's training patients."""
        rows_BX, classes = self._rows(batch), len(self.schema.classes)
        self._keep(CrossFitted.fit(self.learners, rows_BX, label_B, classes, self.levels_X, seed).to_bytes())

    @override
    def forward(self, inputs: Batch) -> Tensor:
        presence_Bm, classes = inputs.presence_Bm, len(self.schema.classes)
        known_BX = presence_Bm.new_zeros((len(presence_Bm), 2 * classes), dtype=torch.float32)
        if self._fitted.classes:  # else nothing was ever fitted
            known_BX[:, :classes] = torch.from_numpy(self._fitted.scores(self._rows(inputs)))
            known_BX[:, classes:] = torch.tensor(self._fitted.base_C)
        known_BX = torch.cat([known_BX, presence_Bm.to(known_BX.dtype)], dim=1)
        return functional.pad(known_BX, (0, self.width - known_BX.shape[1])).unsqueeze(1)

    def _rows(self, batch: Batch) -> Rows:
        """All numbers of each patient, (B, X); NaN for a modality that the patient lacks."""
        parts = [np.zeros((len(batch.index_B), 0), dtype=np.float32)]
        for i, modality in self.modalities:
            having_B = batch.presence_Bm[:, i].cpu().numpy()
            rows_BX = np.full((len(having_B), len(levels_of(modality))), np.nan, dtype=np.float32)
            rows_BX[having_B] = rows_of(modality, batch.inputs[modality.name])
            parts.append(rows_BX)
        return np.concatenate(parts, axis=1)

    def _keep(self, content: bytes) -> None:
        self._fitted = CrossFitted.from_bytes(content)
        self.content_T = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else self.content_T[:0]

    @override
    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take models of any size from a file."""
        if (found := state_dict.get(prefix + STATE)) is not None and not torch.equal(found.cpu(), self.content_T.cpu()):
            self._keep(found.cpu().numpy().tobytes())
        super()._load_from_state_dict(state_dict, prefix, *rest)
