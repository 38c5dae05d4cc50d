"""The federated job that all candidates do: patients, model, local steps, and what is written about it.

A round: each site measures the received model on its training patients, takes its local steps of SGD on the same
batches in the same order, and its parameters are averaged, weighted by patients.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from remind.config import Config
from remind.data.batches.batch import Batch, SiteData
from remind.data.cohort.cohort import TRAIN, Cohort
from remind.data.sites.hospitals import virtual_hospitals
from remind.processes.memory import keep_freed_memory
from remind.seeds import derive
from remind.training.sampling import steps
from remind.training.site_data import CHUNK
from remind.training.site_model import SiteModel

ROUNDS, MODEL = "rounds.txt", "final.safetensors"
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Site:
    """A site's patients, and the positions of those that it trains on."""

    name: str
    cohort: Cohort
    data: SiteData
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """Sites, rounds, steps per round and site, patients per step and site, width of the model, and seed."""

    sites: int = 5
    rounds: int = 4
    steps: int = 10
    batch: int = 32
    patients: int = 60
    width: int = 64
    rate: float = 0.05
    seed: int = 0

    @cached_property
    def config(self) -> Config:
        """The run's settings: FedAvg of a Soft MoE on four tables that every patient has."""
        return Config.from_flat(
            {
                "seed": self.seed,
                "device": "cpu",
                "threads": 1,
                "synthetic.patients": self.patients * self.sites,
                "synthetic.law": "independent",
                "synthetic.missing": "0, 0, 0, 0",
                "synthetic.kinds": "table, table, table, table",
                "synthetic.standardise": "given",
                "data.alpha": 1e6,
                "data.validation": 0.0,
                "data.test": 0.1,
                "method.fusion": "softmoe",
                "method.objective": "erm",
                "method.rule": "fedavg",
                "federation.encoders": "shared",
                "model.width": self.width,
                "model.dropout": 0.0,
                "model.hide": 0.0,
                "train.warmup-rounds": self.rounds,
                "train.routing-rounds": 0,
                "train.local-steps": self.steps,
                "train.batch": self.batch,
                "train.optimizer": "sgd",
                "train.lr": self.rate,
                "train.weight-decay": 0.0,
                "train.schedule": "constant",
                "train.focal-gamma": 0.0,
                "evaluation.calibration": "none",
            }
        )

    def site(self, number: int) -> Site:
        """Return a site; a process that asks again gets the same one."""
        if number not in self._made:
            config = self.config
            hospital = virtual_hospitals(config.data, config.synthetic, config.seed, self.sites)[number]
            rows = np.flatnonzero(hospital.cohort.split_N == TRAIN)
            self._made[number] = Site(hospital.name, hospital.cohort, SiteData(hospital.cohort), rows)
        return self._made[number]

    @cached_property
    def _made(self) -> dict[int, Site]:
        return {}

    @cached_property
    def group(self) -> int:
        """The only group: all modalities."""
        return (1 << len(self.site(0).cohort.schema.names)) - 1

    def model(self) -> SiteModel:
        """Return the model before the first round."""
        first = self.site(0)
        model = SiteModel(first.cohort.schema, self.config, first.cohort.schema.names)
        for name, encoder in model.encoders.items():
            encoder.fit(first.cohort.modalities[name])  # type: ignore[operator] # given numbers: the same at every site
        model.fusion.keep_groups([self.group], self.seed)
        return model

    def batches(self, site: Site, round_: int) -> Iterator[Batch]:
        """Yield the batches of a site's steps in a round, from 0."""
        rng = np.random.default_rng(derive(self.seed, "steps", site.name, round_))
        groups_N = site.cohort.groups_N[site.rows]
        whole, one = {self.group: 1.0}, {self.group: len(site.rows)}
        for step in steps(self.config.train, site.rows, groups_N, whole, one, rng):
            yield site.data.batch(step.index_B)

    def train(self, model: SiteModel, number: int, round_: int) -> tuple[float, int]:
        """Do a round at a site: measure, then step; return the loss before and the number of patients."""
        site = self.site(number)
        loss = self.measure(model, site)
        optimizer = torch.optim.SGD(model.parameters(), lr=self.rate)
        model.train()
        for batch in self.batches(site, round_):
            optimizer.zero_grad()
            loss_of(model, batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return loss, len(site.rows)

    @torch.no_grad()
    def measure(self, model: SiteModel, site: Site) -> float:
        """Return the mean loss of a site's training patients."""
        model.eval()
        parts = np.split(site.rows, range(CHUNK, len(site.rows), CHUNK))
        sums = [float(loss_of(model, site.data.batch(part), "sum")) for part in parts]
        return sum(sums) / len(site.rows)

    def loss(self, tensors: Mapping[str, Tensor]) -> float:
        """Return the mean loss of all training patients under these parameters."""
        model = self.model()
        load(model, tensors)
        sites = [self.site(number) for number in range(self.sites)]
        total = sum(len(site.rows) for site in sites)
        return sum(self.measure(model, site) * len(site.rows) for site in sites) / total


def loss_of(model: SiteModel, batch: Batch, reduction: str = "mean") -> Tensor:
    """Return the cross-entropy of a batch."""
    output = model.fuse(model.tokens(batch), batch.presence_Bm, batch.group_B, routing=False)
    return cross_entropy(output.logits_BC, batch.label_B, reduction=reduction)


@torch.no_grad()
def load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a model's parameters these values."""
    for name, parameter in model.named_parameters():
        parameter.copy_(tensors[name])


def taken(model: nn.Module) -> Tensors:
    """Return a copy of a model's parameters."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@dataclass(frozen=True)
class Record:
    """What a candidate writes: when each round ended, and the final model."""

    folder: Path

    def round_done(self, when: float | None = None) -> None:
        """Note that a round has ended now, or when it did, in seconds since 1970."""
        with (self.folder / ROUNDS).open("a", encoding="utf-8") as file:
            file.write(f"{time.time() if when is None else when}\n")

    def ends(self) -> list[float]:
        """Return when the rounds ended, in seconds since 1970."""
        path = self.folder / ROUNDS
        return [float(line) for line in path.read_text(encoding="utf-8").split()] if path.exists() else []

    def finish(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the final parameters."""
        save_file({name: t.contiguous() for name, t in tensors.items()}, self.folder / MODEL)

    def model(self) -> Tensors:
        """Return the final parameters."""
        return load_file(self.folder / MODEL)


def given(arguments: Sequence[str] | None = None) -> tuple[Job, Record]:
    """Read job and folder from a candidate's command line, and prepare its process as `remind` prepares its own."""
    text, folder = (sys.argv[1:] if arguments is None else arguments)[:2]
    torch.set_num_threads(1)
    keep_freed_memory()
    return Job(**json.loads(text)), Record(Path(folder))


def written(job: Job) -> str:
    """Return a job as a candidate's command line has it."""
    return json.dumps(asdict(job))
