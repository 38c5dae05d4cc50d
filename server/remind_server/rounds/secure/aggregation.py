"""Secure aggregation at the coordinator: rounds and examinations whose answers can be read in sum alone."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import fsum
from pathlib import Path

from flwr.serverapp import Grid
from torch import Tensor

from remind.errors import UserError
from remind.federation.blocks import SHARED, group_block, index_of, pack
from remind.federation.flower import to_record
from remind.federation.messages import Examine
from remind.federation.secure import (
    TOLERANCE,
    average_of,
    block_digests,
    examination_length,
    examination_plan,
    examiners_in,
    group_of_block,
    groups_training,
    loss_of,
    task_plan,
    training_lengths,
)
from remind.federation.secure_messages import Secure
from remind.federation.summed import gradients_of, noisy_loss_of
from remind.secagg.coordinator import SecureSum
from remind.secagg.limits import FEWEST, least_honest
from remind.secagg.plan import Plan
from remind.secure_settings import require_noise
from remind.training.evaluate import most_loss
from remind_server.rounds.collect import Measurement
from remind_server.rounds.member import Member
from remind_server.rounds.parties import Parties
from remind_server.rounds.secure.joint import SummedGradients
from remind_server.rounds.secure.masked_replies import MaskedReplies
from remind_server.rounds.secure.results import SummedAverage, SummedRound, measurement_of
from remind_server.rounds.secure.setup import NO_KEYS, Dealing, keep, kept, set_up, slots_of
from remind_server.rounds.tasks import Assignment

log = logging.getLogger("flwr")
UNLIKE = "its numbers do not add up to those of the sites that sent it: some of them were told something else"


class SecureAggregation:
    """The run's keys, and its slots.

    Parameters
    ----------
    folder
        Where public keys and boxes are kept, so that a run that was killed continues; None: nowhere.
    """

    def __init__(self, parties: Parties, folder: Path | None) -> None:
        self.parties, self._folder = parties, folder
        self._dealing: Dealing | None = None
        self._few: set[str] = set()

    @property
    def dealing(self) -> Dealing:
        """What was dealt."""
        assert self._dealing is not None
        return self._dealing

    def begin(self, grid: Grid) -> None:
        """Deal the keys of a new run."""
        self._become(set_up(grid, self.parties))
        require_noise(self.parties.config, len(self.dealing.deals))

    def go_on(self) -> None:
        """Load the keys of a resumed run.

        Raises
        ------
        UserError
            They were not kept.
        """
        self._dealing = kept(self._folder)
        if self._dealing is None:
            raise UserError("federation.secure-aggregation: the keys of this run were not kept; start it again")

    def admit(self) -> None:
        """Leave out members that were not there when keys were dealt."""
        for member in list(self.parties.roster.members.values()):
            if member.name not in self.dealing.deals:
                self.parties.roster.exclude(member, NO_KEYS)

    @property
    def members(self) -> list[Member]:
        """The members that dealt keys, by name, connected or not."""
        every = self.parties.roster.members.values()
        return sorted((m for m in every if m.name in self.dealing.deals), key=lambda m: m.name)

    # A round

    def assignments(self, tasks: Mapping[int, Assignment], round_: int) -> dict[int, Assignment]:
        """Return the tasks with what the sites must know to mask their answers.

        Raises
        ------
        UserError
            Patients of a group weigh differently at two sites, so that no site could tell a lie from a rule.
        """
        slot = self._slot_of(round_)
        by_name = {m.name: tasks[m.node_id] for m in self.members}
        patient: dict[int, float] = {}
        for name, assignment in by_name.items():
            for k, weight in assignment.task.weights.items():
                each = weight / assignment.task.counts[k]
                if abs(patient.setdefault(k, each) - each) > TOLERANCE * max(each, 1e-300):
                    raise UserError(f"federation.secure-aggregation: patients of group {k} weigh differently at {name}")
        blocks = {name: self._blocks(assignment) for name, assignment in by_name.items()}
        observers = self._observers(blocks)
        plain = self._plain_weight(by_name.values(), patient)
        self._tell_of_few({block for own in blocks.values() for block in own} - observers.keys())
        modalities = self.parties.schema.names
        whole = {
            block: fsum(
                patient[k] * n
                for name in by_name
                for k, n in by_name[name].counts.items()
                if k in groups_training(block, [k], modalities)
            )
            for block in observers
        }
        found = {}
        for node, assignment in tasks.items():
            own = {b: names for b, names in observers.items() if b in self._blocks(assignment)}
            secure = Secure(
                slot=slot,
                observers=own,
                patient={g: patient[g] for b in own if (g := group_of_block(b)) is not None},
                whole={block: whole[block] for block in own},
                plain=plain,
            )
            found[node] = replace(assignment, task=assignment.task.model_copy(update={"secure": secure}))
        return found

    def _plain_weight(self, assignments: Iterable[Assignment], patient: Mapping[int, float]) -> float:
        """Return a patient's weight in plain averaging, 1/N, where hospitals share the noise."""
        if self.parties.config.privacy.mode != "joint":
            return 0.0
        n = [(k, count) for a in assignments for k, count in a.counts.items() if patient.get(k, 0.0) > 0]
        return fsum(patient[k] * count for k, count in n) / max(1, sum(count for _, count in n))

    def _tell_of_few(self, blocks: set[str]) -> None:
        """Say once which parts of the model stay as they are, as too few sites train them."""
        if fresh := sorted(blocks - self._few):
            log.warning("fewer than %d hospitals train %s, which stay as they are", FEWEST, ", ".join(fresh))
            self._few |= blocks

    def _blocks(self, assignment: Assignment) -> set[str]:
        task = assignment.task
        return {SHARED} | {entry.block for entry in task.index} | {group_block(k) for k in task.weights}

    def _observers(self, blocks: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
        """Block → the sites that send it; none of blocks that fewer than three would send."""
        found: dict[str, list[str]] = {}
        for name in sorted(blocks):
            for block in blocks[name]:
                found.setdefault(block, []).append(name)
        return {block: tuple(names) for block, names in sorted(found.items()) if self._enough(len(names))}

    def _enough(self, observers: int) -> bool:
        """Return whether a block of so many hospitals is sent: fewer learn of each other, or lack noise."""
        privacy, sites = self.parties.config.privacy, len(self.dealing.deals)
        noisy = privacy.mode != "joint" or least_honest(observers, sites, privacy.colluding) >= 1
        return observers >= FEWEST and noisy

    def replies(
        self, tasks: Mapping[int, Assignment], model: Mapping[str, Tensor], round_: int, absent: Mapping[str, str]
    ) -> MaskedReplies:
        """Return the round's replies, none of which has come yet."""
        dtype = self.parties.config.federation.dtype
        digests = block_digests(index_of(model, dtype), pack(model, dtype))
        plans: dict[str, Plan] = {}
        lengths: dict[str, tuple[int, int]] = {}
        for member in self.members:
            task = tasks[member.node_id].task
            assert task.secure is not None
            plans[member.name] = task_plan(task, digests, "")
            lengths |= training_lengths(task.index, task.secure.observers)
        return MaskedReplies(self.parties, self._sum(plans, lengths), round_, dict(absent))

    def opened(
        self, grid: Grid, replies: MaskedReplies, tasks: Mapping[int, Assignment], model: Mapping[str, Tensor]
    ) -> SummedRound:
        """Read the sums of a round: averages, and losses of groups.

        Raises
        ------
        TooFewError
            They cannot be read; the round can be begun again.
        """
        sums = replies.open(grid, lambda: self._become(self.dealing.model_copy(update={"opened": True})))
        weights: dict[str, list[float]] = {}
        for member in self.members:
            task = tasks[member.node_id].task
            if member.name in replies.answered and task.secure is not None:
                for block in task.secure.observers:
                    weights.setdefault(block, []).append(task.block_weights.get(block, 0.0))
        tensors: dict[str, Tensor] = {}
        privacy, joint = self.parties.config.privacy, self.parties.config.privacy.mode == "joint"
        most = most_loss(self.parties.config, self.parties.schema.predicts)
        found = SummedRound(SummedAverage({}), withheld=dict(replies.withheld))
        for block, payload in sums.items():
            _, beside = payload.numbers()
            if abs(beside[0] - fsum(weights[block])) > TOLERANCE * max(1, len(weights[block])):
                found.withheld[block] = UNLIKE
                continue
            if joint:
                tensors |= gradients_of(block, payload, model, privacy.clip)
            else:
                tensors |= average_of(block, payload, model, self.parties.config.federation.dtype)
            if (k := group_of_block(block)) is not None:
                loss = noisy_loss_of(payload, most) if joint else loss_of(payload)
                found.losses |= {} if loss is None else {k: loss}
                found.trained |= {k} if joint or loss is not None else set()
        for block, why in found.withheld.items():
            log.warning("round %d: %s is withheld: %s", replies.round + 1, block, why)
        found.average = SummedAverage(tensors)
        if joint:
            patients = self._expected(tasks[m.node_id] for m in self.members if m.name in replies.answered)
            found.average = SummedGradients({name: tensor / patients for name, tensor in tensors.items()})
        return found

    def _expected(self, assignments: Iterable[Assignment]) -> float:
        """Return q·n: how many patients take part in a step of these hospitals, by the numbers that they have said."""
        weights = [(a.task.weights.get(k, 0.0), n) for a in assignments for k, n in a.counts.items()]
        return (self.parties.config.privacy.rate or 1.0) * max(1, sum(n for weight, n in weights if weight > 0))

    # An examination

    def measured(
        self, grid: Grid, asked: Mapping[str, tuple[Examine, Mapping[str, Tensor]]], experts: int
    ) -> Measurement:
        """Examine a model: site → task and tensors. The statistics are those of all sites together, `TOGETHER`.

        Parameters
        ----------
        experts
            E of the model.

        Raises
        ------
        TooFewError
            They cannot be read.
        """
        dtype, slot, classes = self.parties.config.federation.dtype, self._fresh(), len(self.parties.schema.classes)
        own = {m.name: [group_block(k) for k in sorted(m.observed)] for m in self.members}
        observers = self._observers(own)
        tasks: dict[str, Examine] = {}
        plans: dict[str, Plan] = {}
        lengths: dict[str, tuple[int, int]] = {}
        for name, (task, sent) in asked.items():
            secure = Secure(
                slot=slot, observers={b: observers[b] for b in own[name] if b in observers}, experts=experts
            )
            tasks[name] = task.model_copy(update={"secure": secure})
            plans[name] = examination_plan(tasks[name], block_digests(task.index, pack(sent, dtype)), "")
            lengths |= {block: (0, examination_length(tasks[name], classes)) for block in secure.observers}
        some = next(iter(tasks.values()))
        replies = MaskedReplies(self.parties, self._sum(plans, lengths), some.round, {})
        online = [m for m in self.parties.roster.online(grid) if m.name in tasks]
        records = ((m, to_record(tasks[m.name], pack(asked[m.name][1], dtype))) for m in online)
        for member, answer in self.parties.ask(grid, records, "evaluate", some.round, replies.bounds()):
            replies.take(member.name, answer)
        sums = replies.open(grid)
        unlike = {block: UNLIKE for block, total in sums.items() if examiners_in(total) != replies.senders(block)}
        for block, why in (replies.withheld | unlike).items():
            log.warning("examination: %s is withheld: %s", block, why)
        return measurement_of(some, {b: total for b, total in sums.items() if b not in unlike}, classes, replies.absent)

    # Slots

    def _sum(self, plans: Mapping[str, Plan], lengths: Mapping[str, tuple[int, int]]) -> SecureSum:
        return SecureSum(self.dealing.book, self.dealing.deals, plans, lengths)

    def _slot_of(self, round_: int) -> int:
        """Return the slot of a round: the same again as long as nothing was opened in it."""
        if self.dealing.round != round_ or self.dealing.opened:
            slot = self._fresh()
            self._become(self.dealing.model_copy(update={"round": round_, "slot": slot, "opened": False}))
        return self.dealing.slot

    def _fresh(self) -> int:
        slot = self.dealing.next
        if slot >= slots_of(self.parties.config):
            raise UserError("federation.secure-aggregation: the keys of this run are used up; start a new run")
        self._become(self.dealing.model_copy(update={"next": slot + 1}))
        return slot

    def _become(self, dealing: Dealing) -> None:
        keep(self._folder, dealing)
        self._dealing = dealing
