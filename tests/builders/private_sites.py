"""A site under a privacy guarantee with its ledger, and the questions of a run of this site alone."""

from pathlib import Path

from remind.config import Scalar
from remind.data.cohort.schema import CohortSchema
from remind.federation.flower import read_as
from remind.federation.messages import Examine, Task
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind_client.ledger.budget import Limit
from remind_client.ledger.spender import Spender, limits_of
from remind_client.ledger.spends import PrivacyLedger
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_server.rounds.member import Member
from remind_server.rounds.state import State
from remind_server.rounds.tasks import examine_task, sites_of, train_tasks
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import settings
from tests.builders.sites import CPU

PRIVATE: dict[str, Scalar] = {
    "privacy.mode": "site",
    "privacy.noise": 1.0,
    "privacy.epsilon": 1e6,
    "privacy.counts-noise": 0.5,
    "evaluation.calibration": "none",
    "method.objective": "erm",
    "train.warmup-rounds": 4,
}
SECRET = bytes(range(32))


def given_scale(classes: int = 2) -> CohortSchema:
    """A schema of tables whose numbers are standardised as it declares."""
    scale = {"mean": {"p": 0.0, "r": 0.0}, "std": {"p": 1.0, "r": 1.0}, "standardise": "given"}
    of = schema(series=(), classes=classes)
    return of.model_copy(update={"modalities": tuple(m.model_copy(update=scale) for m in of.modalities)})


def private_site(folder: Path, changes=None, limits=None, name="s", secret=SECRET, version="", mix=None) -> Site:
    """A site in a new process: what it knows lies in this folder."""
    config = settings(PRIVATE | (changes or {}))
    spender = Spender(PrivacyLedger(folder / "privacy"), "1", limits_of(config) if limits is None else limits)
    patients = cohort(mix or [1, 1, 3] * 10, of=given_scale())
    store = SiteStore(folder / "run")
    return Site(name, patients, config, store, CPU, keeps_answers=True, secret=secret, spender=spender, version=version)


def question(site: Site, round_: int, seed: int = 0) -> tuple:
    """The task of a round; `seed` tells one global model from another."""
    member, state = _before(site, round_, seed)
    tasks = train_tasks(site.config, site.cohort.schema, state, [member], [member])
    return read_as(tasks[2].record(), Task)


def examination(site: Site, round_: int) -> tuple:
    """The final examination."""
    member, state = _before(site, round_, 0)
    return read_as(examine_task(site.config, site.cohort.schema, state, member, routing=False, on_test=True), Examine)


def rows(site: Site, what: str) -> list[int | None]:
    """Rounds in which privacy was spent on this kind of release."""
    assert site.spender is not None
    return [s.round for s in site.spender.ledger.spends() if s.release.mechanism.what == what]


def only(epsilon: float) -> tuple[Limit, ...]:
    """One limit of a run."""
    return (Limit("policy.privacy.epsilon_per_run", epsilon, 1e-5),)


def _before(site, round_, seed):
    config, counts = site.config, site.engine.patients.counts
    member = Member(2, "s", counts, frozenset(counts))
    weights = methods_of(config).weighing.initial(sites_of([member]))
    model = GlobalModel.build(config.model_copy(update={"seed": seed}), site.cohort.schema, counts)
    return member, State(round_, model, weights)
