"""The coordinator's state between two rounds, and its file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeAlias

from pydantic import ValidationError
from torch import Tensor

from remind.errors import UserError
from remind.federation.site_weights import S, Weighing
from remind.files import write_whole
from remind.global_model import GlobalModel
from remind.metrics.selection import Verdict
from remind.model_file import load_model, save_model

MODEL, MEMORY, BEST, STATE = (
    "model/",
    "memory/",
    "best/",
    "state",
)  # prefixes of tensor names in the file; the metadata key of everything else
REMEDY = "restore it from a copy, or start the run again"


@dataclass(frozen=True)
class State(Generic[S]):
    """Everything that the next round depends on, besides config, roster and sites.

    Attributes
    ----------
    round
        Number of completed rounds.
    weights
        State of the run's `Weighing`.
    memory
        State of the rule's `server_step`, and the mean of `remind.federation.averaging`.
    best
        The best model so far, if the run chooses one.
    """

    round: int
    model: GlobalModel
    weights: S
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    best: "Best | None" = None

    def save(self, path: Path, weighing: Weighing[S], more: Mapping[str, str] | None = None) -> None:
        """Write one file, complete or not at all: tensors as safetensors, everything else as JSON in its metadata.

        `more` is further metadata.
        """
        tensors = {MODEL + n: t for n, t in self.model.tensors.items()}
        tensors |= {MEMORY + n: t for n, t in self.memory.items()}
        rest: dict[str, Any] = {"round": self.round, "weights": weighing.states.dump_python(self.weights, mode="json")}
        if self.best is not None:
            tensors |= {BEST + n: t for n, t in self.best.model.tensors.items()}
            rest["best"] = asdict(self.best.verdict) | {"weights": {str(k): w for k, w in self.best.weights.items()}}
        metadata = {**(more or {}), STATE: json.dumps(rest)}
        write_whole(path, lambda partial: save_model(partial, tensors, metadata), private=True, durable=True)

    @classmethod
    def load(cls, path: Path, weighing: Weighing[S]) -> "State[S]":
        """Return the state from a file, equal to the saved one to the last bit.

        Raises
        ------
        UserError
            The file cannot be read, was changed, is not a state, or belongs to another method.
        """
        tensors, metadata = load_model(path, REMEDY)
        return cls.of(tensors, metadata, weighing, path)

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], weighing: Weighing[S], path: Path
    ) -> "State[S]":
        """Return the state from the content of a file.

        Raises
        ------
        UserError
            The content is not a state, or belongs to another method.
        """
        try:
            rest = json.loads(metadata[STATE])
            weights = weighing.states.validate_json(json.dumps(rest["weights"]))
            round_ = int(rest["round"])
            best = _best(rest.get("best"), _named(tensors, BEST))
        except (KeyError, TypeError, ValueError) as error:
            why = "its weights belong to another method" if isinstance(error, ValidationError) else "it is not a state"
            raise UserError(f"{path}: cannot be resumed from: {why}; {REMEDY}") from None
        return cls(round_, GlobalModel(_named(tensors, MODEL)), weights, _named(tensors, MEMORY), best)


SomeState: TypeAlias = State[Any]  # of a run: the config decides the type of its weights, see `SomeWeighing`


@dataclass(frozen=True)
class Best:
    """The best model so far, λ after its round, and its value on validation patients."""

    verdict: Verdict
    model: GlobalModel
    weights: Mapping[int, float]


def _best(rest: Any, tensors: Mapping[str, Tensor]) -> Best | None:
    if rest is None:
        return None
    weights = {int(k): float(w) for k, w in rest.pop("weights").items()}
    return Best(Verdict(**rest), GlobalModel(tensors), weights)


def _named(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
