"""Compute the numbers of `document.Analysis` from a run that is stored or still to be trained."""

from collections.abc import Callable
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory

from remind import groups
from remind.data.cohort.cohort import TEST
from remind.data.sites.hospitals import SYNTHETIC
from remind.errors import several
from remind.fusion.base import FusionModel
from remind.fusion.remind import Remind
from remind_studies.analysis.bootstrap import RESAMPLES
from remind_studies.analysis.document import Analysis, CohortFacts, Gate, GroupFacts, ModelAnalysis, Settings
from remind_studies.analysis.experts import expert_use
from remind_studies.analysis.hospitals import Hospitals
from remind_studies.analysis.looks import BLOCKS, block_names
from remind_studies.analysis.mailed import mailed
from remind_studies.analysis.modality_value import FEW, modality_value
from remind_studies.analysis.patients import Patients
from remind_studies.analysis.probe import routes
from remind_studies.analysis.stored import StoredRun
from remind_studies.analysis.trained import Planned, Say, Wish, trained
from remind_studies.made import Made

SOFT_MOE = "softmoe"


def with_soft_moe(run: StoredRun | Planned) -> Planned:
    """Return the same run with Soft MoE in place of its fusion model; objective and rule stay."""
    method = run.config.method.model_copy(update={"fusion": SOFT_MOE})
    return Planned(run.config.model_copy(update={"method": method}), run.number)


def analyse(
    run: StoredRun | Planned,
    against: StoredRun | Planned | None,
    wish: Wish,
    made: Callable[[], Made],
    say: Say,
    min_count: int = 1,
) -> Analysis:
    """Analyse a run, and a second one on the same patients.

    Parameters
    ----------
    made
        Returns the record of command, date and versions; called at the end.
    say
        Prints progress.
    min_count
        Groups with fewer patients are suppressed.

    Raises
    ------
    UserError
        The patients have changed, or differ between the two runs.
    """
    if isinstance(against, StoredRun):
        _same_patients(run, against)
    cohort, patients, first = _model(run, wish, say)
    models = [first] if against is None else [first, _model(against, wish, say)[2]]
    settings = Settings(
        every=wish.every, patients=wish.patients, whole_set=wish.whole_set, few=FEW, resamples=RESAMPLES
    )
    whole = Analysis(made=made(), settings=settings, cohort=cohort, models=_named(models))
    return mailed(whole, patients, min_count)


def _model(run: StoredRun | Planned, wish: Wish, say: Say) -> tuple[CohortFacts, Patients, ModelAnalysis]:
    """Measure everything about one model, and about the patients it was trained on."""
    config = run.config
    routing = routes(config, config.train.rounds)
    with TemporaryDirectory(prefix="remind-analyze-") as scratch:
        found = trained(run, wish, say, Path(scratch))
        with found.hospitals.in_use(found.tensors, routing) as views:
            experts = expert_use(views, FEW)
            fusion = views[0].engine.model.fusion
        say("  hiding one modality at a time")
        names = block_names(fusion)
        analysis = ModelAnalysis(
            name=config.method.fusion,
            source=run.folder.resolve().name if run.folder else "",
            fusion=config.method.fusion,
            objective=config.method.objective,
            rule=config.method.rule,
            seed=config.seed,
            rounds=config.train.rounds,
            warmup_rounds=config.train.warmup_rounds,
            replay=found.replay,
            parameters=sum(fusion.get_parameter(name).numel() for name in names),
            block="the pre-norm blocks" if names and names[0].startswith(BLOCKS) else "all shared ones but the head",
            drawn=found.drawn,
            left_out=found.left_out,
            whole=found.whole,
            gate=_gate(fusion),
            weights=found.weights,
            looks=tuple(found.looks),
            experts=experts,
            modality_value=modality_value(found.hospitals, found.tensors, routing),
        )
        return _cohort(found.hospitals), Patients.of(found.hospitals), analysis


def _same_patients(run: StoredRun | Planned, against: StoredRun) -> None:
    """Check that both runs used the same cohort, hospitals and split. Each run checks its cohort for changes."""
    a, b = run.config.flat(), against.config.flat()
    deciding = [key for key in a if key == "seed" or key.startswith("data.")]
    if run.config.data.cohort == SYNTHETIC:
        deciding += [key for key in a if key.startswith("synthetic.")]
    other = [f"{key}: {a[key]!r}, there {b[key]!r}" for key in deciding if a[key] != b[key]]
    if run.number not in (None, against.number):
        other.append(f"hospitals: {run.number}, there {against.number}")
    if other:
        raise several(f"--against {against.folder}: was not trained on the same patients; name a run that was", other)


def _gate(fusion: FusionModel) -> Gate | None:
    """Return when a model uses Φ_k; None for a model that has none."""
    if not isinstance(fusion, Remind):
        return None
    config = fusion.config
    if config.gate == "entropy":
        return Gate(kind=config.gate, opens_at=config.threshold)
    if config.gate == "kl" and config.experts > 1:  # ln E − H < ξ
        return Gate(kind=config.gate, opens_at=1 - config.threshold / log(config.experts))
    return Gate(kind=config.gate, opens_at=None)


def _cohort(hospitals: Hospitals) -> CohortFacts:
    schema, trained, tested = hospitals.schema, hospitals.counts(), hospitals.counts(TEST)
    tail = groups.tail(trained)
    return CohortFacts(
        name=schema.name,
        classes=schema.classes,
        modalities=schema.names,
        sites=tuple(site.name for site in hospitals.sites),
        groups=tuple(
            GroupFacts(
                mask=k,
                name=groups.name(k, schema.names),
                tail=k in tail,
                train=trained.get(k, 0),
                test=tested.get(k, 0),
            )
            for k in sorted(trained.keys() | tested.keys())
        ),
    )


def _named(models: list[ModelAnalysis]) -> tuple[ModelAnalysis, ...]:
    """Return the models with unique names: the fusion, and if needed the objective, the rule or the folder."""
    for parts in (("fusion",), ("fusion", "objective"), ("fusion", "objective", "rule"), ("fusion", "source")):
        names = [" + ".join(str(getattr(model, part)) for part in parts) for model in models]
        if len(set(names)) == len(names):
            break
    return tuple(model.model_copy(update={"name": name}) for model, name in zip(models, names, strict=True))
