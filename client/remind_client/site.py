"""A hospital's side of the round: enrol, train, examine (DESIGN.md, "The round"). Knows nothing of Flower."""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from remind import groups
from remind.config import Config
from remind.data.batch import SiteData
from remind.data.cohort import TEST, TRAIN, VALIDATION, Cohort
from remind.federation.blocks import ENCODERS, Entry, group_block, index_of, pack, unpack
from remind.federation.install import gradient_scale, install
from remind.federation.messages import Enrolment, Evaluation, Examination, Examine, LossSum, Report, Task
from remind.metrics.statistics import GroupStatistics
from remind.objectives.group_dro import site_share
from remind.seeds import derive, seeded
from remind.training.device import Precision, compile_backbones, prepare
from remind.training.evaluate import evaluate
from remind.training.local import build_optimizer, train_steps
from remind.training.sampling import steps
from remind.training.schedule import learning_rate
from remind.training.site_data import CachedTokens, FreshTokens, TokenSource
from remind.training.site_model import SiteModel
from remind.version import VERSION
from remind_client.store import SiteStore, digest

Buffer = NDArray[np.uint8]


class Site:
    """One hospital in one run. Data and model stay in memory between messages; what must last is in its store."""

    def __init__(self, name: str, cohort: Cohort, config: Config, store: SiteStore, device: torch.device) -> None:
        if cohort.split_N is None:
            raise ValueError("the cohort has no split yet")
        self.name, self.cohort, self.config, self.store, self.device = name, cohort, config, store, device
        self.index = {part: np.flatnonzero(cohort.split_N == part) for part in (TRAIN, VALIDATION, TEST)}
        self.counts = groups.counts(cohort.groups_N[self.index[TRAIN]])
        self.observed = tuple(groups.counts(cohort.groups_N))
        precision = Precision.of(config, device)
        self.data = SiteData(cohort, precision.dtype, device, config.workers)
        has = [name for name, data in cohort.modalities.items() if data.present().any()]
        self.model = SiteModel(cohort.schema, config, has)
        training = cohort.take(self.index[TRAIN])
        for modality, encoder in self.model.encoders.items():
            encoder.fit(training.modalities[modality])  # type: ignore[operator]
        prepare(self.model, precision, device)
        compile_backbones(self.model, config, device)
        self._digests: dict[str, str] = {}  # of the encoders as they are; empty: not known
        self._cached: tuple[dict[str, str], CachedTokens] | None = None

    def enrol(self) -> Enrolment:
        """Who this is and what it has."""
        return Enrolment(
            site=self.name,
            version=VERSION,
            cohort_schema=self.cohort.schema.describe(),
            fingerprint=self.cohort.schema.fingerprint,
            counts=self.counts,
            observed=self.observed,
        )

    def train(self, task: Task, buffer: Buffer) -> tuple[Report, Buffer]:
        """Measure the model as received, take the local steps, answer with the same blocks.

        Raises
        ------
        ValueError
            If the task does not fit the site: groups it does not observe, tensors of another model.
        """
        started = time.perf_counter()
        if unseen := [k for k in task.weights if k not in self.counts]:
            raise ValueError(f"the task names groups that the site does not observe: {unseen}")
        routing = task.stage == 2
        train_encoders = task.stage == 1 and self.config.federation.encoders != "frozen"
        received = self._receive(task.index, buffer)
        source = self._tokens(fresh=train_encoders)
        losses = self._measure(source, TRAIN, routing)
        validation = self._measure(source, VALIDATION, routing)
        share = self._local_steps(task, source, train_encoders)
        report = Report(
            round=task.round,
            share=share,
            train={k: LossSum.of(s) for k, s in losses.items() if k in task.weights},
            validation=_evaluations(validation),
            seconds=time.perf_counter() - started,
            index=index_of(received, self.config.federation.dtype),
        )
        return report, pack(received, self.config.federation.dtype)

    def examine(self, task: Examine, buffer: Buffer) -> Examination:
        """Measure a model on the test patients, and on the validation patients."""
        started = time.perf_counter()
        self._receive(task.index, buffer)
        source = self._tokens(fresh=False)
        return Examination(
            round=task.round,
            test=_evaluations(self._measure(source, TEST, task.routing)),
            validation=_evaluations(self._measure(source, VALIDATION, task.routing)),
            seconds=time.perf_counter() - started,
        )

    def measure(self, index_N: NDArray[np.int64], routing: bool) -> dict[int, GroupStatistics]:
        """Statistics of the patients at these positions, on the model as it is."""
        return evaluate(self.model, self._tokens(fresh=False), index_N, self.config.train.focal_gamma, routing)

    def _receive(self, index: tuple[Entry, ...], buffer: Buffer) -> dict[str, Tensor]:
        """The site's own encoders from its store, the rest from the message; returns the parameters that came."""
        own = {group_block(k) for k in self.observed}
        if foreign := {e.block for e in index if e.block.startswith("group:")} - own:
            raise ValueError(f"the message holds blocks of groups that the site does not observe: {sorted(foreign)}")
        self._load_encoders()
        received = install(
            self.model, unpack(index, buffer), self.config.federation.encoders == "shared", self.config.seed
        )
        if any(name.startswith(ENCODERS) for name in received):
            self._digests = {}
        return dict(received)

    def _load_encoders(self) -> None:
        """The encoders as last kept, where they are not those already."""
        for name, kept in self.store.digests().items():
            if self._digests.get(name) != kept:
                self.model.encoders[name].load_state_dict(self.store.encoder(name, kept))
                self._digests[name] = kept

    def _tokens(self, fresh: bool) -> TokenSource:
        """Tokens with gradient, or cached ones; a cache is used only for the encoder weights it was made with."""
        if fresh:
            return FreshTokens(self.model, self.data)
        for name, encoder in self.model.encoders.items():
            if name not in self._digests:
                self._digests[name] = digest(encoder)
        if self._cached is None or self._cached[0] != self._digests:
            tokens = CachedTokens(self.model, self.data, self.store.tokens(), self._digests)
            self._cached = dict(self._digests), tokens
        return self._cached[1]

    def _measure(self, source: TokenSource, part: int, routing: bool) -> dict[int, GroupStatistics]:
        return evaluate(self.model, source, self.index[part], self.config.train.focal_gamma, routing)

    def _local_steps(self, task: Task, source: TokenSource, train_encoders: bool) -> float:
        """Train on the patients of the groups in play, keep what must last, and return W_s."""
        config = self.config.train
        rows = self.index[TRAIN][np.isin(self.cohort.groups_N[self.index[TRAIN]], list(task.weights))]
        share = site_share(task.weights, task.counts, {k: self.counts[k] for k in task.weights})
        rng = np.random.default_rng(derive(task.seed, "steps", self.name, task.round))
        plan = steps(config, rows, self.cohort.groups_N[rows], task.weights, task.counts, rng)
        optimizer = build_optimizer(config, self.model, train_encoders)
        if (kept := self.store.optimizer(task.stage)) is not None:
            optimizer.load_state_dict(kept)
        if train_encoders:
            self._digests = {}  # whatever happens now, they are no longer what is kept
        with seeded(derive(task.seed, "dropout", self.name, task.round), self.device):
            train_steps(
                self.model,
                source,
                optimizer,
                plan,
                lr=learning_rate(config, task.stage, task.stage_round, task.stage_rounds),
                focal_gamma=config.focal_gamma,
                routing=task.stage == 2,
                gradient_scale=gradient_scale((e.name for e in task.index), share, task.block_weights),
                augment=self._augment_seed(task) if train_encoders else None,
            )
        self._keep(optimizer, task.stage, train_encoders)
        return share

    def _augment_seed(self, task: Task) -> int | None:
        if self.config.model.encoders.augment == "none":
            return None
        return derive(task.seed, "augment", self.name, task.round)

    def _keep(self, optimizer: Optimizer, stage: int, trained: bool) -> None:
        """Onto the disk, before anything is answered; encoders that did not change are there already."""
        if trained:
            self._digests = self.store.save(dict(self.model.encoders.items()), optimizer.state_dict(), stage)
        else:
            self.store.save_optimizer(self.store.digests(), optimizer.state_dict(), stage)


def _evaluations(statistics: dict[int, GroupStatistics]) -> dict[int, Evaluation]:
    return {k: Evaluation.of(s) for k, s in statistics.items()}
