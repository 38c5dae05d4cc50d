"""The runner of most cells: a federation in this process, or all its patients in one place."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from remind import groups
from remind.config import Config
from remind.data.cohort.cohort import TEST, TRAIN, VALIDATION
from remind.data.sites.hospitals import pool
from remind.data.sites.sites import Site as Hospital
from remind.federation.message_statistics import Evaluation
from remind.methods import methods_of
from remind.metrics.statistics import GroupStatistics, total
from remind.training.device import choose_device
from remind_client.engine.private_steps import simulated_secret
from remind_client.load import prepare_process
from remind_client.policy.rules import fingerprint
from remind_client.rounds.secure import SecureAnswers
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_server.outputs.records import Observer, RoundRecord, RunResult
from remind_studies.cells.cell import BySite, Cell, CellResult, Outcome, RoundTrace
from remind_studies.cells.patients import hospitals
from remind_studies.cells.together import train_together

Statistics = Mapping[str, Mapping[int, GroupStatistics]]


class Traces(Observer):
    """Observer that keeps each round's numbers."""

    def __init__(self) -> None:
        self.rounds: list[RoundTrace] = []

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Store the numbers that a report draws."""
        everyone = total(record.validation)
        self.rounds.append(
            RoundTrace(
                round=record.round,
                stage=record.stage,
                weights=dict(record.weights_used),
                risks=dict(record.risks),
                gate_open={k: s.open_sum / s.count for k, s in record.validation.items()},
                validation_log_loss=everyone.log_loss if everyone else None,
                bytes_down=record.bytes_down,
                bytes_up=record.bytes_up,
            )
        )


@dataclass(frozen=True)
class Federation:
    """A federation that has run: the coordinator's result, and the sites with their encoders and the final model."""

    result: RunResult
    sites: tuple[Site, ...]


def federate(
    config: Config,
    patients: Sequence[Hospital],
    folder: Path,
    observers: Sequence[Observer] = (),
    start: Mapping[str, Tensor] | None = None,
) -> Federation:
    """Run a federation of these hospitals in this process.

    Parameters
    ----------
    folder
        Folder for the sites' own files; a site continues with encoders that it finds there.
    observers, start
        As for `train_together`.

    Raises
    ------
    UserError
        A site did not take part to the end.
    """
    prepare_process(config.threads)
    sites = sites_of(config, patients, folder)
    return Federation(train_together(config, sites, observers, start), sites)


def sites_of(config: Config, patients: Sequence[Hospital], folder: Path) -> tuple[Site, ...]:
    """Return the hospitals as the federation runs them: virtual, so that secrets of privacy follow from the seed.

    No ledger pays for what they release: settings are tried, and nothing leaves the researcher.
    """
    device = choose_device(config.device)
    found = []
    for i, p in enumerate(patients):
        store, secret = SiteStore(folder / str(i)), simulated_secret(config.seed, p.name)
        masks = config.federation.secure_aggregation
        secure = SecureAnswers("1", p.name, fingerprint(config), store, None, virtual=True) if masks else None
        found.append(Site(p.name, p.cohort, config, store, device, secret=secret, secure=secure))
    return tuple(found)


def run(cell: Cell, folder: Path) -> CellResult:
    """Train and evaluate, by hospital, also if all patients are pooled."""
    began = time.monotonic()
    config, patients = cell.config, hospitals(cell)
    traces = Traces()
    if methods_of(config).rule.pooled:
        outcome = _pooled(config, patients, folder, traces)
    else:
        result = federate(config, patients, folder, [traces]).result
        outcome = Outcome(test=evaluations(result.test), validation=evaluations(result.validation))
    return result_of(cell, patients, [outcome], traces, began)


def _pooled(config: Config, patients: tuple[Hospital, ...], folder: Path, traces: Traces) -> Outcome:
    """Train on all patients at one site: as many steps, each with as many patients as all hospitals' steps together."""
    batch = config.train.batch * len(patients)
    config = config.model_copy(update={"train": config.train.model_copy(update={"batch": batch})})
    whole = pool(patients)
    done = federate(config, [whole], folder, [traces])
    (site,), routing = done.sites, done.result.routing
    assert whole.cohort.site_N is not None
    assert whole.cohort.split_N is not None

    def measured(part: int) -> BySite:
        return evaluations(
            {
                p.name: site.evaluate(
                    np.flatnonzero((whole.cohort.site_N == p.name) & (whole.cohort.split_N == part)), routing
                )
                for p in patients
            }
        )

    return Outcome(test=measured(TEST), validation=measured(VALIDATION))


def evaluations(statistics: Statistics) -> BySite:
    """Return the statistics as they are written."""
    return {site: {k: Evaluation.of(s) for k, s in own.items()} for site, own in statistics.items()}


def result_of(
    cell: Cell, patients: Sequence[Hospital], outcomes: Sequence[Outcome], traces: Traces, began: float
) -> CellResult:
    """Return a cell's result; `began` by the monotonic clock."""
    training = {p.name: groups.counts(p.cohort.groups_N[p.cohort.split_N == TRAIN]) for p in patients}
    every = sorted({k for own in training.values() for k in own})
    schema = patients[0].cohort.schema
    return CellResult(
        cell=cell,
        modalities=schema.names,
        classes=tuple(schema.classes),
        counts={k: sum(own.get(k, 0) for own in training.values()) for k in every},
        site_counts=training,
        outcomes=tuple(outcomes),
        rounds=tuple(traces.rounds),
        seconds=time.monotonic() - began,
    )
