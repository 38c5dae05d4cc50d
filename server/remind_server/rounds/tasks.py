"""The task of each site in a round: its own blocks, and λ and n_k of its own groups; nothing about other sites."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any, Literal

from flwr.app import RecordDict
from torch import Tensor

from remind.config import Config, TrainConfig
from remind.config.federation import WireType
from remind.data.cohort.schema import CohortSchema
from remind.federation.block_weights import block_weights
from remind.federation.blocks import DTYPES, ENCODERS, INT8, Entry, beside, block_of, index_of, pack
from remind.federation.flower import to_record
from remind.federation.held import HOLDS, digests, encoders_of, encoders_rest
from remind.federation.messages import Examine, Task
from remind.federation.richer import of_richer, rich
from remind.federation.site_weights import Masses, Sites, SiteWeights, total
from remind.methods import Methods, methods_of
from remind.objectives.base import Phase
from remind_server.rounds.member import Member
from remind_server.rounds.state import SomeState

COUNTED = "counted/"  # begins the names, in the memory, of the rounds in which sites' answers last counted


@dataclass(frozen=True)
class Assignment:
    """A site's task, and the values for checking its reply: tensors sent, W_s, n_{s,k}, groups that it can evaluate.

    Attributes
    ----------
    beside
        What the rule sends besides the tensors of the model, which does not come back.
    rest
        Whether encoders do not come back either: the round does not train them.
    """

    task: Task
    sent: Mapping[str, Tensor]
    share: float
    counts: Mapping[int, int]
    observed: frozenset[int]
    dtype: WireType
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    rest: bool = False

    @property
    def expected(self) -> Mapping[str, Tensor]:
        """Those of the sent tensors that come back."""
        return {n: t for n, t in self.sent.items() if not n.startswith(ENCODERS)} if self.rest else self.sent

    def record(self) -> RecordDict:
        """Return the message. It is built when it is sent, so that memory does not hold the tensors of all sites."""
        return to_record(self.task, pack({**self.sent, **self.beside}, self.dtype))

    def answered(self, index: Iterable[Entry], tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors of an answer, where some are updates (``federation.updates``) of what the site received.

        Its names and shapes are those that were sent.
        """
        updates = [entry.name for entry in index if entry.dtype == INT8]
        if not updates:
            return tensors
        received = {name: self.sent[name].to(DTYPES[self.dtype]).to(self.sent[name].dtype) for name in updates}
        return {**tensors, **{name: whole + tensors[name].to(whole.dtype) for name, whole in received.items()}}

    @property
    def nbytes(self) -> int:
        """Size in bytes of the tensors that are sent to the site."""
        return sum(entry.nbytes for entry in self.task.index)


def stage_of(config: Config, round_: int, phases: Sequence[Phase] | None = None) -> tuple[Literal[1, 2], int, int]:
    """Return the stage of a round (from 0), the round within the stage, and the rounds of the stage.

    A phase of the objective that restarts training has both stages again, in proportion to its number of rounds. A
    phase that continues with the model of the phase before, for example to train its last layer, has one stage: the
    one in which that phase ended.

    Parameters
    ----------
    phases
        The objective's phases, in order and without gaps; None: one phase for the whole run.
    """
    phases = phases or (Phase(0, config.train.rounds),)
    at = max((i for i, phase in enumerate(phases) if phase.start <= round_), default=0)
    phase = phases[at]
    within = round_ - phase.start
    if at and not phase.restart:
        return stage_of(config, phase.start - 1, phases[:at])[0], within, phase.rounds
    warmup = _warmup_rounds(config.train, phase.rounds)
    return (1, within, warmup) if within < warmup else (2, within - warmup, max(phase.rounds - warmup, 1))


def _warmup_rounds(train: TrainConfig, rounds: int) -> int:
    """Return the rounds of stage 1 among this many rounds: the run's share, but at least one round of each stage."""
    if rounds == train.rounds or not train.routing_rounds:
        return min(train.warmup_rounds, rounds)
    if not train.warmup_rounds:
        return 0
    return min(max(round(rounds * train.warmup_rounds / train.rounds), 1), max(rounds - 1, 1))


def sites_of(members: Iterable[Member]) -> Sites:
    """Return the training patients per group of every member, by name."""
    return {member.name: member.counts for member in sorted(members, key=lambda m: m.name)}


def train_tasks(
    config: Config,
    schema: CohortSchema,
    state: SomeState,
    everybody: Collection[Member],
    members: Iterable[Member],
    given: Collection[int] = (),
    routed: bool = False,
) -> dict[int, Assignment]:
    """Return the tasks of the given members by node, for the round that follows `state`.

    Parameters
    ----------
    everybody
        All members of the run; the shares of the objective refer to these.
    given, routed
        As in `Task`, for the initial model; a site gets only its own groups.
    """
    methods = methods_of(config)
    weighed, masses = _weights_for(methods, state, sites_of(everybody), everybody)
    weights = weights_of_blocks(config, schema, everybody, masses)
    labels = _labels(everybody) if methods.objective.needs_labels else {}
    stage, stage_round, stage_rounds = stage_of(config, state.round, methods.objective.phases(config.train.rounds))
    tasks = {}
    rest = encoders_rest(config, methods.rule, stage, methods.objective.phase(state.round).train)
    known = digests(encoders_of(state.model.tensors), config.federation.dtype) if rest else {}
    for member in members:
        own, share = member.counts, masses[member.name]
        common = state.model.select(own, shared_modalities(config, schema, own))
        sent = dict(methods.rule.for_site(member.name, common, state.memory))
        held = {}
        if rest and HOLDS + member.name in state.memory:
            held = {block: known[block] for block in sorted({block_of(name) for name in encoders_of(sent)})}
            sent = {name: tensor for name, tensor in sent.items() if not name.startswith(ENCODERS)}
        besides = _besides(methods.rule.broadcasts, state.memory, sent)
        task = Task(
            round=state.round,
            stage=stage,
            stage_round=stage_round,
            stage_rounds=stage_rounds,
            seed=config.seed,
            weights=weighed[member.name].weights,
            counts=weighed[member.name].counts,
            block_weights=weights[member.name],
            labels={k: labels[k] for k in own if k in labels},
            candidates=candidates(config, state),
            given=tuple(k for k in sorted(own) if k in given),
            routed=routed,
            counted=last_counted(state.memory, member.name),
            held=held,
            index=index_of({**sent, **besides}, config.federation.dtype),
        )
        tasks[member.node_id] = Assignment(
            task, sent, fsum(share.values()), own, member.observed, config.federation.dtype, besides, rest
        )
    return tasks


def last_counted(memory: Mapping[str, Tensor], site: str) -> int | None:
    """Return the last round of the stage in which a site's answer counted, if the rule asks for it."""
    found = memory.get(COUNTED + site)
    return None if found is None else int(found)


def _besides(words: Iterable[str], memory: Mapping[str, Tensor], sent: Iterable[str]) -> dict[str, Tensor]:
    """Return what a rule's memory holds of these tensors under the words that sites receive."""
    named = [(word, name) for word in words for name in sent]
    return {beside(word, name): memory[key] for word, name in named if (key := f"{word}/{name}") in memory}


def round_weights(
    config: Config, schema: CohortSchema, state: SomeState, everybody: Collection[Member]
) -> dict[str, dict[str, float]]:
    """Return the weight a_s of every block at every member, asked or not, in the round that follows `state`.

    They follow from what members reported when they enrolled.
    """
    _, masses = _weights_for(methods_of(config), state, sites_of(everybody), everybody)
    return weights_of_blocks(config, schema, everybody, masses)


def weights_of_blocks(
    config: Config, schema: CohortSchema, everybody: Collection[Member], masses: Mapping[str, Masses]
) -> dict[str, dict[str, float]]:
    """Return member → block → a_s, from the members' parts of the objective."""
    counts = total(sites_of(everybody))
    whole = {k: fsum(own[k] for own in masses.values() if k in own) for k in counts}
    found = {}
    for member in everybody:
        bits = {name: schema.names.index(name) for name in shared_modalities(config, schema, member.counts)}
        found[member.name] = block_weights(masses[member.name], whole, member.counts, counts, bits)
    return found


def _weights_for(
    methods: Methods, state: SomeState, sites: Sites, members: Collection[Member]
) -> tuple[dict[str, SiteWeights], dict[str, Masses]]:
    """Return the weights for each site, and the part of the objective of each of its groups."""
    weighed, own_of = _patients_for(methods, state, sites, members)
    train = methods.objective.config.train
    if state.round < train.rich_rounds:
        weighed = of_richer(weighed, own_of, rich(train, total(sites)))
    return weighed, {name: weighed[name].masses(own) for name, own in own_of.items()}


def _patients_for(
    methods: Methods, state: SomeState, sites: Sites, members: Collection[Member]
) -> tuple[dict[str, SiteWeights], dict[str, Mapping[int, int]]]:
    """Return the weights for each site, and the number of patients per group that the round trains on."""
    if not methods.objective.phase(state.round).balanced:
        return {m.name: methods.weighing.for_site(state.weights, sites, m.name) for m in members}, dict(sites)
    held_out: dict[str, Mapping[int, int]] = {m.name: m.held_out for m in members}
    given = {m.name: methods.weighing.uniform(state.weights, sites, held_out, m.name) for m in members}
    own: dict[str, Mapping[int, int]] = {m.name: {k: m.held_out.get(k, 0) for k in m.counts} for m in members}
    return given, own


def _labels(members: Iterable[Member]) -> dict[int, tuple[int, ...]]:
    """Return the training patients of each group by class, over all members."""
    found: dict[int, tuple[int, ...]] = {}
    for member in members:
        for k, by_class in member.labels.items():
            found[k] = tuple(a + b for a, b in zip(found.get(k, (0,) * len(by_class)), by_class, strict=True))
    return found


def candidates(config: Config, state: SomeState) -> tuple[int, ...]:
    """Return the rounds whose models may still be chosen: the best so far, and the one that this round evaluates."""
    if config.train.select == "last":
        return ()
    return tuple(sorted({state.round, *((state.best.verdict.round,) if state.best else ())}))


def examine_task(
    config: Config,
    schema: CohortSchema,
    state: SomeState,
    member: Member,
    counts: Mapping[int, int] | None = None,
    **asked: Any,
) -> RecordDict:
    """Return the message of `examination_of`."""
    task, sent = examination_of(config, schema, state, member, counts, **asked)
    return to_record(task, pack(sent, config.federation.dtype))


def examination_of(
    config: Config,
    schema: CohortSchema,
    state: SomeState,
    member: Member,
    counts: Mapping[int, int] | None = None,
    *,
    routing: bool,
    on_test: bool = True,
    temper: bool = False,
    temperature: float = 1.0,
) -> tuple[Examine, dict[str, Tensor]]:
    """Return the examination of one site, with the blocks of all known groups among its patients, and its tensors.

    Parameters
    ----------
    counts
        n_k over all sites; the site gets those of its own groups.
    routing
        Whether the model uses Φ_k.
    on_test, temper, temperature
        See `Examine`.
    """
    common = state.model.select(member.observed, shared_modalities(config, schema, member.observed))
    sent = dict(methods_of(config).rule.for_site(member.name, common, state.memory))
    dtype = config.federation.dtype
    task = Examine(
        round=state.round,
        routing=routing,
        on_test=on_test,
        temper=temper,
        temperature=temperature,
        counts={k: n for k, n in (counts or {}).items() if k in member.observed},
        index=index_of(sent, dtype),
    )
    return task, sent


def shared_modalities(config: Config, schema: CohortSchema, groups: Collection[int]) -> tuple[str, ...]:
    """Return the modalities whose encoder is sent to a site with these groups; empty unless encoders are shared."""
    if config.federation.encoders != "shared":
        return ()
    return tuple(name for bit, name in enumerate(schema.names) if any(k >> bit & 1 for k in groups))
