"""Encoders and fusion as one model, and the tokens between them.

Shapes: B patients, P of them with a modality, m modalities, l_i tokens of modality i, M tokens in all, D width,
R tokens of what the site knows alone, C classes. X rows of width D that hold the feature maps of all modalities, if the
outcome is a mask; they stand behind the tokens.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from math import ceil, prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from remind.config import Config
from remind.data.batches.batch import Batch
from remind.data.cohort.schema import CohortSchema
from remind.encoders import build_encoder, check_pretraining, token_count
from remind.encoders.alone.encoder import ALONE, AloneEncoder, check_alone, linear_rows
from remind.encoders.base import KEY, DenseEncoder, MapShape, map_shapes
from remind.errors import UserError
from remind.fusion.base import Context, FusionModel, FusionOutput, build_fusion
from remind.fusion.dense import DenseForm
from remind.privacy.tape import current_tape, record
from remind.training.outcome_check import check_outcome


class SiteModel(nn.Module):
    """Encoders of the modalities a site has, and the fusion model.

    Attributes
    ----------
    fixed
        Parameters of encoders that never train, such as positions by sines.
    autocast
        Whether matrix products run in bfloat16; weights and logits stay as they are.
    outcome
        What it predicts.
    """

    def __init__(self, schema: CohortSchema, config: Config, has: Sequence[str]) -> None:
        super().__init__()
        self.counts = token_counts(schema, config)
        self.maps = map_shapes_of(schema, config)
        self.map_rows = {name: ceil(sum(map(prod, shapes)) / config.model.width) for name, shapes in self.maps.items()}
        self.autocast = False
        self.encoders = nn.ModuleDict(
            {m.name: build_encoder(m, config.model, config.seed) for m in schema.modalities if m.name in has}
        )
        if config.model.stays:
            self.encoders[ALONE] = AloneEncoder(schema, config.model)
        self.fixed = frozenset(n for n, p in self.encoders.named_parameters() if not p.requires_grad)
        self.fusion = fusion_of(schema, config)
        self.width = config.model.width
        self.outcome = schema.predicts

    @property
    def like(self) -> Tensor:
        """Convert a tensor to the type and device of the model."""
        return next(self.fusion.parameters())

    def encode(self, name: str, batch: Batch) -> Tensor:
        """Return the tokens (P, l, D) of the batch's patients who have the modality, and behind them its maps."""
        like = self.like
        having_P = batch.presence_Bm[:, list(self.counts).index(name)].nonzero().squeeze(1)
        if not len(having_P) or name not in self.encoders:
            return like.new_zeros(len(having_P), self.counts[name] + self.map_rows.get(name, 0), self.width)
        tape = current_tape()
        with (
            nullcontext() if tape is None else tape.restricted_to(having_P),
            torch.autocast(like.device.type, torch.bfloat16, enabled=self.autocast),
        ):
            encoder = self.encoders[name]
            maps: Sequence[Tensor] = ()
            if name in self.maps:
                assert isinstance(encoder, DenseEncoder)
                tokens_PlD, maps = encoder.dense(batch.inputs[name])
            else:
                tokens_PlD = encoder(batch.inputs[name])
        if tokens_PlD.dim() != 3 or tuple(tokens_PlD.shape[1:]) != (self.counts[name], self.width):
            kind, shape = type(encoder).__name__, tuple(tokens_PlD.shape)
            raise TypeError(
                f"{kind}.forward returned the shape {shape} for modality {name!r}, and must return "
                f"(P, {self.counts[name]}, {self.width}): token_count and model.width"
            )
        if not maps:
            return tokens_PlD.to(like.dtype)
        flat = torch.cat([one.to(like.dtype).flatten(1) for one in maps], dim=1)
        rows_PX = functional.pad(flat, (0, self.map_rows[name] * self.width - flat.shape[1]))
        return torch.cat([tokens_PlD.to(like.dtype), rows_PX.reshape(len(rows_PX), -1, self.width)], dim=1)

    @property
    def separate(self) -> tuple[str, ...]:
        """Return the modalities that a private step encodes patient by patient (`Encoder.private`)."""
        return tuple(name for name in self.counts if name in self.encoders and not self.encoders[name].private)

    def encode_separately(self, name: str, ones: Sequence[Batch]) -> Tensor:
        """Return the tokens (P, l, D) of those who have a modality, from a batch for each of B patients."""
        column, tape, like = list(self.counts).index(name), current_tape(), self.like
        having = [i for i, one in enumerate(ones) if one.presence_Bm[0, column]]
        with record(None):
            outputs = [self.encode(name, ones[i]) for i in having]
        if not having:
            return like.new_zeros(0, self.counts[name], self.width)
        if tape is None:
            return torch.cat(outputs)
        with tape.restricted_to(torch.tensor(having, device=like.device)):
            return tape.separate(outputs, [p for p in self.encoders[name].parameters() if p.requires_grad])

    def tokens(self, batch: Batch, ones: Sequence[Batch] = ()) -> Tensor:
        """Return the tokens of all modalities, (B, M, D); zeros if a patient, or the site, lacks the modality.

        With ``model.encoders.alone`` one more token stands behind them, with ``model.linear`` more, see
        `remind.encoders.alone`.

        An encoder receives only the patients who have its modality.

        Parameters
        ----------
        ones
            The values of `separate` modalities, a batch for each patient, which then are not in `batch`.
        """
        separate = self.separate if ones else ()
        parts = [
            self.encode_separately(name, ones) if name in separate else self.encode(name, batch) for name in self.counts
        ]
        if self.maps:
            parts = [part[:, : self.counts[name]] for name, part in zip(self.counts, parts, strict=True)] + [
                part[:, self.counts[name] :] for name, part in zip(self.counts, parts, strict=True)
            ]
            presence_Bm = torch.cat([batch.presence_Bm, batch.presence_Bm], dim=1)
            return side_by_side(parts, presence_Bm)
        tokens_BMD = side_by_side(parts, batch.presence_Bm)
        return self.with_alone(tokens_BMD, self.alone(batch))

    def alone(self, batch: Batch) -> Tensor | None:
        """Return the tokens of what the site knows alone, (B, R, D); None where it knows nothing."""
        return self.encoders[ALONE](batch).to(self.like) if ALONE in self.encoders else None

    @staticmethod
    def with_alone(tokens_BMD: Tensor, alone_BRD: Tensor | None) -> Tensor:
        """Put those tokens behind the others."""
        return tokens_BMD if alone_BRD is None else torch.cat([tokens_BMD, alone_BRD], dim=1)

    def by_modality(self, tokens_BMD: Tensor) -> tuple[Tensor, ...]:
        """Return the tokens (B, l_i, D) of each modality."""
        return torch.split(tokens_BMD[:, : sum(self.counts.values())], list(self.counts.values()), dim=1)

    def fuse(self, tokens_BMD: Tensor, presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        """Return the fusion model's output for tokens of `tokens`."""
        parts = self.by_modality(tokens_BMD)
        behind_BXD = tokens_BMD[:, sum(self.counts.values()) :]
        alone_BRD = behind_BXD if ALONE in self.encoders else None
        maps = self._unfolded(behind_BXD) if self.maps else None
        with torch.autocast(tokens_BMD.device.type, torch.bfloat16, enabled=self.autocast):
            output: FusionOutput = self.fusion(parts, presence_Bm, group_B, routing, alone_BRD, maps)
        return output.cast(tokens_BMD.dtype)

    def _unfolded(self, rows_BXD: Tensor) -> list[list[Tensor]]:
        """Return the feature maps (B, channels, D, H, W) of each modality and level from the rows that hold them."""
        found = []
        of_modalities = torch.split(rows_BXD, list(self.map_rows.values()), dim=1)
        for shapes, own in zip(self.maps.values(), of_modalities, strict=True):
            sizes = [prod(shape) for shape in shapes]
            levels = torch.split(own.flatten(1)[:, : sum(sizes)], sizes, dim=1)
            found.append([one.reshape(-1, *shape) for one, shape in zip(levels, shapes, strict=True)])
        return found


def token_counts(schema: CohortSchema, config: Config) -> dict[str, int]:
    """Return l_i of each modality, in bit order."""
    return {m.name: token_count(m, config.model) for m in schema.modalities}


def map_shapes_of(schema: CohortSchema, config: Config) -> dict[str, tuple[MapShape, ...]]:
    """Return the shapes of the feature maps of each modality that has some; none unless the outcome is a mask."""
    if schema.predicts.mask is None:
        return {}
    found = {m.name: map_shapes(m, config.model) for m in schema.modalities if m.kind == "volume"}
    return {name: shapes for name, shapes in found.items() if shapes}


def dense_form(schema: CohortSchema, config: Config) -> DenseForm | None:
    """Return the form of the dense head; None unless the outcome is a mask.

    Raises
    ------
    UserError
        No modality has feature maps, or a volume has none.
    """
    if (mask := schema.predicts.mask) is None:
        return None
    maps = map_shapes_of(schema, config)
    if without := [m.name for m in schema.modalities if m.kind == "volume" and m.name not in maps]:
        raise UserError(
            f"{KEY}: the label is {schema.predicts.describe()}, and the encoder of {', '.join(without)} gives no "
            f"feature maps; set {KEY} = 'volume: unet', or use the preset segmentation"
        )
    mapped = tuple(schema.names.index(name) for name in maps)
    return DenseForm(mapped=mapped, shapes=next(iter(maps.values())), regions=mask.regions)


def fusion_of(schema: CohortSchema, config: Config) -> FusionModel:
    """Build the fusion model of a run, freshly initialised: the same at every site and at the coordinator.

    Raises
    ------
    UserError
        ``model.encoders.alone`` or its ``pretraining-rounds`` do not go with the cohort, or a setting needs another
        outcome than the cohort's.
    """
    check_outcome(schema.predicts, config)
    check_alone(schema, config.model)
    check_pretraining(schema, config.model)
    counts = tuple(token_counts(schema, config).values())
    dense = dense_form(schema, config)
    context = Context(
        model=config.model,
        classes=schema.predicts.width if dense is None else config.model.width,
        modalities=schema.names,
        tokens=counts,
        numbers=linear_rows(schema, config.model),
        dense=dense,
    )
    return build_fusion(config.method.fusion, context, config.seed)


def side_by_side(tokens: Sequence[Tensor], presence_Bm: Tensor) -> Tensor:
    """Place the tokens (P_i, l_i, D) of each modality's patients in one tensor (B, M, D), zeros for the others."""
    whole = []
    for i, tokens_PlD in enumerate(tokens):
        if len(tokens_PlD) == len(presence_Bm):
            whole.append(tokens_PlD)
            continue
        having = presence_Bm[:, i].nonzero().squeeze(1)
        empty_BlD = tokens_PlD.new_zeros(len(presence_Bm), *tokens_PlD.shape[1:])
        whole.append(empty_BlD.index_copy(0, having, tokens_PlD))
    return torch.cat(whole, dim=1)
