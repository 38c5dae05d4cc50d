"""The engine of a site: its patients, its model, and the state that it keeps between messages."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from remind import groups
from remind.adaptation.moving import moving, rates
from remind.config import Config
from remind.data.batches.batch import SiteData
from remind.data.batches.lazy import Request
from remind.data.cohort.cohort import TEST, TRAIN, VALIDATION, Cohort
from remind.encoders.alone.encoder import ALONE, AloneEncoder
from remind.federation.blocks import ENCODERS, Entry, group_block, unpack
from remind.federation.install import gradient_scale, install
from remind.federation.messages import Examine, Task
from remind.fusion.base import FusionModel
from remind.fusion.support import TokenPool
from remind.methods import methods_of
from remind.metrics.statistics import GroupStatistics
from remind.objectives.base import OWN, Labels, Names, Phase
from remind.objectives.lambda_step import site_share
from remind.prediction.ranges import Ranges
from remind.prediction.site_part import SitePart
from remind.seeds import derive
from remind.training.device import Precision, compile_backbones, prepare
from remind.training.evaluate import evaluate
from remind.training.gradients import Gradients, PlainGradients
from remind.training.local import build_optimizer
from remind.training.private.admission import admit
from remind.training.sampling import Step, steps
from remind.training.schedule import learning_rate
from remind.training.site_data import CachedTokens, FreshTokens, TokenSource
from remind.training.site_model import SiteModel
from remind.training.work import LocalWork, RoundSettings, both
from remind_client.private import PrivateSteps
from remind_client.store import SiteStore, digest

Buffer = NDArray[np.uint8]
Integers = NDArray[np.int64]
PARTS = (TRAIN, VALIDATION, TEST)


class SiteEngine:
    """Data and model of one hospital in one run.

    They stay in memory; the store holds the state that must survive a restart.

    Attributes
    ----------
    counts, observed
        n_{s,k}, and the groups that occur among all patients; under a privacy guarantee as the site says them.
    private
        What its steps are under a privacy guarantee; None: the run gives none.
    index
        Positions of the training, validation and test patients.
    kept
        Tensors that stay at this site: parameters that do not travel under the federated rule, and state of rule and
        objective.
    """

    def __init__(
        self,
        name: str,
        cohort: Cohort,
        config: Config,
        store: SiteStore,
        device: torch.device,
        secret: bytes = b"",
    ) -> None:
        if cohort.split_N is None:
            raise ValueError("the cohort has no split yet")
        self.name, self.cohort, self.config, self.store, self.device = name, cohort, config, store, device
        self.methods = methods_of(config)
        self.index = {part: np.flatnonzero(cohort.split_N == part) for part in PARTS}
        self.counts = groups.counts(cohort.groups_N[self.index[TRAIN]])
        self.observed = tuple(groups.counts(cohort.groups_N))
        self.private: PrivateSteps | None = None
        if config.privacy.mode != "none":
            self.private = PrivateSteps.of(config, secret, self.counts, len(cohort.schema.modalities))
            self.counts = dict(self.private.counts)
            self.observed = tuple(self.counts)
        precision = Precision.of(config, device)
        self.data = SiteData(cohort, precision.dtype, device, config.workers)
        self.model = self._fresh_model()
        if self.private is not None:
            admit(self.model, cohort.schema, config)
        prepare(self.model, precision, device)
        compile_backbones(self.model, config, device)
        self._initial = self._rest() if config.train.anchor else {}
        self._trainable = {n: p.requires_grad for n, p in self.model.encoders.named_parameters()}
        self.kept: dict[str, Tensor] = {}
        self._digests: dict[str, str] = {}  # hashes of the current encoders; a missing name means unknown
        self._cached: tuple[dict[str, str], CachedTokens] | None = None
        self._pool: TokenPool | None = None

    def _fresh_model(self) -> SiteModel:
        """Build encoders of the modalities at this site, fitted on training patients, and the fusion model."""
        has = [name for name, contents in self.cohort.modalities.items() if contents.present().any()]
        if self.private is not None:  # whether anybody has a modality tells of the patients
            has = list(self.cohort.modalities)
        model = SiteModel(self.cohort.schema, self.config, has)
        training = self.cohort.take(self.index[TRAIN])
        for name in has:
            model.encoders[name].fit(training.modalities[name])  # type: ignore[operator]
        self._learn_alone(model, training)
        return model

    def _rest(self) -> dict[str, Tensor]:
        """The encoders' initial values, the same at every site: `train.anchor` pulls towards them."""
        return {n: p.detach().clone() for n, p in self.model.named_parameters() if n.startswith(ENCODERS)}

    def _learn_alone(self, model: SiteModel, training: Cohort) -> None:
        """Fit what the site knows alone, on its training patients; where the store holds it, that is read instead."""
        if ALONE not in model.encoders or ALONE in self.store.digests():
            return
        encoder = model.encoders[ALONE]
        assert isinstance(encoder, AloneEncoder)
        (batch,) = SiteData(training).batches([Request(np.arange(len(training)), only=encoder.reads)])
        encoder.learn(batch, training.label_N, derive(self.config.seed, "alone", self.name))

    # Before the work

    def receive(self, index: tuple[Entry, ...], buffer: Buffer) -> dict[str, Tensor]:
        """Load the site's own tensors from its store and the rest from the message.

        Return the names of the received parameters.

        Raises
        ------
        ValueError
            The message contains tensors that this site does not accept.
        """
        own = {group_block(k) for k in self.observed}
        if foreign := {e.block for e in index if e.block.startswith("group:")} - own:
            raise ValueError(f"the message contains blocks of groups that the site does not observe: {sorted(foreign)}")
        for name, parameter in self.model.encoders.named_parameters():  # as in a new process: roundings depend on it
            parameter.requires_grad_(self._trainable[name])
        for name, found in self.store.digests().items():
            if self._digests.get(name) != found:
                self.model.encoders[name].load_state_dict(self.store.encoder(name, found))
                self._digests[name] = found
        rule, shared = self.methods.rule, self.config.federation.encoders == "shared"
        groups_here = None if rule.groups_travel else tuple(self.counts)
        tensors = unpack(index, buffer)
        received = install(self.model, tensors, shared, self.config.seed, groups_here, rule.travels)
        if any(name.startswith(ENCODERS) for name in received):
            self._digests = {}
        self.kept = self.store.kept()
        named = dict(self.model.named_parameters())
        with torch.no_grad():
            for name in named.keys() & self.kept.keys():
                named[name].copy_(self.kept[name])
        return dict(received)

    def tokens(self, fresh: bool) -> TokenSource:
        """Return tokens with gradient, or cached tokens; a cache is valid only for the encoder weights that made it."""
        if fresh:
            return FreshTokens(self.model, self.data)
        for name, encoder in self.model.encoders.items():
            if name not in self._digests:
                self._digests[name] = digest(encoder)
        if self._cached is None or self._cached[0] != self._digests:
            tokens = CachedTokens(self.model, self.data, self.store.tokens(), self._digests)
            self._cached = dict(self._digests), tokens
        return self._cached[1]

    def tokens_of_the_moment(self) -> TokenSource:
        """Return cached tokens of the encoders in memory, which a method may have replaced for some steps."""
        digests = {name: digest(encoder) for name, encoder in self.model.encoders.items()}
        return CachedTokens(self.model, self.data, self.store.tokens(), digests)

    def work(
        self, task: Task, phase: Phase, received: Mapping[str, Tensor], train_encoders: bool, question: str = ""
    ) -> LocalWork:
        """Return the round's plan of steps with everything that the steps need.

        `question` is the digest of what is asked for; draws and noise with a privacy guarantee depend on it.
        """
        moves = moving(self.config, task.given)
        self._hold(moves)
        source, routing = self.tokens(fresh=train_encoders), task.routing
        self._support(routing)
        optimizer = self._optimizer(task, phase, train_encoders) if phase.train else None
        augmented = train_encoders and self.config.model.encoders.augment != "none"
        only = both(phase.only, moves)
        return LocalWork(
            model=self.model,
            objective=self.methods.objective,
            source=source,
            gradients=self._gradients(task, question, only),
            settings=RoundSettings(
                lr=learning_rate(self.config.train, task.stage, task.stage_round, task.stage_rounds),
                routing=routing,
                seed=derive(task.seed, "objective", self.name, task.round),
                round_seed=derive(task.seed, "round", task.round),
                gradient_scale=self._gradient_scale(task),
                decay=self._decay(task),
                rest=self._initial,
                labels=task.labels,
                augment=derive(task.seed, "augment", self.name, task.round) if augmented else None,
                only=only,
            ),
            plan=self._plan(task, phase, question) if optimizer is not None and _trains(optimizer) else [],
            optimizer=optimizer,
            measure=partial(self.statistics, source, TRAIN, routing, task.labels),
            kept=self.kept,
            travelling=tuple(received),
            retokenise=None if train_encoders else self.tokens_of_the_moment,
        )

    def _gradients(self, task: Task, question: str, only: Names | None) -> Gradients:
        if self.private is None:
            return PlainGradients()
        fusion = self.model.fusion

        def idle(name: str) -> bool:
            if only is not None and not only(name):
                return True
            return name.startswith("fusion.") and fusion.idle(name.removeprefix("fusion."), task.routing)

        return self.private.gradients(task, question, self.model, idle)

    def _hold(self, moves: Names | None) -> None:
        """Compute no gradient of what a run that begins with a model does not train of it."""
        if self.config.start.model:
            for name, parameter in self.model.fusion.named_parameters(prefix="fusion"):
                parameter.requires_grad_(moves is None or moves(name))

    def _gradient_scale(self, task: Task) -> dict[str, float]:
        """Gradient factors by parameter.

        Parameters that stay at the site follow its own mean loss, so they have no factor.
        """
        names, rule = {entry.name for entry in task.index}, self.methods.rule
        staying = [n for n, _ in self.model.named_parameters() if n not in names and rule.travels(n)]
        return gradient_scale(names, self.share(task), task.block_weights, staying)

    def _decay(self, task: Task) -> dict[str, float]:
        """How strongly parameters are pulled to where they rest: ``train.shrink`` c/n_k, ``train.anchor``."""
        shrink, fusion = self.config.train.shrink, self.model.fusion
        anchored = dict.fromkeys(self._initial, self.config.train.anchor)
        if not shrink:
            return anchored
        own = {f"fusion.groups.{k}.": n for k, n in task.counts.items()}
        names = [name for name, _ in self.model.named_parameters() if fusion.shrinks(name)]
        shrunk = {name: shrink / n for name in names for prefix, n in own.items() if name.startswith(prefix)}
        return anchored | shrunk

    def _optimizer(self, task: Task, phase: Phase, train_encoders: bool) -> Optimizer:
        """Restore the optimiser from the last round of the same stage of the same training, or create a new one."""
        optimizer = build_optimizer(self.config.train, self.model, train_encoders, rates(self.config, task.given))
        if (state := self.store.optimizer(self.stretch(task, phase))) is not None:
            optimizer.load_state_dict(state)
        return optimizer

    def stretch(self, task: Task, phase: Phase) -> int:
        """Number of the stage, counted over all phases; an optimiser's state belongs to one stage."""
        return task.stage + 2 * self.methods.objective.phases(self.config.train.rounds).index(phase)

    def begins_anew(self, task: Task, phase: Phase) -> bool:
        """Whether the site restarts training in this round.

        The first round of the phase, or the first that the site attends.
        """
        if not phase.restart:
            return False
        earlier = 2 * self.methods.objective.phases(self.config.train.rounds).index(phase)
        return task.round == phase.start or self.store.stage() <= earlier

    def _plan(self, task: Task, phase: Phase, question: str = "") -> list[Step]:
        """Plan the round's steps, on patients of the active groups that phase and fusion model train on."""
        objective, config = self.methods.objective, self.config.train
        rows = self.index[phase.part]
        copies_N = objective.copies(self.kept) if phase.part == TRAIN else None
        times_N = np.ones(len(rows), dtype=np.int64) if copies_N is None else copies_N.numpy()
        in_play_N = np.isin(self.cohort.groups_N[rows], [k for k, w in task.weights.items() if w > 0])
        rows, times_N = rows[in_play_N], times_N[in_play_N]
        trains_N = self.model.fusion.trains_on(torch.from_numpy(self.cohort.presence_Nm[rows]), task.routing).numpy()
        rows, times_N = rows[trains_N], times_N[trains_N]
        if self.private is not None:  # steps of nobody too: whether there is anybody tells of the patients
            return self.private.plan(task, question, rows, self.cohort.groups_N[rows])
        if not len(rows) or not phase.train:
            return []
        if objective.sampling is not None:
            config = config.model_copy(update={"sampling": objective.sampling})
        own = None if copies_N is None else groups.counts(self.cohort.groups_N[rows])
        rows = np.repeat(rows, times_N)
        rng = np.random.default_rng(derive(task.seed, "steps", self.name, task.round))
        return list(steps(config, rows, self.cohort.groups_N[rows], task.weights, task.counts, rng, own))

    def _support(self, routing: bool) -> None:
        """Give a retrieving fusion model this site's training patients as support, once the encoders are frozen.

        A model that compares with a fixed sample gets that in stage 1 too, encoded as the encoders are now.
        """
        fusion = self.model.fusion
        if type(fusion).set_support is FusionModel.set_support:
            return
        if not routing and not fusion.compares:
            self._pool = None
            fusion.set_support(None)
            return
        rows = self.index[TRAIN]
        if not routing:
            chosen = np.random.default_rng(derive(self.config.seed, "compare", self.name)).permutation(len(rows))
            rows = rows[np.sort(chosen[: fusion.compares])]
        with torch.no_grad():
            _, tokens_NMD = next(self.tokens(fresh=not routing).batches([rows]))
        parts = self.model.by_modality(tokens_NMD)
        presence_Nm = torch.from_numpy(self.cohort.presence_Nm[rows]).to(tokens_NMD.device)
        seed, index_N = derive(self.config.seed, "support", self.name), torch.from_numpy(rows).to(tokens_NMD.device)
        self._pool = TokenPool(parts, presence_Nm, seed, index_N=index_N)
        fusion.set_support(self._pool)

    def looking(self, source: TokenSource, received: Mapping[str, Tensor], routing: bool) -> LocalWork:
        """Return work without steps, for a model that is only evaluated."""
        self._support(routing)
        return LocalWork(
            self.model,
            self.methods.objective,
            source,
            RoundSettings(routing=routing),
            measure=partial(self.statistics, source, TRAIN, routing),
            kept=self.kept,
            travelling=tuple(received),
            retokenise=self.tokens_of_the_moment if isinstance(source, CachedTokens) else None,
        )

    def part(self, task: Examine) -> SitePart:
        """Return the model as it is at this moment, with what else the site needs to predict."""
        return SitePart(
            site=self.name,
            round=task.round,
            routing=task.routing,
            config=self.config,
            schema=self.cohort.schema,
            counts=task.counts or self.counts,
            own=self.counts,
            tensors={name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()},
            ranges=self._ranges,
            support={} if self._pool is None else self._pool.tensors(),
            support_seed=0 if self._pool is None else self._pool.seed,
        )

    @cached_property
    def _ranges(self) -> Ranges:
        """What the training patients show."""
        return Ranges.of(self.cohort.take(self.index[TRAIN]))

    # Measuring

    def share(self, task: Task) -> float:
        """W_s, this site's share of the objective."""
        balanced = self.methods.objective.phase(task.round).balanced
        held_out = self.held_out() if balanced else {}
        own = {k: held_out.get(k, 0) if balanced and task.weights[k] else self.counts[k] for k in task.weights}
        return site_share(task.weights, task.counts, own)

    def held_out(self) -> dict[int, int]:
        """Number of validation patients of the groups that this site trains on."""
        counts = groups.counts(self.cohort.groups_N[self.index[VALIDATION]])
        return {k: n for k, n in counts.items() if k in self.counts}

    def labels(self) -> dict[int, tuple[int, ...]]:
        """Training patients of each group by class, where the objective needs them."""
        if not self.methods.objective.needs_labels:
            return {}
        rows, classes = self.index[TRAIN], len(self.cohort.schema.classes)
        group_N, label_N = self.cohort.groups_N[rows], self.cohort.label_N[rows]
        return {k: tuple(np.bincount(label_N[group_N == k], minlength=classes).tolist()) for k in self.counts}

    def statistics(
        self, source: TokenSource, part: int, routing: bool, labels: Labels | None = None, temperature: float = 1.0
    ) -> dict[int, GroupStatistics]:
        """Evaluate the current model on one part of the split; return statistics per group."""
        labels, rows = self.labels() if labels is None else labels, self.index[part]
        if self.private is not None:  # the others are not known to be there
            rows = rows[np.isin(self.cohort.groups_N[rows], list(self.counts))]
        return evaluate(self.model, source, rows, self.methods.objective, routing, labels, temperature)

    @torch.no_grad()
    def mistakes(self, work: LocalWork) -> Tensor:
        """Which training patients the model classifies wrongly, (N,) bool."""
        self.model.eval()
        rows, chunk = self.index[TRAIN], work.source.chunk
        wrong = []
        for batch, tokens_BMD in work.source.batches(np.split(rows, range(chunk, len(rows), chunk))):
            output = self.model.fuse(tokens_BMD, batch.presence_Bm, batch.group_B, work.settings.routing)
            wrong.append((output.logits_BC.argmax(dim=1) != batch.label_B).cpu())
        return torch.cat(wrong)

    # After the work

    def dirty(self) -> None:
        """Mark the encoders as changed: from now on they may differ from the stored ones, even after an error."""
        self._digests = {}

    def keep(
        self, optimizer: Optimizer | None, stretch: int, trained: bool, since: int = 0, wanted: Sequence[int] = ()
    ) -> None:
        """Write the state to disk before the site answers; unchanged encoders are not written again.

        Without an optimiser, as after an evaluation, the stored one stays. `since` and `wanted`: see `SiteStore.save`.
        """
        stays = {n: p.detach() for n, p in self.model.named_parameters() if self._stays(n)}
        kept = self.kept | stays
        if optimizer is None:
            self.store.save_kept(kept)
        elif trained:
            encoders = dict(self.model.encoders.items())
            self._digests = self.store.save(encoders, optimizer.state_dict(), stretch, kept, since, wanted)
        else:
            self.store.save_optimizer(self.store.digests(), optimizer.state_dict(), stretch, kept, since, wanted)

    def _stays(self, name: str) -> bool:
        """Whether a parameter stays at this site under the federated rule; encoders are stored separately."""
        return not name.startswith(ENCODERS) and not self.methods.rule.travels(name)

    def forget(self) -> None:
        """Reset encoders, optimiser and the rule's state to those before the first round.

        The objective's state stays.
        """
        self.model.fusion.keep_groups((), self.config.seed)
        self.model.load_state_dict(self._fresh_model().state_dict(), strict=False)
        self._digests = {}
        self.store.forget({name: kept for name, kept in self.store.kept().items() if name.startswith(OWN)})


def _trains(optimizer: Optimizer) -> bool:
    """Whether there is anything to train: not with frozen encoders under a frozen model that knows all groups."""
    return any(group["params"] for group in optimizer.param_groups)
