"""SCAFFOLD: control variates correct the drift of local steps (Karimireddy et al. 2020, arXiv 1910.06378).

    y_s ← θ;  K times: y_s ← y_s − η·(∇F_s(y_s) − c_s + c)
    c_s⁺ = c_s − c + (θ − y_s)/(K·η)                                   (option II)
    θ⁺ = Σ_s a_s·y_s / Σ_s a_s,   c⁺ = c + Σ_s a_s·(c_s⁺ − c_s),       both over the sites that answered

c_s stays at the site, c is sent with the task. The coordinator computes c⁺ from the average alone, because
Σ_s a_s·(c_s⁺ − c_s) = Σ_s a_s·((θ − θ⁺)/(K·η) − c): nothing but the model comes back. η_g = 1, as in the paper's
experiments.

What we do differently: sites weigh a_s (n_s/n), not 1/N, so that one local step is FedAvg's; a group's tensors have the
control variates of the sites that observe the group; with rates of their own (Φ_k), c is in units of the stage's rate.
Encoders that stay at a site have none. c and c_s restart at 0 with each stage, like the optimisers of other rules. What
too few patients of a site move, it sends as if its gradient were still c_s.

*Local steps are plain SGD*, whatever ``train.optimizer`` says: (θ − y_s)/(K·η) is a mean gradient under no other. A
step shrinks weights by ``train.lr`` · ``train.weight-decay``, as AdamW's does, although η is larger.
"""

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from remind.config import NonNegative
from remind.federation.blocks import DTYPES, beside, block_of
from remind.federation.rules.base import EVERY, Replies, Rule, Tensors, registry
from remind.metrics.statistics import GroupLoss
from remind.registry import Options
from remind.training.local import optimizer_of
from remind.training.sampling import Step
from remind.training.work import LocalWork

CONTROL = "control"


class ScaffoldOptions(Options):
    """The learning rate."""

    lr: NonNegative = Field(
        0.1, description="η of stage 1, in place of train.lr; stage 2 in proportion; 0: train.lr and routing-lr"
    )


@registry.register(
    "scaffold",
    title="control variates correct the drift of local steps, which are plain SGD",
    paper="Karimireddy et al., SCAFFOLD: stochastic controlled averaging for federated learning",
    year=2020,
    options=ScaffoldOptions,
)
class Scaffold(Rule):
    """Local steps with control variates; after an answer that did not count, a site keeps the c_s before it."""

    encoders = EVERY
    broadcasts = (CONTROL,)
    counts_answers = True
    options: ScaffoldOptions

    @override
    def unused(self) -> Mapping[str, str]:
        unused = {}
        if self.config.train.optimizer != "sgd":
            unused["train.optimizer"] = "local steps of scaffold are plain SGD"
        if self.options.lr:
            unused["train.lr"] = f"the option of scaffold, lr = {self.options.lr:g}, replaces it"
        return unused

    @override
    def server_round(
        self, model: Tensors, average: Tensors, memory: Tensors, replies: Replies
    ) -> tuple[Tensors, Tensors]:
        """Take the average; the memory is c, by the names of the tensors."""
        wire, length = DTYPES[self.config.federation.dtype], self.config.train.local_steps * self._rate(replies.lr)
        fresh = {}
        for name, tensor in average.items():
            sent = model[name].to(wire).double()  # as sites received it
            c = memory.get(f"{CONTROL}/{name}", torch.zeros_like(sent)).double()
            step = (sent - tensor.double()) / length - c.to(wire).double()
            fresh[f"{CONTROL}/{name}"] = c + replies.weight.get(name, 1.0) * step
        return average, {**memory, **fresh}

    @override
    def work(self, work: LocalWork) -> Mapping[int, GroupLoss] | None:
        steps = self.config.train.local_steps
        assert work.optimizer is not None
        if not work.plan:  # nobody trains here: a gradient of 0
            work.plan = [Step(np.zeros(0, np.int64), np.zeros(0))] * steps
        groups = work.optimizer.param_groups
        factor = {p: group["factor"] for group in groups for p in group["params"]}
        faster = [{"params": group["params"], "factor": self._rate(group["factor"])} for group in groups]
        optimizer = optimizer_of(self.config.train.model_copy(update=self._plain()), faster)
        named, before = work.named(), work.received()
        names = [n for n in work.travelling if named[n] in factor and self._trains(work, n)]
        own_c = self._own(work)
        c = {n: work.beside[b].double() for n in names if (b := beside(CONTROL, n)) in work.beside}
        shift = {n: (c.get(n, 0.0) - own_c.get(n, 0.0)) / factor[named[n]] for n in {*c, *own_c} & set(names)}
        work.steps(optimizer=optimizer, shift=shift)
        wire, length = DTYPES[self.config.federation.dtype], steps * self._rate(work.settings.lr)
        found = {}
        for name in names:
            y = named[name].detach()
            if block_of(name) in work.withheld:  # what steps with the gradient c_s would lead to: nothing new is told
                y = work.instead[name] = (before[name] - length * c.get(name, 0.0)).to(y)
            moved = before[name].double() - y.to(wire).double()
            found[name] = own_c.get(name, 0.0) - c.get(name, 0.0) + moved / length
        self._keep(work, own_c, found)
        return None

    def _rate(self, lr: float) -> float:
        """Return η, where the other rules' learning rate is `lr`."""
        return lr * self.options.lr / self.config.train.lr if self.options.lr else lr

    def _plain(self) -> dict[str, object]:
        """Return the settings of plain SGD; weights decay by as much per step as with the other rules' rate."""
        decay = self.config.train.weight_decay
        if self.options.lr:
            decay *= self.config.train.lr / self.options.lr
        return {"optimizer": "sgd", "weight_decay": decay}

    def _trains(self, work: LocalWork, name: str) -> bool:
        return work.settings.only is None or work.settings.only(name)

    # c_s, of the last answer that counted and of the last one: <word>/<stage>/<round>/<parameter>

    def _own(self, work: LocalWork) -> dict[str, Tensor]:
        """Return c_s of the last answer that counted in this stage; empty if there is none."""
        prefix = f"{CONTROL}/{work.settings.stage}/{work.settings.counted}/"
        return {n.removeprefix(prefix): t for n, t in work.kept.items() if n.startswith(prefix)}

    def _keep(self, work: LocalWork, counted: Tensors, newest: Tensors) -> None:
        settings = work.settings
        for name in [n for n in work.kept if n.startswith(f"{CONTROL}/")]:
            del work.kept[name]
        for round_, tensors in ((settings.counted, counted), (settings.round, newest)):
            work.kept |= {f"{CONTROL}/{settings.stage}/{round_}/{n}": t for n, t in tensors.items()}
