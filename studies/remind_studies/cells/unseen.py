"""The runner of study `unseen`: groups held out of training, then adapted to (algorithm §4.10; the paper's Fig. 5).

The arm's method is trained on the patients of all other groups. From this model, an increasing part is fine-tuned on
the held-out groups' training patients, with frozen encoders (rule `adapt`). Every model is evaluated on the test
patients of all groups at every hospital: the held-out groups, and the others, for which it may become worse.
Validation patients are those of the groups that were not held out.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from remind.adaptation.start import extended
from remind.config import Config, Scalar
from remind.data.cohort.cohort import TEST, TRAIN, Cohort
from remind.data.sites.sites import Site as Hospital
from remind.encoders.alone.encoder import ALONE
from remind.errors import UserError
from remind.federation.blocks import ENCODERS, index_of, pack
from remind.federation.messages import Examine
from remind.federation.rules.adapt import Adapt, has_experts
from remind.federation.rules.base import Rule
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_server.rounds.tasks import shared_modalities
from remind_studies.cells.cell import Cell, CellResult, Outcome
from remind_studies.cells.patients import hospitals
from remind_studies.cells.train import Federation, Traces, federate, result_of

UNTOUCHED = "not adapted"


@dataclass(frozen=True)
class Step:
    """A way of fine-tuning: its name, and the options of rule `adapt`."""

    name: str
    parts: str
    experts: float = 1.0


STEPS = (
    Step("own routing", "groups"),
    Step("head", "head"),
    Step("head + router", "head+groups+router"),
    Step("+ 25 % of experts", "head+groups+router+experts", 0.25),
    Step("+ 50 % of experts", "head+groups+router+experts", 0.5),
    Step("+ 100 % of experts", "head+groups+router+experts"),
)


def run(cell: Cell, folder: Path) -> CellResult:
    """Train without the held-out groups, adapt to them in each way, and evaluate every model.

    Raises
    ------
    UserError
        No patients are left to train on or to adapt to, or the rule has no single complete model.
    """
    began = time.monotonic()
    config, options = cell.config, cell.options
    refuse_what_does_not_travel(config)
    held = frozenset(int(mask) for mask in str(options["groups"]).split(","))
    whole = hospitals(cell)
    before = [replace(h, cohort=without_training(h.cohort, held)) for h in whole]
    taking_part = [i for i, h in enumerate(before) if training_patients(h.cohort)]
    if not taking_part:
        raise UserError("unseen: no patient is left to train on; hold out fewer groups")
    before = [before[i] for i in taking_part]
    met = [only(whole[i].cohort, held) for i in taking_part]
    adapting = [i for i, cohort in enumerate(met) if training_patients(cohort)]
    if not adapting:
        raise UserError("unseen: no training patient of the held-out groups is there to adapt to")
    traces = Traces()
    base = federate(config, before, folder / "base", [traces])
    start = extended(base.result.tensors, GlobalModel.build(config, base.result.schema, held).tensors)
    outcomes = [examined(UNTOUCHED, base, start, base.result.routing)]
    facts = {
        "hospitals without other patients, left out": float(len(whole) - len(before)),
        "training patients to adapt to": float(sum(map(training_patients, met))),
    }
    for number, step in enumerate(possible(base.sites[0], config)):
        adapted = adapting_config(config, step, int(options["rounds"]))
        place = folder / f"adapted-{number}"
        patients = [Hospital(before[i].name, met[i]) for i in adapting]
        for position, i in enumerate(adapting):
            hand_over_encoders(base.sites[i], met[i], SiteStore(place / str(position)))
        travelling = {n: t for n, t in start.items() if not n.startswith(ENCODERS)}
        tuned = federate(adapted, patients, place, start=travelling).result.tensors
        outcomes.append(examined(step.name, base, {**start, **tuned}, routing=True))
    result = result_of(cell, before, outcomes, traces, began)
    return result.model_copy(update={"facts": facts})


def refuse_what_does_not_travel(config: Config) -> None:
    """Check that the rule has a single complete model, which can be adapted."""
    rule = methods_of(config).rule
    personal = rule.personal or type(rule).measured is not Rule.measured
    if rule.pooled or personal or not rule.groups_travel or not rule.travels("fusion.head.weight"):
        raise UserError(f"unseen: with method.rule={config.method.rule!r} there is no single complete model to adapt")


def training_patients(cohort: Cohort) -> int:
    """Return the number of training patients."""
    assert cohort.split_N is not None
    return int((cohort.split_N == TRAIN).sum())


def without_training(cohort: Cohort, held: Collection[int]) -> Cohort:
    """Return the patients without those of the held-out groups, except for their test patients."""
    return cohort.take(~np.isin(cohort.groups_N, list(held)) | (cohort.split_N == TEST))


def only(cohort: Cohort, held: Collection[int]) -> Cohort:
    """Return the patients of the held-out groups, except for their test patients."""
    return cohort.take(np.isin(cohort.groups_N, list(held)) & (cohort.split_N != TEST))


def possible(site: Site, config: Config) -> list[Step]:
    """Return the steps whose parts the fusion model has; of steps that train the same parameters, only the first."""
    names = [name for name, _ in site.engine.model.named_parameters()]
    found: dict[tuple[frozenset[str], float], Step] = {}
    for step in STEPS:
        rule = methods_of(adapting_config(config, step, 1)).rule
        assert isinstance(rule, Adapt)
        moving = frozenset(name for name in names if rule.moves(name))
        if moving and (step.experts == 1 or any(has_experts(name) for name in moving)):
            found.setdefault((moving, step.experts), step)
    return list(found.values())


def adapting_config(config: Config, step: Step, rounds: int) -> Config:
    """Return the run's config for fine-tuning: only stage 2, unchanged encoders, every hospital in every round.

    Parameters
    ----------
    rounds
        Rounds of fine-tuning; 0: as many as stage 2 has, or as the whole training if it has no stage 2.
    """
    train, objective = config.train, methods_of(config).objective
    rounds = rounds or train.routing_rounds or train.rounds
    one_phase = len(objective.phases(rounds)) == 1
    changes: dict[str, Scalar] = {
        "method.rule": f"adapt(parts = '{step.parts}', experts = {step.experts})",
        "method.objective": config.method.objective if one_phase else "erm",  # several phases would restart
        "federation.encoders": "frozen",
        "federation.participation": 1.0,
        "federation.min-sites": 1,
        "train.warmup-rounds": 0,
        "train.routing-rounds": rounds,
    }
    return Config.from_flat({**config.flat(), **changes})


def hand_over_encoders(site: Site, patients: Cohort, store: SiteStore) -> None:
    """Copy a site's final encoders, of the modalities that these patients have, to the store of the next training."""
    encoders = site.engine.model.encoders.items()
    has = {name for name, contents in patients.modalities.items() if contents.present().any()} | {ALONE}
    store.save({name: encoder for name, encoder in encoders if name in has}, {}, stage=0)


def examined(name: str, base: Federation, tensors: Mapping[str, Tensor], routing: bool) -> Outcome:
    """Examine a global model at every hospital, with its own encoders."""
    config, schema, found = base.result.config, base.result.schema, {}
    for site in base.sites:
        modalities = shared_modalities(config, schema, site.engine.patients.observed)
        sent = GlobalModel(tensors).select(site.engine.patients.observed, modalities)
        task = Examine(round=base.result.round, routing=routing, index=index_of(sent, config.federation.dtype))
        found[site.name] = site.examine(task, pack(sent, config.federation.dtype))
    return Outcome(
        name=name,
        test={site: examination.test for site, examination in found.items()},
        validation={site: examination.validation for site, examination in found.items()},
    )
