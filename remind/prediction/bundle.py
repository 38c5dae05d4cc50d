"""A trained model with its configuration, read from the folder of a run or from a hospital's own part of the model."""

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
        The folder that it was read from, for error messages.
    config, schema
        Configuration and schema of the run.
    round
        Number of rounds that trained the model.
    counts
        n_k: training patients per group, over all hospitals.
    weights
        λ_k of each group after the last of these rounds.
    tensors
        The coordinator's tensors by name. Empty at a hospital: its part contains every tensor that it received.
    parts
        The parts of hospitals that are available on this machine: a loaded part, or the path of its file.
    calibration
        None if the run has no calibration.
    routed
        Whether the model is of stage 2. None if the file does not say so; the model is then that of the last round.
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
        """Check that the calibration belongs to this model.

        Raises
        ------
        UserError
            The calibration has other classes than the model.
        """
        if self.calibration is not None and self.calibration.classes != self.schema.classes:
            raise UserError(
                f"{self.where}: the calibration has the classes {', '.join(self.calibration.classes)}, and the model "
                f"has {', '.join(self.schema.classes)}; use the calibration.json of the model's own run"
            )

    @property
    def serves_everybody(self) -> bool:
        """Whether the model needs no hospital's part: hospitals keep no part of it, and fit no encoder."""
        if not self.tensors or self.config.federation.encoders == "local" or self.config.model.stays:
            return False
        if self.config.model.baseline == "hospital" or not _sends_all(self.config.method.rule):
            return False
        return not any(needs_fit(modality, self.config.model) for modality in self.schema.modalities)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the hospitals whose parts are available, sorted."""
        return tuple(sorted(self.parts))

    @property
    def routing(self) -> bool:
        """Whether the model uses Φ_k. A model that was chosen from a round of stage 1 does not."""
        return self.config.train.routing_rounds > 0 if self.routed is None else self.routed

    def part(self, site: str) -> SitePart:
        """Return a hospital's part.

        Raises
        ------
        UserError
            The part of this hospital is not available, or it cannot be read.
        """
        if not self.parts:
            raise UserError(
                f"{self.where}: contains no hospital's encoders. They stay at the hospitals; each hospital predicts "
                "with its own: remind-site predict. (A simulation writes them to this folder when it ends.)"
            )
        if site not in self.parts:
            here = ", ".join(self.sites)
            raise UserError(
                f"{self.where}: contains no encoders of hospital {site!r}{did_you_mean(site, self.sites)}; each "
                f"hospital trains its own encoders, and this folder contains those of: {here}"
            )
        found = self.parts[site]
        return found if isinstance(found, SitePart) else SitePart.of(open_part(found), str(found))


def _sends_all(rule: str) -> bool:
    """Return whether a federated rule keeps no part of the model at the hospitals; true if it is not installed here."""
    from remind.federation.rules.base import registry as rules  # with all of training

    try:
        return rules.choose(rule)[0].build.sends_all()
    except UserError:
        return True


def read_bundle(folder: str | Path) -> Bundle:
    """Read the model from the results folder of a run.

    Parameters
    ----------
    folder
        The folder of the run, or its ``model.safetensors``.

    Raises
    ------
    UserError
        The folder contains no model of a run, or the model cannot be read.
    """
    path = Path(folder).expanduser()
    path = path.parent if path.name == MODEL else path
    if not (path / MODEL).is_file():
        what = "contains no model" if path.is_dir() else "is a file" if path.exists() else "no such folder"
        raise UserError(
            f"{path}: {what}; give the results folder of a run; it contains {MODEL} (remind simulate prints its name)"
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
            f"{path / MODEL}: does not say which run wrote it; another version of federated-remind wrote the file"
        ) from None
    calibration = read_calibration(path / CALIBRATION)
    return Bundle(
        str(path), config, schema, trained, counts, weights, tensors, _parts(path / SITES), calibration, routed
    )


def require_new_folder(out: Path) -> None:
    """Check that the folder for a new model does not exist yet and can be created.

    Raises
    ------
    UserError
        The folder exists, or its parent folder does not.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; give a new folder")
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first")


def of_part(part: SitePart, where: str, calibration: Calibration | None = None) -> Bundle:
    """Return the bundle of a hospital that has only its own part; `where` names it in error messages."""
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
