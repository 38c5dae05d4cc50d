"""The choices that make a method (fusion model, objective, rule, aggregator), and which of them exclude each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

from remind.config import Config, TrainConfig
from remind.encoders import choices
from remind.errors import UserError
from remind.federation.aggregation import BlockAverage, Merging, is_as_sent
from remind.federation.aggregators.base import Aggregator
from remind.federation.aggregators.base import registry as aggregators
from remind.federation.blocks import SentType
from remind.federation.rules.base import Rule
from remind.federation.rules.base import registry as rules
from remind.federation.site_weights import SomeWeighing
from remind.federation.unbiased import require_linear
from remind.fusion.base import FusionModel
from remind.fusion.base import registry as fusions
from remind.objectives.base import Objective
from remind.objectives.base import registry as objectives
from remind.registry import Method, Registry
from remind.suggest import did_you_mean

FUSION = "fusion."  # begins the names of the fusion model's parameters


@dataclass(frozen=True, eq=False)
class Methods:
    """Objective, rule and aggregator of a run, built from its config, and the class of its fusion model."""

    objective: Objective
    rule: Rule
    weighing: SomeWeighing
    aggregator: Aggregator
    fusion: type[FusionModel]

    def combiner(self) -> BlockAverage:
        """Return the object that takes a round's replies: the aggregator's, or that of a rule which has its own."""
        others = self.rule.combiner() if self.aggregator.averages else self.aggregator.combiner()
        return Merging(others, self.merges, self.fusion.merge) if self.fusion.merged else others

    def merges(self, name: str) -> bool:
        """Return whether a tensor is merged by the fusion model, and neither trained nor averaged."""
        return name.startswith(FUSION) and name.removeprefix(FUSION) in self.fusion.merged

    def reply_type(self, name: str, config: Config) -> SentType:
        """Return the type in which a site answers with a tensor; merged ones are no updates, so they stay exact."""
        return "int8" if config.federation.updates == "int8" and not self.merges(name) else config.federation.dtype

    def no_updates(self, received: Mapping[str, Tensor], sent: Mapping[str, Tensor]) -> dict[str, str]:
        """Return the merged tensors of a reply that are no updates, by name, with what is wrong with each, if anything.

        They have bounds of their own (`FusionModel.beyond`); every other tensor has the limits of updates.
        """
        found = {}
        for name in filter(self.merges, received):
            problem = self.fusion.beyond(name.removeprefix(FUSION), received[name])
            if problem is not None:
                found[name] = "" if is_as_sent(received[name], sent[name]) else problem
        return found

    @property
    def averages(self) -> bool:
        """Whether the replies are averaged with the weights of their blocks, and used in no other way."""
        return self.aggregator.averages and type(self.rule).combiner is Rule.combiner


@lru_cache(maxsize=64)
def methods_of(config: Config) -> Methods:
    """Return the objective and the rule that ``[method]`` of a config names.

    Raises
    ------
    UserError
        A method, an encoder or a score is unknown, or the choices exclude each other. The error gives the reason and a
        valid choice.
    """
    choices(config.model.encoders.choice)
    _must_name_a_score(config.train.select_score)
    fusion_method, _ = fusions.choose(config.method.fusion)
    objective_method, objective_options = objectives.choose(config.method.objective)
    rule_method, rule_options = rules.choose(config.method.rule)
    objective = objective_method.build(objective_options, config)
    rule = rule_method.build(rule_options, config)
    aggregator_method, aggregator_options = aggregators.choose(config.method.aggregator)
    aggregator = aggregator_method.build(aggregator_options, config)
    if not aggregator.averages:
        _must_leave_replies(aggregator_method.name, rule_method.name, rule)
    if config.federation.encoders not in rule.encoders:
        raise UserError(
            f"method.rule: {rule_method.name} does not go with federation.encoders={config.federation.encoders!r}; "
            f"set it to {' or '.join(map(repr, rule.encoders))}"
        )
    if config.federation.updates == "int8" and rule.broadcasts:
        raise UserError(
            f"federation.updates = 'int8': {rule_method.name} needs exactly what was sent; set it to 'exact'"
        )
    if config.train.ranking > 0 and getattr(fusion_method.build, "ranks", False):
        raise UserError(
            f"train.ranking: {fusion_method.name} ranks more modalities above fewer already; set it to 0, or use the "
            f"method's own option: {fusion_method.signature()}"
        )
    if config.train.shrink > 0 and not getattr(fusion_method.build, "shrinkable", False):
        raise UserError(
            f"train.shrink: groups have no routers of their own in {fusion_method.name}; set it to 0, or choose remind"
        )
    adds = config.model.stays or config.model.baseline != "common"
    if adds and not getattr(fusion_method.build, "takes_alone", True):
        raise UserError(f"{_besides(config)}: {fusion_method.name} has losses of its own; leave it out")
    if config.model.stays and objective.mixes_tokens:
        raise UserError(
            f"{_besides(config)}: {objective_method.name} makes up patients, of whom no hospital knows anything; "
            "leave it out"
        )
    if rule.weighs and objective.weighs:
        raise UserError(
            f"method.rule: {rule_method.name} weighs by risk itself, and so does the objective "
            f"{objective_method.name}; choose the objective erm with it, or a rule that leaves the weights to the "
            "objective, such as fedremind"
        )
    if config.train.select != "last" and not objective.holds_out:
        raise UserError(
            f"train.select: {objective_method.name} trains on validation patients, so that they can choose no round's "
            "model; set train.select = 'last'"
        )
    if rule.personal:
        _must_be_of_the_last_round(config, rule_method.name)
    if config.privacy.mode != "none" and config.train.rich_rounds:
        raise UserError(
            f"train.rich-rounds: with privacy.mode = {config.privacy.mode!r} rounds draw from all patients; set it to 0"
        )
    if config.privacy.mode != "none":
        _must_keep_patients_apart(config, fusion_method, objective_method, rule_method)
    weighing = rule.weighing(objective)
    require_linear(config, rule, weighing, aggregator, bool(fusion_method.build.merged))
    return Methods(objective, rule, weighing, aggregator, fusion_method.build)


def _must_name_a_score(name: str) -> None:
    """Refuse a name that no score has, or a score which cannot compare models of different objectives."""
    if name == TrainConfig.model_fields["select_score"].default:
        return
    from remind.metrics.scores import EVERY  # needs scipy, which prediction does without

    names = [score.name for score in EVERY.values() if score.comparable]
    if name not in names:
        raise UserError(
            f"train.select-score: there is no {name!r}{did_you_mean(name, names)}; there are {', '.join(names)}"
        )


def _must_leave_replies(aggregator: str, name: str, rule: Rule) -> None:
    """Refuse a rule that leaves no replies of several sites to an aggregator."""
    if rule.pooled or not rule.sends:
        why = "there are no replies of several sites to combine"
    elif type(rule).combiner is not Rule.combiner:
        why = "it combines the replies itself"
    else:
        return
    raise UserError(f"method.aggregator: {aggregator} does not go with method.rule = {name!r}: {why}; leave it at mean")


def _must_be_of_the_last_round(config: Config, rule: str) -> None:
    """Refuse settings that change the common model after the rounds: sites get their own of the last round."""
    changed = {
        "train.select": (config.train.select != "last", "'last'"),
        "federation.averaging": (config.federation.averaging > 0, "0"),
        "evaluation.choose-blend": (config.evaluation.choose_blend, "false"),
    }
    for key, (holds, remedy) in changed.items():
        if holds:
            raise UserError(
                f"{key}: under {rule} each hospital has its own model of the last round; set it to {remedy}"
            )


def _must_keep_patients_apart(config: Config, *chosen: Method[Any]) -> None:
    """Refuse methods under which no bound on one patient's gradient bounds what the patient does to what leaves."""
    registries: tuple[Registry[Any], ...] = (fusions, objectives, rules)
    for key, method, registry in zip(("fusion", "objective", "rule"), chosen, registries, strict=True):
        if not says_private(method):
            admitted = sorted(one.name for one in registry.methods() if says_private(one))
            raise UserError(
                f"method.{key}: {method.name} does not go with privacy.mode = {config.privacy.mode!r}: "
                f"{APART[key]}; choose {', '.join(admitted)}"
            )


def says_private(method: Method[Any]) -> bool:
    """Return whether the class itself says that private steps admit it; a base class does not speak for additions."""
    return vars(method.build).get("private") is True


APART = {
    "fusion": "a patient's loss may depend on other patients, or parts of the gradient are not known by patient",
    "objective": "a patient's loss or weight depends on other patients, or on what would leave without noise",
    "rule": "it uses the sites' losses, which do not leave, or takes a site's steps twice",
}


def _besides(config: Config) -> str:
    """Return the setting that adds to a fusion model's logits."""
    if config.model.encoders.alone != "none":
        return "model.encoders.alone"
    return "model.linear" if config.model.linear else "model.baseline"
