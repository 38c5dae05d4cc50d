"""`remind-site adapt`: adapt a trained model to this hospital and store it in the vault, as after a run."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from remind import groups
from remind.adaptation.alone import Adapted
from remind.adaptation.settings import Choices
from remind.adaptation.start import Start, read_start
from remind.data.cohort.read import read_cohort
from remind.errors import UserError
from remind.metrics.scores import SCORES
from remind.metrics.statistics import total
from remind.prediction.bundle import SITES
from remind.prediction.site_part import FILE, SitePart, open_part
from remind.processes.locks import locked
from remind.processes.private_files import private_folder
from remind_client.audit.events import AdaptedModel
from remind_client.models.adaptation import Adaptation, Say
from remind_client.policy.rules import named_models
from remind_client.site_config import SiteConfig
from remind_client.store.site_store import SiteStore
from remind_client.vault_begin import make_key

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
SHOWN = ("auroc", "balanced_accuracy", "log_loss")


@dataclass(frozen=True)
class Kept:
    """A stored adaptation and its folder; `predict` and `serve` select it by its id (``--run``)."""

    id: str
    folder: Path
    plan: Adaptation
    adapted: Adapted


def adapt_here(
    site: SiteConfig,
    model: Path,
    choices: Choices,
    name: str = "",
    cohort: str = "",
    encoders_from: Path | None = None,
    say: Say = lambda text: None,
) -> Kept:
    """Adapt a model to this hospital's patients, and store it in the vault.

    Parameters
    ----------
    model
        The folder of `remind export`, or of a run.
    name
        Name of the adaptation; empty: the name of the model's folder.
    cohort
        Another cohort than that of site.toml.
    encoders_from
        A folder with encoders that another hospital published.

    Raises
    ------
    UserError
        The model does not exist, it does not fit the patients or the policy, or an adaptation has this name. Nothing
        is stored then.
    """
    id_ = _id(name, model)
    folder = site.runs_folder / f"run-{id_}"
    if (folder / FILE).exists():
        raise UserError(f"{folder}: an adapted model with this name exists already; give another name with --name")
    start = read_start(model)
    _refuse_by_policy(site, start)
    given = None if encoders_from is None else encoders_of(encoders_from)
    patients = read_cohort(Path(cohort).absolute() if cohort else site.path(site.cohort), memory=site.memory())
    plan = Adaptation.plan(site.site, start, patients, choices, site.device, given)
    private_folder(site.state_folder)
    make_key(site)
    private_folder(site.runs_folder)
    with _alone_in(folder):
        adapted = plan.run(SiteStore(folder, site.open_vault()), say)
    site.audit_log.append(
        AdaptedModel(
            name=id_, model=model.name, fingerprint=start.schema.fingerprint, patients=sum(adapted.own.values())
        )
    )
    return Kept(id_, folder, plan, adapted)


def encoders_of(folder: Path) -> SitePart:
    """Return the encoders that a hospital published: a ``model.pt`` in this folder, or in one of its ``sites/``.

    Raises
    ------
    UserError
        There are no encoders, or encoders of several hospitals.
    """
    found = [folder] if folder.is_file() else sorted([*folder.glob(FILE), *folder.glob(f"{SITES}/*/{FILE}")])
    if len(found) != 1:
        what = f"encoders of {len(found)} hospitals" if found else "no encoders"
        raise UserError(
            f"--encoders-from {folder}: {what}; give the folder, or the {FILE}, with the encoders of one hospital"
        )
    return SitePart.of(open_part(found[0]), str(found[0]))


def lines(kept: Kept) -> list[str]:
    """Return the report of an adaptation, line by line."""
    adapted, plan = kept.adapted, kept.plan
    names, trained = plan.cohort.schema.names, adapted.trained
    before, rounds = plan.start.counts, f"{trained.rounds} rounds"
    chosen = rounds if trained.round == trained.rounds else f"the best of {rounds}, round {trained.round}"
    held = sum(one.count for one in adapted.validation.values())
    early = plan.config.train.select != "last"
    said = [
        f"adapted to {sum(adapted.own.values())} training patients: {chosen}; shared part: {plan.config.start.shared}",
        f"chosen on {held} validation patients" if early else "too few validation patients to choose; the last round",
        "combination: training patients here, training patients of the initial model",
    ]
    for k in sorted(adapted.counts, key=lambda k: (-adapted.own.get(k, 0), k)):
        new = ", new: its own router was trained" if k in adapted.new else ""
        said.append(f"  {groups.name(k, names)}: {adapted.own.get(k, 0)}, {before.get(k, 0)}{new}")
    if (everyone := total(adapted.test)) is not None:
        scores = {name: SCORES[name].value(everyone) for name in SHOWN}
        shown = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if value is not None)
        said.append(f"{everyone.count} test patients: {shown}")
    said += [f"stored: {kept.folder / FILE}", f"use it: remind-site predict --run {kept.id} --cohort NEW"]
    return said


def _id(name: str, model: Path) -> str:
    given = name or model.resolve().name.lower()
    if not NAME.fullmatch(given):
        raise UserError(f"--name {given!r}: use at most 64 lower-case letters, digits, '.', '_' and '-'")
    return f"adapted-{given}"


def _refuse_by_policy(site: SiteConfig, start: Start) -> None:
    """Apply the policy for settings of a run to a model from elsewhere: it can also name a download or a local file."""
    for key, value in named_models(start.config).items():
        if not site.policy.model_allowed(value):
            raise UserError(
                f"{start.where}: {key} = {value!r} is not allowed by this site's policy (policy.models in site.toml)"
            )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lock this folder, and remove it if the work does not finish."""
    busy = f"{folder.name}: another remind-site adapt is working on it; wait for it, or give another --name"
    with locked(folder.with_name(f".{folder.name}.lock"), busy):
        if folder.exists():  # left by a process that was killed
            shutil.rmtree(folder)
        try:
            yield
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
