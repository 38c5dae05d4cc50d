"""The model that a run begins with (``start.model``): read, checked against the run, and completed with new groups."""

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

OWN_ZERO = (".residual_LDES", ".residual_right_LrX")  # a group's own, that a model which lacks the group takes for 0
COMPOSED = "fusion.parts.missing_mD"  # with it, the group's own part of B too
FREE = ("model.dropout", "model.hide", "model.encoders.")  # settings that do not belong to the trained fusion model


@dataclass(frozen=True)
class Start:
    """A trained model to begin with.

    Attributes
    ----------
    where
        Its folder, for messages.
    tensors
        By name, as `GlobalModel` has them.
    routing
        Whether Φ_k is in use in it.
    counts
        n_k: patients that it was trained on, per group.
    """

    where: str
    config: Config
    schema: CohortSchema
    tensors: Mapping[str, Tensor]
    routing: bool
    counts: Mapping[int, int]

    @classmethod
    def of(cls, bundle: Bundle) -> "Start":
        """Return the model of a run's folder, or of an exported one."""
        return cls(bundle.where, bundle.config, bundle.schema, bundle.tensors, bundle.routing, bundle.counts)

    @property
    def groups(self) -> frozenset[int]:
        """Groups that have parameters of their own in it."""
        blocks = (block_of(name).partition(":") for name in self.tensors)
        return frozenset(int(name) for kind, _, name in blocks if kind == "group")

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of all that a run takes from it."""
        about = {
            "config": self.config.model_dump_json(),
            "schema": self.schema.fingerprint,
            "routing": json.dumps(self.routing),
            "counts": json.dumps(sorted(self.counts.items())),
        }
        return digest_of(self.tensors, about)

    def routed(self, config: Config) -> bool:
        """Whether Φ_k is in use while encoders train, as it will be in the end.

        Not where a method looks at tokens of other patients: these must not change meanwhile.
        """
        method, _ = fusions.choose(config.method.fusion)
        return self.routing and method.build.set_support is FusionModel.set_support

    def model(self, config: Config, schema: CohortSchema, groups: Iterable[int]) -> GlobalModel:
        """Return this model with blocks for groups that it lacks, as it treats groups that it does not know.

        Raises
        ------
        UserError
            It is of another schema, or of other settings, or lacks tensors; the error names everything.
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
        """Refuse a cohort of another schema, and settings under which these weights would be another model.

        Raises
        ------
        UserError
            Names every difference.
        """
        if self.schema.fingerprint != schema.fingerprint:
            lines = difference(self.schema, schema)
            raise several(f"{self.where}: the cohort is of another schema (the model's against the cohort's)", lines)
        ours, theirs = self.config.flat(), config.flat()
        keys = [k for k in ours if k == "method.fusion" or (k.startswith("model.") and not k.startswith(FREE))]
        lines = [f"{k}: {ours[k]!r} in the model, {theirs[k]!r} in this run" for k in keys if ours[k] != theirs[k]]
        if lines:
            raise several(f"{self.where}: the model was trained with other settings; give these to the run", lines)


def read_start(folder: str | Path) -> Start:
    """Read the folder of `remind export`, or of a run.

    Raises
    ------
    UserError
        There is no model, or it cannot be read.
    """
    return Start.of(read_bundle(folder))


def extended(tensors: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a model with blocks for new groups, as it treats groups that it does not know: Φ_k = 0, mean B.

    So a model that is adapted by no step predicts for these groups what it predicted before (algorithm §4.10).

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
    """Return the model that a run's config names; None: it begins with a new one.

    Raises
    ------
    UserError
        There is no such model.
    """
    if not config.start.model:
        return None
    try:
        return read_start(config.start.model)
    except UserError as error:
        raise UserError(f"start.model: {error}") from None


def added(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """Return the patients per group of both."""
    return {k: n for k in sorted({*one, *other}) if (n := one.get(k, 0) + other.get(k, 0))}


def _group(name: str) -> int | None:
    kind, _, group = block_of(name).partition(":")
    return int(group) if kind == "group" else None
