"""Which settings go with secure aggregation: those that need nothing of a single site."""

from remind.config import Config
from remind.errors import UserError, several
from remind.federation.rules.base import Rule
from remind.federation.site_weights import Spanning, Within
from remind.methods import Methods, methods_of
from remind.objectives.base import Objective
from remind.objectives.weighting import Proportional, Weighting
from remind.secagg.limits import least_honest


def require_summable(config: Config) -> None:
    """Refuse a run that could not be aggregated securely, before it starts.

    Raises
    ------
    UserError
        With every setting that does not go with ``federation.secure-aggregation``, and the reason.
    """
    if not config.federation.secure_aggregation:
        return
    methods, federation = methods_of(config), config.federation
    found = {
        f"method.rule = {config.method.rule!r}: all patients are at one site": methods.rule.pooled,
        f"method.rule = {config.method.rule!r}: it weighs each site's answer by itself": (
            methods.aggregator.averages and not methods.averages
        ),
        f"method.fusion = {config.method.fusion!r}: the coordinator must see what each site sends, not a sum": (
            bool(methods.fusion.merged)
        ),
        f"method.rule = {config.method.rule!r}: it sends more than the model, and a masked round does not": (
            bool(methods.rule.broadcasts)
        ),
        f"method.aggregator = {config.method.aggregator!r}: it compares answers, and only their sum can be read; take "
        "mean": not methods.aggregator.averages,
        f"method.rule = {config.method.rule!r} with method.objective = {config.method.objective!r}: the weights of "
        "groups or sites follow from each site's own losses; take fedremind, or objective erm": not _sums(methods),
        f"method.objective = {config.method.objective!r}: it weighs validation patients by site": (
            methods.objective.needs_held_out
        ),
        "train.select: it judges each round on validation patients, of whom nothing is sent; set it to 'last'": (
            config.train.select != "last"
        ),
        "dro.risk: losses of validation patients are not sent; set it to 'train'": config.dro.risk != "train",
        "privacy.mode = 'site': each hospital's noise is enough for its answer as it is; set it to 'joint', where they "
        "share the noise of the sum": config.privacy.mode == "site",
        f"method.rule = {config.method.rule!r}: with privacy.mode = 'joint' a round is one step on a sum of gradients; "
        "choose fedremind or fedavg": config.privacy.mode == "joint" and not _one_step(methods),
        "federation.participation: masks are agreed among all sites; set it to 1": federation.participation < 1,
    }
    if problems := [text for text, holds in found.items() if holds]:
        raise several("federation.secure-aggregation lets the coordinator read sums alone, which excludes:", problems)


def require_noise(config: Config, hospitals: int) -> None:
    """Refuse a run of hospitals that share the noise where so many might collude that none is left for sure.

    Raises
    ------
    UserError
        With the number that might.
    """
    privacy = config.privacy
    if privacy.mode == "joint" and least_honest(hospitals, hospitals, privacy.colluding) < 1:
        raise UserError(
            f"privacy.colluding = {privacy.colluding}: among {hospitals} hospitals so many would leave no noise that "
            "the coordinator does not know; take less, or more hospitals"
        )


def _one_step(methods: Methods) -> bool:
    """Return whether a round of the rule is nothing but steps, with all that trains sent."""
    rule = type(methods.rule)
    return rule.work is Rule.work and rule.server_step is Rule.server_step and rule.sends_all()


def _sums(methods: Methods) -> bool:
    """Return whether the weights of patients are the same at all sites, and follow from sums."""
    weighing = methods.weighing
    if isinstance(weighing, Spanning):
        return True
    if type(weighing) is not Within or not isinstance(weighing.between, Proportional):
        return False
    inside = type(weighing.inside)
    return inside.update is Weighting.update and inside.initial in (Objective.initial, Proportional.initial)
