"""A hospital adapts a trained model: it trains its encoders and, if it chooses so, more. No data leaves the site."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from remind.adaptation.alone import Adapted, Alone
from remind.adaptation.settings import Choices, adapted_config, ready
from remind.adaptation.start import Start, added
from remind.config import Config
from remind.data.cohort.cohort import TRAIN, Cohort
from remind.encoders.alone.encoder import ALONE
from remind.errors import UserError
from remind.federation.blocks import ENCODERS
from remind.metrics.calibration import CALIBRATION, write_calibration
from remind.prediction.site_part import SitePart
from remind.training.device import choose_device
from remind_client.load import prepare_process
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore

Say = Callable[[str], None]


@dataclass(frozen=True)
class Adaptation:
    """An adaptation whose inputs have been checked.

    Attributes
    ----------
    cohort
        The hospital's patients with their split.
    given
        Another hospital's encoders, as initial values; None: encoders are initialised as in any run.
    """

    name: str
    start: Start
    choices: Choices
    config: Config
    cohort: Cohort
    given: SitePart | None = None

    @classmethod
    def plan(
        cls,
        name: str,
        start: Start,
        cohort: Cohort,
        choices: Choices,
        device: str = "auto",
        given: SitePart | None = None,
    ) -> "Adaptation":
        """Check that this model can be adapted to these patients.

        Raises
        ------
        UserError
            The cohort has another schema, there are too few training patients, all have one class, or no parameter
            would be trained.
        """
        config = adapted_config(start, choices, device)
        start.check(config, cohort.schema)
        cohort, config = ready(cohort, config, choices)
        found = cls(name, start, choices, config, cohort, given)
        found._refuse_what_trains_nothing()
        found._refuse_other_encoders()
        return found

    def run(self, store: SiteStore, say: Say = lambda text: None) -> Adapted:
        """Train, and store the model like the model of a run in which the hospital took part.

        The calibration is stored beside it. The model is written last, so a store with a model is complete.
        """
        prepare_process(self.config.threads)
        site = Site(self.name, self.cohort, self.config, store, choose_device(self.config.device))
        if self.given is not None:
            begin_with(site, self.given)
        alone = Alone(site, self.start, say)
        trained = alone.train(0 if self.choices.none else None)
        store.folder.mkdir(parents=True, exist_ok=True)
        if trained.calibration is not None:
            write_calibration(store.folder / CALIBRATION, trained.calibration)
        adapted = alone.keep(trained)
        store.save_model(with_other_groups(store.model(), self.start))
        return adapted

    def _refuse_what_trains_nothing(self) -> None:
        training = self.cohort.groups_N[self.cohort.split_N == TRAIN].tolist()
        new = set(training) - self.start.groups if self.start.groups else set()  # otherwise groups have no parameters
        if self.config.federation.encoders == "frozen" and self.config.start.shared == "frozen" and not new:
            raise UserError(
                f"{self.start.where}: the model's encoders and its shared part would be frozen, so nothing would be "
                "trained; choose --shared head or --shared tuned"
            )

    def _refuse_other_encoders(self) -> None:
        if self.given is None:
            return
        if self.given.schema.fingerprint != self.start.schema.fingerprint:
            raise UserError(
                "--encoders-from: these encoders have another schema than the model; give encoders of this model"
            )
        if self.config.model.encoders != self.given.config.model.encoders:
            raise UserError("--encoders-from: these encoders have other settings (model.encoders) than the model")
        if not set(self.given.modalities) & set(self.cohort.schema.names):
            raise UserError("--encoders-from: the file contains no encoders")


def begin_with(site: Site, given: SitePart) -> None:
    """Initialise the encoders with another hospital's weights; the input statistics stay this hospital's own.

    Raises
    ------
    UserError
        A tensor has another shape here.
    """
    engine = site.engine
    training = engine.patients.training()
    for name, encoder in engine.model.encoders.items():
        tensors = weights_of(given, name)
        if not tensors or name == ALONE:
            continue
        try:
            encoder.load_state_dict(tensors)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(f"--encoders-from: the encoder of {name} does not fit here: {reason}") from None
        encoder.fit(training.modalities[name])  # type: ignore[operator]
    engine.store.save(dict(engine.model.encoders.items()), {}, stage=0)


def weights_of(part: SitePart, modality: str) -> dict[str, Tensor]:
    """Return the tensors of a modality's encoder; empty if the part has none."""
    prefix = f"{ENCODERS}{modality}."
    return {n.removeprefix(prefix): t for n, t in part.tensors.items() if n.startswith(prefix)}


def with_other_groups(part: SitePart, start: Start) -> SitePart:
    """Return the part with the blocks of groups without a patient at this hospital.

    In a run the coordinator never sends these blocks. A hospital that adapts a model has the whole model, and can
    predict for such patients.
    """
    others: Mapping[str, Tensor] = {
        n: t for n, t in start.tensors.items() if n.startswith("fusion.groups.") and n not in part.tensors
    }
    return replace(part, tensors={**part.tensors, **others}, counts=added(start.counts, part.own))
