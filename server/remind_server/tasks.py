"""What each site is asked in a round: its own blocks, λ and n_k of its own groups, and nothing of anyone else's."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from flwr.app import RecordDict
from torch import Tensor

from remind.config import Config
from remind.data.schema import CohortSchema
from remind.federation.blocks import index_of, pack
from remind.federation.flower import to_record
from remind.federation.messages import Examine, Task
from remind.federation.weights import block_weights
from remind.objectives.group_dro import site_share
from remind_server.model import GlobalModel
from remind_server.roster import Member


@dataclass(frozen=True)
class State:
    """The coordinator between two rounds: all that the next one depends on besides config and roster."""

    round: int
    model: GlobalModel
    weights: Mapping[int, float]


@dataclass(frozen=True)
class Assignment:
    """A site's task, with what its reply is checked against: tensors sent, W_s, n_{s,k}, groups it can evaluate."""

    task: Task
    sent: Mapping[str, Tensor]
    share: float
    counts: Mapping[int, int]
    observed: frozenset[int]

    def record(self) -> RecordDict:
        """The message; made when it is sent, so that the tensors are not held once per site."""
        return to_record(self.task, pack(self.sent, self.task.index[0].dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that go to the site."""
        return sum(entry.nbytes for entry in self.task.index)


def stage_of(config: Config, round_: int) -> tuple[Literal[1, 2], int, int]:
    """Stage of a round (from 0), round within the stage, rounds of the stage."""
    warmup = config.train.warmup_rounds
    return (1, round_, warmup) if round_ < warmup else (2, round_ - warmup, config.train.routing_rounds)


def train_task(
    config: Config, schema: CohortSchema, state: State, counts: Mapping[int, int], member: Member
) -> Assignment:
    """The task of one site for the round that follows `state`."""
    own = member.counts
    modalities = shared_modalities(config, schema, own)
    sent = state.model.select(own, modalities)
    stage, stage_round, stage_rounds = stage_of(config, state.round)
    bits = {name: schema.names.index(name) for name in modalities}
    task = Task(
        round=state.round,
        stage=stage,
        stage_round=stage_round,
        stage_rounds=stage_rounds,
        seed=config.seed,
        weights={k: state.weights[k] for k in own},
        counts={k: counts[k] for k in own},
        block_weights=block_weights(state.weights, counts, own, bits),
        index=index_of(sent, config.federation.dtype),
    )
    return Assignment(task, sent, site_share(state.weights, counts, own), own, member.observed)


def examine_task(config: Config, schema: CohortSchema, state: State, member: Member) -> RecordDict:
    """The final examination of one site, on the blocks of every known group among its patients."""
    known = [k for k in sorted(member.observed) if k in state.weights]
    sent = state.model.select(known, shared_modalities(config, schema, member.observed))
    dtype = config.federation.dtype
    task = Examine(round=state.round, routing=config.train.routing_rounds > 0, index=index_of(sent, dtype))
    return to_record(task, pack(sent, dtype))


def shared_modalities(config: Config, schema: CohortSchema, groups: Collection[int]) -> tuple[str, ...]:
    """Modalities whose encoder travels to a site with these groups; none unless encoders are shared."""
    if config.federation.encoders != "shared":
        return ()
    return tuple(name for bit, name in enumerate(schema.names) if any(k >> bit & 1 for k in groups))
