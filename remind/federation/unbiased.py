"""Which methods go with ``federation.estimate = "unbiased"``: those whose steps are linear in what a round measures."""

from remind.config import Config
from remind.errors import UserError, several
from remind.federation.aggregators.base import Aggregator
from remind.federation.rules.base import Rule
from remind.federation.site_weights import SomeWeighing, Weighing


def require_linear(
    config: Config, rule: Rule, weighing: SomeWeighing, aggregator: Aggregator, merges: bool = False
) -> None:
    """Refuse an unbiased estimate for steps that are not linear: of these the mean over draws is another step.

    `merges` says whether the fusion model has parameters that are not averaged.

    Raises
    ------
    UserError
        With every setting that does not go with it, and the reason.
    """
    if not aggregator.averages and config.federation.draw == "share":
        raise UserError(
            f"federation.draw = 'share' does not go with method.aggregator = {config.method.aggregator!r}: there each "
            "hospital has one vote, and large ones would be asked more often; set it to 'uniform'"
        )
    own, dro = type(rule), config.dro
    more = own.server_round is not Rule.server_round
    if more and config.federation.draw == "share":
        raise UserError(
            f"federation.draw = 'share' does not go with method.rule = {config.method.rule!r}: the coordinator's step "
            "needs the answers with their plain weights; set it to 'uniform'"
        )
    if config.federation.estimate != "unbiased":
        return
    moving = [one for one in weighing.weightings if not one.fixed]
    by_rule = [one for one in moving if isinstance(one, Rule)]
    curved = [one for one in moving if not one.linear]
    found = {
        f"method.aggregator = {config.method.aggregator!r}: its result is no sum over hospitals; take mean": (
            not aggregator.averages
        ),
        f"method.fusion = {config.method.fusion!r}: what hospitals send of it is no sum": merges,
        f"method.rule = {config.method.rule!r}: it divides one sum over hospitals by another": (
            own.combiner is not Rule.combiner
        ),
        f"method.rule = {config.method.rule!r}: the coordinator's step is not linear in the average": (
            (more or own.server_step is not Rule.server_step) and not rule.linear_step
        ),
        f"method.rule = {config.method.rule!r}: its weights are not linear in the losses": (
            any(one in curved for one in by_rule) or type(weighing).compare is not Weighing.compare
        ),
        f"method.objective = {config.method.objective!r}: its weights are not linear in the losses; take groupdro, or "
        "weights that do not move": any(one not in by_rule for one in curved),
        "dro.regret: the lowest loss seen depends on who was asked; set it to false": bool(moving) and dro.regret,
        f"dro.floor = {dro.floor:g}: a lower bound is not linear in the losses; set it to 0": bool(moving)
        and dro.floor > 0,
        "dro.risk = 'validation': how many validation patients hospitals have that were not asked is not known; set it "
        "to 'train'": bool(moving) and dro.risk == "validation",
        f"federation.quorum = {config.federation.quorum:g}: who answers first is not drawn; set it to 1": (
            config.federation.quorum < 1
        ),
    }
    if problems := [text for text, holds in found.items() if holds]:
        raise several("federation.estimate = 'unbiased' cannot be kept; set it to 'ratio', or change:", problems)
