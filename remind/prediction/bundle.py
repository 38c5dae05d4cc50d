"""Everything that a prediction needs, from the folder of a run or from a hospital's own part of the model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.encoders import needs_fit
from remind.errors import UserError
from remind.metrics.calibration import CALIBRATION, Calibration, read_calibration
from remind.model_file import load_model
from remind.prediction.site_part import FILE, SitePart, about_of, open_part
from remind.suggest import did_you_mean

MODEL, SITES = "model.safetensors", "sites"  # in the folder of a run


@dataclass(frozen=True)
class Bundle:
    """A trained model.

    Attributes
    ----------
    where
        The folder it came from, for messages.
    config, schema
        Those of the run.
    round
        Rounds of training behind the model.
    counts
        n_k: training patients per group, over all hospitals.
    weights
        λ_k after the last of these rounds.
    tensors
        The coordinator's tensors by name; empty at a hospital, whose part holds all that it was sent.
    parts
        The hospitals' parts that are at hand: a loaded part, or its file.
    calibration
        None: the run has none.
    routed
        Whether the model is one of stage 2; None: not said, the last round's.
    """

    where: str
    config: Config
    schema: CohortSchema
    round: int
    counts: Mapping[int, int]
    weights: Mapping[int, float] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    parts: Mapping[str, SitePart | Path] = field(default_factory=dict)
    calibration: Calibration | None = None
    routed: bool | None = None

    def __post_init__(self) -> None:
        """Refuse a calibration of another model.

        Raises
        ------
        UserError
            It is of other classes.
        """
        if self.calibration is not None and self.calibration.classes != self.schema.classes:
            raise UserError(
                f"{self.where}: the calibration is of the classes {', '.join(self.calibration.classes)}, and the "
                f"model's are {', '.join(self.schema.classes)}; give the calibration.json of the model's own run"
            )

    @property
    def serves_everybody(self) -> bool:
        """Whether no hospital's part is needed: all encoders are shared or frozen, and know nothing of a hospital."""
        if not self.tensors or self.config.federation.encoders == "local" or self.config.model.stays:
            return False
        return not any(needs_fit(modality, self.config.model) for modality in self.schema.modalities)

    @property
    def sites(self) -> tuple[str, ...]:
        """Hospitals whose parts are at hand, by name."""
        return tuple(sorted(self.parts))

    @property
    def routing(self) -> bool:
        """Whether Φ_k is in use: not by a model that was chosen from a round of stage 1."""
        return self.config.train.routing_rounds > 0 if self.routed is None else self.routed

    def part(self, site: str) -> SitePart:
        """Return a hospital's part.

        Raises
        ------
        UserError
            There is none of this hospital, or it cannot be read.
        """
        if not self.parts:
            raise UserError(
                f"{self.where}: holds no hospital's encoders; they stay at the hospitals, and each predicts with its "
                "own: remind-site predict (a simulation has them here once it has ended)"
            )
        if site not in self.parts:
            here = ", ".join(self.sites)
            raise UserError(
                f"{self.where}: holds no encoders of hospital {site!r}{did_you_mean(site, self.sites)}; encoders are "
                f"trained at each hospital, and here are those of: {here}"
            )
        found = self.parts[site]
        return found if isinstance(found, SitePart) else SitePart.of(open_part(found), str(found))


def read_bundle(folder: str | Path) -> Bundle:
    """Read what a run left in its results folder.

    Parameters
    ----------
    folder
        The folder of the run, or its ``model.safetensors``.

    Raises
    ------
    UserError
        It is not the folder of a run that has a model, or the model cannot be read.
    """
    path = Path(folder).expanduser()
    path = path.parent if path.name == MODEL else path
    if not (path / MODEL).is_file():
        what = "has no model" if path.is_dir() else "is a file" if path.exists() else "no such folder"
        raise UserError(
            f"{path}: {what}; give the results folder of a run, in which {MODEL} lies (remind simulate prints its name)"
        )
    tensors, about = load_model(path / MODEL)
    try:
        config = Config.model_validate_json(about["config"])
        schema = CohortSchema.model_validate(json.loads(about["schema"]))
        counts = {int(k): int(n) for k, n in json.loads(about["counts"]).items()}
        weights = {int(k): float(w) for k, w in json.loads(about["weights"]).items()}
        trained = int(about["round"])
        routed = None if "routing" not in about else bool(json.loads(about["routing"]))
    except (KeyError, ValueError, ValidationError):
        raise UserError(
            f"{path / MODEL}: does not say which run it is of: another version of federated-remind wrote it"
        ) from None
    calibration = read_calibration(path / CALIBRATION)
    return Bundle(
        str(path), config, schema, trained, counts, weights, tensors, _parts(path / SITES), calibration, routed
    )


def require_new_folder(out: Path) -> None:
    """Refuse a folder for a model that is there already, or cannot be made.

    Raises
    ------
    UserError
        It is there, or what it would lie in is not.
    """
    if out.exists():
        raise UserError(f"{out}: is there already; give a new folder")
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first")


def of_part(part: SitePart, where: str, calibration: Calibration | None = None) -> Bundle:
    """Return the bundle of a hospital that has its own part alone; `where` names it in messages."""
    return Bundle(
        where=where,
        config=part.config,
        schema=part.schema,
        round=part.round,
        counts=dict(part.counts),
        parts={part.site: part},
        calibration=calibration,
    )


def _parts(folder: Path) -> dict[str, SitePart | Path]:
    found: dict[str, SitePart | Path] = {}
    for path in sorted(folder.glob(f"*/{FILE}")):
        found[str(about_of(open_part(path), str(path))["site"])] = path
    return found
