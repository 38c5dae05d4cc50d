"""The initial model of a run (``start.model``): reading, comparison with the run's settings, blocks for new groups."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from remind.config import Config
from remind.data.cohort.schema import CohortSchema, difference
from remind.errors import UserError, several
from remind.federation.blocks import ENCODERS, block_of
from remind.fusion.base import FusionModel
from remind.fusion.base import registry as fusions
from remind.global_model import GlobalModel
from remind.model_file import digest_of
from remind.prediction.bundle import Bundle, read_bundle

OWN_ZERO = (".residual_LDES", ".residual_right_LrX")  # a group's parameters that begin at 0
COMPOSED = "fusion.parts.missing_mD"  # a model with this tensor also begins with 0 for the group's own part of B
FREE = ("model.dropout", "model.hide", "model.encoders.")  # settings that may differ from the initial model's


@dataclass(frozen=True)
class Start:
    """A trained model with which a run begins.

    Attributes
    ----------
    where
        The folder of the model, for error messages.
    tensors
        Tensors by name, as in `GlobalModel`.
    routing
        Whether the model uses Φ_k.
    counts
        n_k: patients that the model was trained on, per group.
    """

    where: str
    config: Config
    schema: CohortSchema
    tensors: Mapping[str, Tensor]
    routing: bool
    counts: Mapping[int, int]

    @classmethod
    def of(cls, bundle: Bundle) -> "Start":
        """Return the model from the folder of a run, or from an exported folder."""
        return cls(bundle.where, bundle.config, bundle.schema, bundle.tensors, bundle.routing, bundle.counts)

    @property
    def groups(self) -> frozenset[int]:
        """Groups that have their own parameters in the model."""
        blocks = (block_of(name).partition(":") for name in self.tensors)
        return frozenset(int(name) for kind, _, name in blocks if kind == "group")

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the tensors and numbers that a run reads from the model."""
        about = {
            "config": self.config.model_dump_json(),
            "schema": self.schema.fingerprint,
            "routing": json.dumps(self.routing),
            "counts": json.dumps(sorted(self.counts.items())),
        }
        return digest_of(self.tensors, about)

    def routed(self, config: Config) -> bool:
        """Return whether encoders train with Φ_k in use, as in the final model.

        False for methods that retrieve tokens of other patients, since these tokens must not change meanwhile.
        """
        method, _ = fusions.choose(config.method.fusion)
        return self.routing and method.build.set_support is FusionModel.set_support

    def model(self, config: Config, schema: CohortSchema, groups: Iterable[int]) -> GlobalModel:
        """Return this model with blocks for the groups that it lacks; see `extended`.

        Raises
        ------
        UserError
            The schema or the settings differ, or tensors are missing; the error lists every difference.
        """
        self.check(config, schema)
        known = self.groups
        shared = config.federation.encoders == "shared"
        tensors = {n: t for n, t in self.tensors.items() if shared or not n.startswith(ENCODERS)}
        fresh = GlobalModel.build(config, schema, known.union(groups)).tensors
        if shared:
            tensors = {n: t for n, t in fresh.items() if n.startswith(ENCODERS)} | tensors
        tensors = extended(tensors, {n: t for n, t in fresh.items() if _group(n) not in known | {None}})
        return GlobalModel.begun_with(tensors, config, schema, groups)

    def check(self, config: Config, schema: CohortSchema) -> None:
        """Check that the cohort has the model's schema, and that the settings describe the same architecture.

        Raises
        ------
        UserError
            They differ; the error lists every difference.
        """
        if self.schema.fingerprint != schema.fingerprint:
            lines = difference(self.schema, schema)
            raise several(f"{self.where}: the cohort has another schema (the model's against the cohort's)", lines)
        ours, theirs = self.config.flat(), config.flat()
        keys = [k for k in ours if k == "method.fusion" or (k.startswith("model.") and not k.startswith(FREE))]
        lines = [f"{k}: {ours[k]!r} in the model, {theirs[k]!r} in this run" for k in keys if ours[k] != theirs[k]]
        if lines:
            raise several(f"{self.where}: the model was trained with other settings; use them in this run", lines)


def read_start(folder: str | Path) -> Start:
    """Read the model from the folder of `remind export`, or of a run.

    Raises
    ------
    UserError
        The folder contains no model, or the model cannot be read.
    """
    return Start.of(read_bundle(folder))


def extended(tensors: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a model with blocks for new groups: Φ_k = 0, and B_k the mean of the known groups.

    The model uses the same values for a group that it does not know. Before the first training step, its predictions
    for the new groups are therefore the same as before (algorithm §4.10).

    Parameters
    ----------
    fresh
        Newly initialised blocks of the new groups.
    """
    found = dict(tensors)
    for name, new in fresh.items():
        if name in found:
            continue
        suffix = name.split(".", 3)[3]  # fusion.groups.<bitmask>.<what>
        others = [t for n, t in tensors.items() if _group(n) is not None and n.split(".", 3)[3] == suffix]
        zero = name.endswith(OWN_ZERO) or COMPOSED in tensors or not others
        found[name] = torch.zeros_like(new) if zero else torch.stack(others).mean(dim=0)
    return found


def start_of(config: Config) -> Start | None:
    """Return the initial model that the config names; None if it names none.

    Raises
    ------
    UserError
        The model does not exist, or cannot be read.
    """
    if not config.start.model:
        return None
    try:
        return read_start(config.start.model)
    except UserError as error:
        raise UserError(f"start.model: {error}") from None


def added(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """Return the sum of two numbers of patients, per group."""
    return {k: n for k in sorted({*one, *other}) if (n := one.get(k, 0) + other.get(k, 0))}


def _group(name: str) -> int | None:
    kind, _, group = block_of(name).partition(":")
    return int(group) if kind == "group" else None
