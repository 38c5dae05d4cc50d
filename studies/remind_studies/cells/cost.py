"""The runner of study `cost`: parameters, FLOPs and time of a method's training step (the paper's Table 17).

A step is one local step of stage 2 at a hospital, with patients of the cohort, cached tokens and the optimiser; all
patients are at one site. Its time is compared with that of Soft MoE of the same sizes. Both run alternately in this
process, so that other load of the machine affects both equally.
"""

import time
from pathlib import Path
from statistics import fmean

import torch
from torch.utils.flop_counter import FlopCounterMode

from remind import groups
from remind.config import Config, Scalar
from remind.data.cohort.cohort import Cohort
from remind.data.sites.hospitals import pool
from remind.data.sites.sites import Site as Hospital
from remind.errors import UserError
from remind.federation.messages import Task
from remind.methods import methods_of
from remind.training.device import choose_device
from remind.training.eager import ShapesOnly
from remind.training.site_model import fusion_of
from remind.training.work import LocalWork
from remind_client.load import prepare_process
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_studies.cells.cell import Cell, CellResult
from remind_studies.cells.patients import hospitals
from remind_studies.cells.stopwatch import Candidate, Clock, ratio, seconds, take_turns
from remind_studies.cells.train import Traces, result_of

REFERENCE = "softmoe"
COPIES = {"adamw": 4, "sgd": 2}  # copies of the parameters in training: weights, gradients, optimiser state
SPARE = 1.2  # factor on the estimated memory


class Stepper:
    """A method whose step can be taken any number of times."""

    def __init__(self, config: Config, patients: Hospital, folder: Path) -> None:
        self.config = config
        self.site = Site(patients.name, patients.cohort, config, SiteStore(folder), choose_device(config.device))
        engine = self.site.engine
        engine.model.fusion.keep_groups(tuple(engine.patients.counts), config.seed)
        task = Task(
            round=0,
            stage=2,
            stage_round=0,
            stage_rounds=1,
            seed=config.seed,
            weights=dict.fromkeys(engine.patients.counts, 1 / len(engine.patients.counts)),
            counts=engine.patients.counts,
            block_weights={},
            labels=engine.patients.labels(engine.methods.objective),
            index=(),
        )
        self.work: LocalWork = engine.work.training(task, engine.methods.objective.phase(0), {}, train_encoders=False)

    def step(self) -> None:
        """Take one local step; it is finished when this method returns."""
        self.work.steps()
        if self.site.engine.device.type == "cuda":
            torch.cuda.synchronize()

    def candidate(self) -> Candidate:
        """Return the step to be timed."""
        return Candidate(self.step)

    @property
    def clock(self) -> Clock:
        """Return the CPU clock for one thread, which other processes do not affect; otherwise the wall clock."""
        return "cpu" if self.config.threads == 1 and self.site.engine.device.type == "cpu" else "wall"

    def facts(self) -> dict[str, float]:
        """Return the sizes, FLOPs and open gates."""
        fusion, encoders = self.site.engine.model.fusion, self.site.engine.model.encoders
        own = [sum(p.numel() for p in group.parameters()) for group in fusion.groups.values()]
        with FlopCounterMode(display=False) as counter:
            self.step()
        found = {
            "parameters of the fusion model": sum(p.numel() for p in fusion.parameters()),
            "of these, a group's own": fmean(own) if own else 0,
            "parameters of the encoders": sum(p.numel() for p in encoders.parameters()),
            "GFLOP of a step": counter.get_total_flops() / 1e9,
            "GFLOP of encoding its patients": self._encoding() / 1e9,
        }
        if (gates := self._open()) is not None:
            found["gates open"] = gates
        return {name: float(value) for name, value in found.items()}

    @torch.no_grad()
    def _encoding(self) -> int:
        """Return the FLOPs of the encoders' forward pass over the step's patients, as in stage 1."""
        engine = self.site.engine
        engine.model.eval()  # in training mode, modalities are hidden at random
        with FlopCounterMode(display=False) as counter:
            for _ in engine.state.tokens(fresh=True).batches([self.work.plan[0].index_B]):
                pass
        return int(counter.get_total_flops())

    @torch.no_grad()
    def _open(self) -> float | None:
        """Return the share of the step's patients whose gate is open; None if the model has no gate."""
        batch, tokens_BMD = next(iter(self.work.source.batches([self.work.plan[0].index_B])))
        output = self.site.engine.model.eval().fuse(tokens_BMD, batch.presence_Bm, batch.group_B, routing=True)
        return None if output.open_B is None else output.open_B.mean().item()


def run(cell: Cell, folder: Path) -> CellResult:
    """Measure one method beside Soft MoE.

    Raises
    ------
    UserError
        There is not enough memory for both.
    """
    began = time.monotonic()
    prepare_process(cell.config.threads)
    patients, options = hospitals(cell), cell.options
    whole = pool(patients)
    config, plain = one_step(cell.config), one_step(cell.config, like=REFERENCE)
    refuse_what_does_not_fit(whole.cohort, config, plain)
    method, reference = Stepper(config, whole, folder / "it"), Stepper(plain, whole, folder / "reference")
    facts, sides = method.facts(), {"it": method.candidate(), REFERENCE: reference.candidate()}
    laps = take_turns(sides, int(options["turns"]), 1, method.clock, float(options["seconds"]))
    middle, low, high = ratio(laps, "it", REFERENCE)
    facts["ms of a step"] = 1e3 * seconds(laps, "it")
    facts |= {"÷ Soft MoE": middle, "÷ Soft MoE, low": low, "÷ Soft MoE, high": high}
    result = result_of(cell, patients, (), Traces(), began)
    return result.model_copy(update={"facts": facts})


def one_step(config: Config, like: str = "") -> Config:
    """Return the config for one step of stage 2; with another fusion model, plainly trained, if `like` names one."""
    plain: dict[str, Scalar] = {"method.fusion": like, "method.objective": "erm", "train.ranking": 0.0} if like else {}
    several_phases = len(methods_of(config).objective.phases(config.train.rounds)) > 1
    changes: dict[str, Scalar] = {
        "method.rule": "pooled",
        "method.objective": "erm" if several_phases else config.method.objective,
        "federation.encoders": "frozen",
        "train.warmup-rounds": 0,
        "train.routing-rounds": 1,
        "train.local-steps": 1,
        **plain,
    }
    return Config.from_flat({**config.flat(), **changes})


def refuse_what_does_not_fit(cohort: Cohort, *configs: Config) -> None:
    """Check that the free memory is enough, if the operating system reports it."""
    needed = SPARE * sum(COPIES[c.train.optimizer] * bytes_of(cohort, c) for c in configs)
    free = free_bytes()
    if free is not None and needed > free:
        raise UserError(
            f"cost: two models of model.width={configs[0].model.width} and model.experts={configs[0].model.experts} "
            f"need about {needed / 1e9:.1f} GB while training, and {free / 1e9:.1f} GB are free; "
            "give fewer --jobs, train.optimizer='sgd', or smaller sizes"
        )


def bytes_of(cohort: Cohort, config: Config) -> int:
    """Return the size in bytes of a fusion model's parameters, without allocating them."""
    with torch.device("meta"), ShapesOnly():
        fusion = fusion_of(cohort.schema, config)
        fusion.add_groups(groups.counts(cohort.groups_N), config.seed)
    return sum(p.numel() * p.element_size() for p in fusion.parameters())


def free_bytes(proc: Path = Path("/proc/meminfo")) -> int | None:
    """Return the available memory in bytes; None if the operating system does not report it."""
    try:
        lines = proc.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
