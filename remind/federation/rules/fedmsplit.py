"""FedMSplit (Chen and Zhang 2022): a model for each site, averaged part by part over the sites that are like it.

    A_st ∝ a_t·exp(−d_st/τ),  Σ_t A_st = 1;   d_st = ‖θ_s − θ_t‖² / mean over pairs
    θ_s ← Σ_t A_st·θ_t                       for each part of the model, over the sites that sent it

A model is split into parts, each of which sees the sites' relations in its own way: every encoder that travels, every
group's own parameters, the head, and the rest of the fusion model. The weights A of a part's graph are learnt from how
alike the sites' parameters are, round by round: they minimise Σ_t A_st·d_st + τ·KL(A_s ‖ a) on the simplex. τ → ∞ is
FedAvg, or LG; small τ leaves each site alone.

What we do differently: the paper learns A by gradient steps on a like objective; this minimiser has a closed form.
A site that did not answer keeps its model and is nobody's neighbour in that round. The average over all sites is the
model of sites that join later, and what a run's folder has. The coordinator keeps one model for each site.
"""

from collections.abc import Mapping
from math import exp

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from remind.config import Positive
from remind.federation.aggregation import BlockAverage, BySite, Reply
from remind.federation.blocks import SHARED, block_of
from remind.federation.rules.base import EVERY, Replies, Rule, Tensors, registry
from remind.objectives.base import is_head
from remind.registry import Options

SITE = "site"  # word of the sites' models in the memory: site/<site>/<parameter>


class FedMSplitOptions(Options):
    """How alike sites must be."""

    temperature: Positive = Field(1.0, description="τ, in units of the mean squared distance of two sites' parameters")


@registry.register(
    "fedmsplit",
    title="a model for each site; each part is averaged over the sites whose part is like its own",
    paper="Chen and Zhang, FedMSplit: correlation-adaptive federated multi-task learning, KDD 2022",
    year=2022,
    options=FedMSplitOptions,
)
class FedMSplit(Rule):
    """The coordinator keeps a model for each site and averages each part over the sites whose parts are alike."""

    encoders = EVERY
    lasting = (SITE,)
    personal = True
    options: FedMSplitOptions

    @override
    def combiner(self) -> BlockAverage:
        return BySite()

    @override
    def for_site(self, site: str, tensors: Tensors, memory: Tensors) -> Tensors:
        """Return the site's own model, and the common one's values of what it has not had yet."""
        return {name: memory.get(_own(site, name), tensor) for name, tensor in tensors.items()}

    @override
    def server_round(
        self, model: Tensors, average: Tensors, memory: Tensors, replies: Replies
    ) -> tuple[Tensors, Tensors]:
        """Take the average for the common model; the memory is the sites' models."""
        parts: dict[str, list[str]] = {}
        for name in sorted(average):
            parts.setdefault(part_of(name), []).append(name)
        fresh: dict[str, Tensor] = {}
        for names in parts.values():
            block = block_of(names[0])
            there = {s: r for s, r in sorted(replies.by_site.items()) if r.weights.get(block, 0.0) > 0}
            sent = {site: r for site, r in there.items() if all(name in r.tensors for name in names)}
            graph = edges(
                {s: _flat(r, names) for s, r in sent.items()}, _weights(sent, block), self.options.temperature
            )
            for site, row in graph.items():
                for name in names:
                    whole = torch.stack([a * sent[t].tensors[name].double() for t, a in row.items()]).sum(dim=0)
                    fresh[_own(site, name)] = whole.to(model[name].dtype)
        return average, {**memory, **fresh}


def part_of(name: str) -> str:
    """Return the part of the model that a parameter belongs to."""
    block = block_of(name)
    return "head" if block == SHARED and is_head(name) else block


def edges(
    vectors: Mapping[str, Tensor], weights: Mapping[str, float], temperature: float
) -> dict[str, dict[str, float]]:
    """Return A: the row of each site, which sums to 1."""
    distance = {s: {t: float((x - y).square().sum()) for t, y in vectors.items()} for s, x in vectors.items()}
    pairs = [d for s, row in distance.items() for t, d in row.items() if s != t]
    mean = sum(pairs) / len(pairs) if pairs else 0.0
    found = {}
    for site, row in distance.items():
        raised = {t: weights[t] * exp(-d / (temperature * mean) if mean > 0 else 0.0) for t, d in row.items()}
        total = sum(raised.values())
        found[site] = {t: a / total for t, a in raised.items()}
    return found


def _weights(sent: Mapping[str, Reply], block: str) -> dict[str, float]:
    return {site: reply.weights[block] for site, reply in sent.items()}


def _flat(reply: Reply, names: list[str]) -> Tensor:
    return torch.cat([reply.tensors[name].double().flatten() for name in names])


def _own(site: str, name: str) -> str:
    return f"{SITE}/{site}/{name}"
