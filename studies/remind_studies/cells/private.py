"""The runner of study `privacy`: a federation, and how much of a step's direction its guarantee leaves.

Of a step of all hospitals together at the initial model, with Δ the sum of the exact gradients of those drawn, Δ_C that
of the clipped ones, and d numbers that travel, each with noise of the standard deviation s:

    signal ÷ noise = ‖Δ_C‖ / (s·√d),    cosine = ⟨Δ, Δ_C⟩ / (‖Δ‖·√(‖Δ_C‖² + d·s²))

The cosine is that of what is sent with Δ, up to a chance of the order 1/√d. Both are small in models that learn well,
as noise of one step is another than that of the next: they say how settings differ, not whether one is good.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from remind.config import Config
from remind.data.cohort.cohort import TEST, VALIDATION
from remind.data.sites.sites import Site as Hospital
from remind.federation.messages import Task
from remind.privacy.joint import share_of
from remind.seeds import derive, seeded
from remind.training.private.gradients import Clipping, PrivateGradients
from remind.training.sampling import Step
from remind.training.work import LocalWork
from remind_client.rounds.site import Site
from remind_studies.cells import train
from remind_studies.cells.cell import BySite, Cell, CellResult, Outcome
from remind_studies.cells.patients import hospitals

LOOKS = 3  # steps whose mean is shown
NOBODY_CLIPPED = 1e30


@dataclass
class Direction:
    """Sums over hospitals of one step: exact, clipped, and the variance of the noise of a number."""

    exact: dict[str, Tensor] = field(default_factory=dict)
    clipped: dict[str, Tensor] = field(default_factory=dict)
    variance: float = 0.0

    def facts(self, numbers: int) -> tuple[float, float]:
        """Return the cosine, and signal ÷ noise."""
        exact, clipped = _flat(self.exact), _flat(self.clipped)
        noise = numbers * self.variance
        signal = float(clipped.square().sum())
        cosine = float(exact @ clipped) / max(float(exact.norm()) * sqrt(signal + noise), 1e-300)
        return cosine, sqrt(signal / noise) if noise else float("inf")


def run(cell: Cell, folder: Path) -> CellResult:
    """Train and evaluate; where the run gives a guarantee, also look at its first steps."""
    config = cell.config
    if config.privacy.mode == "none":
        return train.run(cell, folder)
    began, patients, traces = time.monotonic(), hospitals(cell), train.Traces()
    done = train.federate(config, patients, folder / "run", [traces])

    def measured(part: int) -> BySite:
        """Measure all patients of a part: those of combinations that a hospital does not say are tested too."""
        parts = {site.name: np.flatnonzero(site.cohort.split_N == part) for site in done.sites}
        return train.evaluations({s.name: s.evaluate(parts[s.name], done.result.routing) for s in done.sites})

    outcome = Outcome(test=measured(TEST), validation=measured(VALIDATION))
    result = train.result_of(cell, patients, [outcome], traces, began)
    return result.model_copy(update={"facts": looks(config, patients, folder / "look")})


def looks(config: Config, patients: Sequence[Hospital], folder: Path) -> dict[str, float]:
    """Return cosine and signal ÷ noise of a step, and noise and rate, each the mean over steps or hospitals."""
    sites = train.sites_of(config, patients, folder)
    known = sorted({k for site in sites for k in site.engine.patients.counts})
    directions, numbers, noises, rates = [Direction() for _ in range(LOOKS)], 0, [], []
    for site in sites:
        work = _work(site, known)
        private, said = work.gradients, site.engine.patients.private
        if not isinstance(private, PrivateGradients) or said is None:
            return {}
        numbers = sum(p.numel() for n, p in _travelling(work).items() if not private.idle(n))
        for direction, step in zip(directions, work.plan, strict=False):
            share = share_of(1.0, len(sites)) if said.joint else 1.0
            direction.variance += (share * private.how.noise * private.how.clip / said.schedule.rate) ** 2
            _add(direction, work, private, step, said.schedule.rate, site.engine.device)
        noises.append(private.how.noise)
        rates.append(said.schedule.rate)
    found = [direction.facts(numbers) for direction in directions if direction.exact]
    return {
        "cosine of a step": fmean(cosine for cosine, _ in found) if found else 0.0,
        "signal ÷ noise of a step": fmean(ratio for _, ratio in found) if found else 0.0,
        "σ": fmean(noises),
        "rate": fmean(rates),
    }


def _work(site: Site, known: Sequence[int]) -> LocalWork:
    """Return the first round's work at a site."""
    engine, config = site.engine, site.config
    engine.model.fusion.keep_groups(known, config.seed)
    counts = engine.patients.counts
    stage = 1 if config.train.warmup_rounds else 2
    task = Task(
        round=0,
        stage=stage,
        stage_round=0,
        stage_rounds=1,
        seed=config.seed,
        weights={k: n / sum(counts.values()) for k, n in counts.items()},
        counts=counts,
        block_weights={},
        labels={},
        index=(),
    )
    trains = stage == 1 and config.federation.encoders != "frozen"
    return engine.work.training(task, engine.methods.objective.phase(0), {}, trains, key="look")


def _add(
    direction: Direction, work: LocalWork, private: PrivateGradients, step: Step, rate: float, device: torch.device
) -> None:
    """Add a hospital's step; hospitals of equal patients weigh alike, so each sum counts by 1/q."""
    if not len(step.index_B):
        return
    exact = PrivateGradients(work.model, Clipping(NOBODY_CLIPPED, 0.0, 1.0), bytes(32), "look", private.idle)
    work.model.train()
    for gradients, sums in ((exact, direction.exact), (private, direction.clipped)):
        with seeded(derive(0, "look"), device), gradients.recording(noisy=False):  # the same dropout in both
            batch, tokens_BMD = next(iter(work.source.batches([step.index_B])))
            found = gradients.clipped_sum(work.objective, work.step_input(step, batch, tokens_BMD, 0)).sums
        for name, tensor in _only(found, _travelling(work)).items():
            sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64)) + tensor.double().cpu() / rate


def _travelling(work: LocalWork) -> dict[str, Tensor]:
    """Return the parameters of the model that all hospitals share, and of groups."""
    return {n: p for n, p in work.model.named_parameters() if n.startswith("fusion.") and p.requires_grad}


def _only(sums: Mapping[str, Tensor], names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in sums.items() if name in names}


def _flat(sums: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([sums[name].reshape(-1) for name in sorted(sums)]) if sums else torch.zeros(1, dtype=torch.float64)
