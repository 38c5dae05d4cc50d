"""A site's part of a finished model: everything that the site needs to predict.

A site writes its part when it answers the final examination. The part contains the model that the examination
measured: the encoders at that time and, if a rule keeps parameters at the site (`local`, `fedrep`, `ditto`), these
parameters. A prediction therefore needs no rule, no optimiser and no message. The part never leaves the site; in a
simulation it is in the run's folder.
"""

import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.errors import UserError
from remind.model_file import digest_of
from remind.prediction.ranges import Ranges

FILE = "model.pt"  # in the folder of the site's state for the run
FORMAT = 1
SUPPORT = "support."
AGAIN = "restore the file from a copy, or run the examination again"


@dataclass(frozen=True)
class SitePart:
    """The model that one hospital uses.

    Attributes
    ----------
    site
        The hospital's name.
    round
        Number of rounds that trained the model.
    routing
        Whether Φ_k is in use.
    config, schema
        Configuration and schema of the run.
    counts
        n_k over all hospitals, for the groups that this hospital observes, as far as the coordinator sent them.
    own
        n_{s,k}: this hospital's training patients per group.
    tensors
        Parameters and buffers of `SiteModel` by name: ``fusion.…``, ``encoders.<modality>.…``.
    ranges
        Ranges of its training values.
    support
        For methods that retrieve other patients: tokens of training patients, ``tokens.<i>`` (N, l_i, D) per
        modality, and ``presence`` (N, m).
    support_seed
        Seed of the draws from the support.
    """

    site: str
    round: int
    routing: bool
    config: Config
    schema: CohortSchema
    counts: Mapping[int, int]
    own: Mapping[int, int]
    tensors: Mapping[str, Tensor]
    ranges: Ranges = field(default_factory=Ranges)
    support: Mapping[str, Tensor] = field(default_factory=dict)
    support_seed: int = 0

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities for which the hospital has an encoder, in bit order."""
        has = {name.split(".")[1] for name in self.tensors if name.startswith("encoders.")}
        return tuple(name for name in self.schema.names if name in has)

    @property
    def adapted(self) -> bool:
        """Whether the run began with a trained fusion model (``start.model``)."""
        return bool(self.config.start.model)

    def content(self) -> dict[str, Any]:
        """Return the content of the file: a text that describes the part, its tensors, and a digest of both."""
        about = {
            "format": FORMAT,
            "site": self.site,
            "round": self.round,
            "routing": self.routing,
            "config": self.config.model_dump(mode="json"),
            "schema": self.schema.describe(),
            "counts": {str(k): n for k, n in self.counts.items()},
            "own": {str(k): n for k, n in self.own.items()},
            "ranges": self.ranges.model_dump(mode="json"),
            "support_seed": self.support_seed,
        }
        tensors = {**self.tensors, **{SUPPORT + name: tensor for name, tensor in self.support.items()}}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps(about)
        return {"about": text, "tensors": tensors, "digest": digest_of(tensors, {"about": text})}

    @classmethod
    def of(cls, content: Mapping[str, Any], where: str) -> "SitePart":
        """Return the part that `content` stored.

        Raises
        ------
        UserError
            The file was changed, or another version wrote it; `where` names it.
        """
        about = about_of(content, where)
        tensors: dict[str, Tensor] = content["tensors"]
        if content.get("digest") != digest_of(tensors, {"about": content["about"]}):
            raise UserError(f"{where}: was changed since it was written (its digest does not fit); {AGAIN}")
        own = {n: t for n, t in tensors.items() if not n.startswith(SUPPORT)}
        support = {n.removeprefix(SUPPORT): t for n, t in tensors.items() if n.startswith(SUPPORT)}
        try:
            return cls(
                site=about["site"],
                round=about["round"],
                routing=about["routing"],
                config=Config.model_validate_json(json.dumps(about["config"])),
                schema=CohortSchema.model_validate(about["schema"]),
                counts={int(k): n for k, n in about["counts"].items()},
                own={int(k): n for k, n in about["own"].items()},
                tensors=own,
                ranges=Ranges.model_validate(about["ranges"]),
                support=support,
                support_seed=about["support_seed"],
            )
        except (ValidationError, KeyError):
            raise _other_version(where) from None


def about_of(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the description of a stored part without looking at its tensors.

    Raises
    ------
    UserError
        Another version wrote it.
    """
    about: Any = None
    with suppress(KeyError, TypeError, ValueError):
        about = json.loads(content["about"])
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise _other_version(where)
    return about


def open_part(path: Path) -> dict[str, Any]:
    """Map an unencrypted part into memory; only the tensors that are used are read from disk.

    Raises
    ------
    UserError
        The file cannot be read.
    """
    try:
        content: Any = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {AGAIN}") from None
    except Exception as error:  # unpickling a changed file may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if not isinstance(error, OSError) and not zipfile.is_zipfile(path):
            reason = "it is not the file of a site, or only a part of it"  # torch's own text explains how to save files
        raise UserError(f"{path}: cannot be read: {reason[:200]}; {AGAIN}") from None
    if not isinstance(content, dict):
        raise _other_version(str(path))
    return content


def _other_version(where: str) -> UserError:
    return UserError(f"{where}: was written by another version of federated-remind; use that version, or run again")
