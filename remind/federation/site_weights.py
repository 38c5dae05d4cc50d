"""The weight of each site's patients: a weighting of groups or sites, expressed as numbers that are sent to a site.

A site receives w_k and c_k of each of its groups; each of its n_{s,k} patients of the group then has the weight
w_k/c_k, so that m_{s,k} = w_k·n_{s,k}/c_k of the objective lies there: its mass, Σ_s Σ_k m_{s,k} = 1. All that
aggregation needs follows from the masses (`block_weights.block_weights`), whatever the rule.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import fsum
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from pydantic import TypeAdapter
from typing_extensions import override

from remind.federation.participation import Draw
from remind.metrics.statistics import GroupLoss, merge
from remind.objectives.lambda_step import risks
from remind.objectives.weighting import Weighting, WeightState

Counts = Mapping[int, int]
Sites = Mapping[str, Counts]  # training patients per group of every member
Losses = Mapping[str, Mapping[int, GroupLoss]]  # of the sites that reported
Masses = Mapping[int, float]
S = TypeVar("S")  # the state of a weighing


@dataclass(frozen=True)
class SiteWeights:
    """The weights w_k of a site's own groups, and the counts c_k by which they are divided; sent to the site."""

    weights: Mapping[int, float]
    counts: Mapping[int, int]

    def masses(self, own: Counts) -> Masses:
        """Return m_{s,k} of a site with these patients."""
        return {k: self.weights[k] * n / self.counts[k] for k, n in sorted(own.items())}


class Weighing(ABC, Generic[S]):
    """A weighting applied to a federation; its states are immutable.

    Attributes
    ----------
    states
        What a state is, as pydantic sees it, so that it can be written and read.
    """

    states: ClassVar[TypeAdapter[Any]]

    @abstractmethod
    def initial(self, sites: Sites) -> S:
        """State before the first round."""

    @abstractmethod
    def for_site(self, state: S, sites: Sites, site: str) -> SiteWeights:
        """Return what one site receives."""

    @abstractmethod
    def update(
        self, state: S, sites: Sites, losses: Losses, adjustment: float, steps: int, draw: Draw | None = None
    ) -> S:
        """Return the next round's state, from the reporting sites' losses on the model at the round's beginning.

        Parameters
        ----------
        draw
            How the sites were drawn; None: all were asked.
        """

    @property
    @abstractmethod
    def weightings(self) -> tuple[Weighting, ...]:
        """The weightings by which it weighs."""

    def compare(self, state: S, received: Losses, local: Losses, progress: float) -> S:
        """Return the state after `update`, from what the sites lose on the model received and on their own.

        Parameters
        ----------
        received, local
            Losses of the training patients of the sites that reported, before and after their steps.
        progress
            Share of the run's rounds that are over, before this one.
        """
        return state

    @abstractmethod
    def admit(self, state: S, sites: Sites) -> S:
        """Return the state with sites and groups that appeared after the start."""

    @abstractmethod
    def uniform(self, state: S, sites: Sites, held_out: Sites, site: str) -> SiteWeights:
        """Return the weights for one site in a phase that trains on held-out patients: equal for all patients.

        Parameters
        ----------
        held_out
            Such patients per group of every site, of groups it also trains on. Its other groups weigh nothing.
        """

    def shown(self, state: S, sites: Sites) -> dict[int, float]:
        """Return the weight of each group in the objective, over all sites: tables and pages call it λ."""
        parts: dict[int, list[float]] = {}
        for site, own in sorted(sites.items()):
            for k, mass in self.for_site(state, sites, site).masses(own).items():
                parts.setdefault(k, []).append(mass)
        return {k: fsum(masses) for k, masses in sorted(parts.items())}


# The weighing of a run: the config decides the type of its states, and Python cannot write "for some S".
SomeWeighing: TypeAlias = Weighing[Any]


@dataclass(frozen=True)
class Spanning(Weighing[WeightState[int]]):
    """Groups that span sites (algorithm §3): every patient of group k weighs λ_k/n_k, with the global n_k."""

    weighting: Weighting

    states: ClassVar[TypeAdapter[Any]] = TypeAdapter(WeightState[int])

    @override
    def initial(self, sites: Sites) -> WeightState[int]:
        return self.weighting.initial(total(sites))

    @override
    def for_site(self, state: WeightState[int], sites: Sites, site: str) -> SiteWeights:
        counts = total(sites)
        return SiteWeights({k: state.weights[k] for k in sites[site]}, {k: counts[k] for k in sites[site]})

    def update(
        self,
        state: WeightState[int],
        sites: Sites,
        losses: Losses,
        adjustment: float,
        steps: int,
        draw: Draw | None = None,
    ) -> WeightState[int]:
        """Update from the groups' risks over the patients of all sites, never from a mean of site means."""
        counts = total(sites)
        if draw is None or draw.whole or (draw.alike and not draw.unbiased):
            measured = risks(merge(losses.values()), counts, adjustment)
            return replace(self.weighting.update(state, measured, counts, steps), known=state.known)
        means = {site: {k: loss.loss for k, loss in own.items()} for site, own in losses.items()}
        estimated = {
            k: risk + adjustment / math.sqrt(counts[k]) for k, risk in draw.risks(sites, means, state.known).items()
        }
        known = {**state.known, **replace(draw, unbiased=False).risks(sites, means, {})} if draw.unbiased else {}
        return replace(self.weighting.update(state, estimated, counts, steps), known=known)

    @property
    def weightings(self) -> tuple[Weighting, ...]:
        """The one of groups."""
        return (self.weighting,)

    @override
    def admit(self, state: WeightState[int], sites: Sites) -> WeightState[int]:
        return replace(self.weighting.admit(state, total(sites)), known=state.known)

    def uniform(self, state: WeightState[int], sites: Sites, held_out: Sites, site: str) -> SiteWeights:
        """Return 1/G for the groups of which any site has held-out patients."""
        counts = total(held_out)
        return _alike(1 / max(len(counts), 1), counts, held_out[site], sites[site])

    def shown(self, state: WeightState[int], sites: Sites) -> dict[int, float]:
        """Return λ itself."""
        return dict(sorted(state.weights.items()))


@dataclass(frozen=True)
class Nested:
    """Weights of the sites, and of the groups within each site."""

    sites: WeightState[str]
    groups: Mapping[str, WeightState[int]]


@dataclass(frozen=True)
class Within(Weighing[Nested]):
    """Sites weighed against each other, groups within each site on its own: what a rule does that knows no groups.

    Attributes
    ----------
    between
        Of the sites; n_s/n for most rules.
    inside
        Of the groups of one site, by that site's own patients and losses.
    """

    between: Weighting
    inside: Weighting

    states: ClassVar[TypeAdapter[Any]] = TypeAdapter(Nested)

    @override
    def initial(self, sites: Sites) -> Nested:
        groups = {site: self.inside.initial(own) for site, own in sorted(sites.items())}
        return Nested(self.between.initial(_sizes(sites)), groups)

    def for_site(self, state: Nested, sites: Sites, site: str) -> SiteWeights:
        """Return the weight of the site times that of the group within it, divided by the site's own patients."""
        share, inside = state.sites.weights[site], state.groups[site].weights
        return SiteWeights({k: share * inside[k] for k in sites[site]}, dict(sites[site]))

    def uniform(self, state: Nested, sites: Sites, held_out: Sites, site: str) -> SiteWeights:
        """Return the weight of the site, shared by the groups that it holds patients out of."""
        own = held_out[site]
        return _alike(state.sites.weights[site] / max(len(own), 1), own, own, sites[site])

    def update(
        self, state: Nested, sites: Sites, losses: Losses, adjustment: float, steps: int, draw: Draw | None = None
    ) -> Nested:
        """Update each reporting site's groups by its own losses, and the sites by the mean loss of their patients.

        A site's groups step when the site is drawn: for an unbiased estimate 1/π_s times as far.
        """
        groups = dict(state.groups)
        of_site = {}
        for site, measured in sorted(losses.items()):
            own = sites[site]
            far = steps / draw.chances[site] if draw is not None and draw.unbiased else steps
            groups[site] = self.inside.update(groups[site], risks(measured, own, adjustment), own, far)
            if known := {k: loss for k, loss in measured.items() if k in own}:
                of_site[site] = mean_loss(known)
        return Nested(self.between.update(state.sites, of_site, _sizes(sites), steps), groups)

    @property
    def weightings(self) -> tuple[Weighting, ...]:
        """That of sites, and that of the groups within one."""
        return self.between, self.inside

    @override
    def admit(self, state: Nested, sites: Sites) -> Nested:
        groups = {
            site: self.inside.admit(state.groups[site], own) if site in state.groups else self.inside.initial(own)
            for site, own in sorted(sites.items())
        }
        return replace(state, sites=self.between.admit(state.sites, _sizes(sites)), groups=groups)


def mean_loss(losses: Mapping[int, GroupLoss]) -> float:
    """Return the mean loss of the patients of these groups; there is at least one."""
    return fsum(loss.loss_sum for loss in losses.values()) / sum(loss.count for loss in losses.values())


def total(sites: Sites) -> dict[int, int]:
    """Return n_k over all sites, groups ascending."""
    counts: dict[int, int] = {}
    for own in sites.values():
        for k, n in own.items():
            counts[k] = counts.get(k, 0) + n
    return dict(sorted(counts.items()))


def _alike(weight: float, counts: Counts, held_out: Counts, own: Counts) -> SiteWeights:
    """Return equal weights for the groups with held-out patients, and 0 for the site's other groups."""
    weights = {k: weight if k in held_out else 0.0 for k in own}
    return SiteWeights(weights, {k: counts[k] if k in held_out else n for k, n in own.items()})


def _sizes(sites: Sites) -> dict[str, int]:
    return {site: sum(own.values()) for site, own in sorted(sites.items())}
