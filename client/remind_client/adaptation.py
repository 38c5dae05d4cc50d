"""A hospital adapts a trained model: its own encoders, and what else its choice lets train. Nothing leaves the site."""

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
from remind_client.site import Site
from remind_client.store import SiteStore

Say = Callable[[str], None]


@dataclass(frozen=True)
class Adaptation:
    """An adaptation that can begin: everything that could be wrong has been looked at.

    Attributes
    ----------
    cohort
        The hospital's patients with their split.
    given
        A hospital's encoders to begin with; None: they begin as every hospital's do.
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
            The cohort is of another schema, too few patients are left to train on, they are of one class, or nothing
            would train.
        """
        config = adapted_config(start, choices, device)
        start.check(config, cohort.schema)
        cohort, config = ready(cohort, config, choices)
        found = cls(name, start, choices, config, cohort, given)
        found._refuse_what_trains_nothing()
        found._refuse_other_encoders()
        return found

    def run(self, store: SiteStore, say: Say = lambda text: None) -> Adapted:
        """Train, and keep the model in the store, as a hospital keeps the model of a run that it took part in.

        The calibration lies beside it; the model comes last, so that a store with a model is complete.
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
        new = set(training) - self.start.groups if self.start.groups else set()  # else groups have nothing of their own
        if self.config.federation.encoders == "frozen" and self.config.start.shared == "frozen" and not new:
            raise UserError(
                f"{self.start.where}: its encoders are frozen, and its shared part would be: nothing would train; "
                "choose --shared head or tuned"
            )

    def _refuse_other_encoders(self) -> None:
        if self.given is None:
            return
        if self.given.schema.fingerprint != self.start.schema.fingerprint:
            raise UserError("--encoders-from: these encoders are of another schema than the model; give the model's")
        if self.config.model.encoders != self.given.config.model.encoders:
            raise UserError("--encoders-from: these are encoders of other settings (model.encoders) than the model's")
        if not set(self.given.modalities) & set(self.cohort.schema.names):
            raise UserError("--encoders-from: there are no encoders")


def begin_with(site: Site, given: SitePart) -> None:
    """Begin with another hospital's encoders: their weights, and this hospital's own statistics of its inputs.

    Raises
    ------
    UserError
        A tensor has another shape here.
    """
    engine = site.engine
    training = engine.cohort.take(engine.index[TRAIN])
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
    """Return the part with the blocks of the groups that this hospital has no patient of.

    A hospital in a run is never sent these; one that adapts a model has it whole, and can serve such patients.
    """
    others: Mapping[str, Tensor] = {
        n: t for n, t in start.tensors.items() if n.startswith("fusion.groups.") and n not in part.tensors
    }
    return replace(part, tensors={**part.tensors, **others}, counts=added(start.counts, part.own))
