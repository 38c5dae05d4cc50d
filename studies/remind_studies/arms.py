"""Parse the methods of a study: ``softmoe, groupdro, fedavg, remind+cvar(alpha = 0.1)+lg``."""

from pathlib import Path

from remind.config import Config, Scalar
from remind.config_pairs import flatten, read_toml
from remind.errors import UserError
from remind.federation.rules.base import registry as rules
from remind.fusion.base import registry as fusions
from remind.methods import methods_of
from remind.objectives.base import registry as objectives
from remind.presets import PRESET_SUFFIX, preset_files
from remind.suggest import did_you_mean
from remind_studies.cells.yardstick import FEDERATED, LEARNER, LOCAL, PLACE, POOLED, RUNNER
from remind_studies.study import Arm, Settings
from remind_studies.yardsticks.base import registry as yardsticks

PLAIN_FUSION, PLAIN_OBJECTIVE, PLAIN_RULE, SPANNING_RULE = "softmoe", "erm", "lg", "fedremind"
ONE_SPACE_RULE = "fedavg"  # of fusion models whose paper averages the encoders (`FusionModel.one_space`)
REMIND: dict[str, Scalar] = {
    "method.fusion": "remind",
    "method.objective": "groupdro",
    "method.rule": SPANNING_RULE,
}
YARDSTICKS = PLACES = (LOCAL, POOLED)  # federated rules that are none: each hospital alone, all patients in one place


def read_arms(text: str, common: Settings) -> tuple[Arm, ...]:
    """Read the methods of a comma-separated list.

    A method is made of parts joined by ``+``: the name of a fusion model, an objective, a federated rule, each perhaps
    with options, a preset such as ``paper``, or a TOML file of settings. What it does not name is plain: Soft MoE, mean
    loss (erm), shared fusion with encoders that stay (lg), or averaged ones (fedavg) for a fusion model whose paper
    averages them; with an objective that weighs groups, the rule under which these span sites (fedremind). Under the
    rules local and pooled it is a yardstick, shown and never ranked. ``remind`` is what a run without settings is:
    REMIND at its defaults. ``boosting`` and the like (`remind_studies.yardsticks`) are yardsticks of each hospital
    alone, with ``+pooled`` of all patients in one place; those that hospitals train together are methods.
    ``label: method`` names it.

    Raises
    ------
    UserError
        A part that is nothing known, parts that do not go together, or two methods of one name.
    """
    arms = tuple(_arm(part, common) for part in _split(text, ","))
    if not arms:
        raise UserError("--methods: name at least one; `remind methods` lists them")
    names = [arm.name for arm in arms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"--methods: {twice[0]!r} stands there twice; give one of them a name: 'name: {twice[0]}'")
    return arms


def anchored(arms: tuple[Arm, ...], main: Arm, *, yardsticks: bool = True) -> tuple[Arm, ...]:
    """Add what stands beside the arms: the main method and every yardstick at each hospital alone and pooled.

    Parameters
    ----------
    yardsticks
        Whether these can predict the outcome (`Request.yardsticks`).
    """
    names, beside = {arm.name for arm in arms}, all_yardsticks() if yardsticks else ()
    return (*arms, *(arm for arm in (*anchors(main), *beside) if arm.name not in names))


def anchors(arm: Arm) -> tuple[Arm, ...]:
    """Return the lower and the upper anchor of a method: at each hospital alone, and on all patients in one place.

    A yardstick has none of its own.
    """
    if arm.runner:
        return ()
    settings = {**arm.settings, "federation.encoders": "local"}
    return tuple(
        Arm(name=f"{place} {arm.name}", settings={**settings, "method.rule": place}, anchor=True) for place in PLACES
    )


def all_yardsticks() -> tuple[Arm, ...]:
    """List every yardstick in every place: boosted trees and logistic regression alone and pooled, federated trees."""
    return tuple(yardstick(method.name, place) for method in yardsticks.methods() for place in _places(method.name))


def yardstick(method: str, place: str, name: str = "") -> Arm:
    """Return a yardstick at each hospital alone, or on all patients in one place, or in a federation.

    A federation competes with the methods wherever it is named; beside them it is shown as the others are.
    """
    options: dict[str, Scalar] = {LEARNER: method, PLACE: place}
    named = name or (method if place == FEDERATED else f"{place} {method}")
    return Arm(name=named, options=options, anchor=True, runner=RUNNER)


def _arm(text: str, common: Settings) -> Arm:
    label, colon, method = text.partition(":")
    name, parts = (label.strip(), method) if colon else (text.strip(), text)
    if (found := _named_yardstick(_split(parts, "+"), name)) is not None:
        return found
    settings: dict[str, Scalar] = {}
    for part in _split(parts, "+"):
        settings |= _part(part)
    settings = _completed(settings)
    methods_of(Config.from_flat({**common, **settings, "seed": 0}, f"method {name!r}"))
    rule = rules.choose(str(settings["method.rule"]))[0].name
    name = Path(name).stem if name.endswith(PRESET_SUFFIX) else name
    return Arm(name=name, settings=settings, anchor=rule in YARDSTICKS)


def _named_yardstick(parts: list[str], name: str) -> Arm | None:
    """Return the yardstick that the parts name; None where the first part is none.

    Raises
    ------
    UserError
        Another place than those where it can be.
    """
    if parts[0].partition("(")[0].strip() not in [method.name for method in yardsticks.methods()]:
        return None
    possible = _places(parts[0])
    place = parts[1] if len(parts) > 1 else possible[0]
    if len(parts) > 2 or place not in possible:
        ways = " or ".join(parts[0] if way == FEDERATED else f"{parts[0]}+{way}" for way in possible)
        raise UserError(f"--methods: {'+'.join(parts)!r}: write {ways}")
    arm = yardstick(parts[0], place, "" if name == parts[0] and place != FEDERATED else name)
    return arm.model_copy(update={"anchor": place != FEDERATED})


def _places(method: str) -> tuple[str, ...]:
    """Return the places where a yardstick can be."""
    return (FEDERATED,) if yardsticks.choose(method)[0].build.federated else PLACES


def _part(text: str) -> dict[str, Scalar]:
    """Return the settings that a part of a method stands for."""
    if text.endswith(PRESET_SUFFIX):
        return _file(Path(text).expanduser())
    name = text.partition("(")[0].strip()
    if name == "remind":
        return REMIND | {"method.fusion": text}
    if text in (presets := preset_files()):
        return REMIND | _file(presets[text])
    known = [*presets, *(method.name for method in yardsticks.methods())]
    for key, registry in (("fusion", fusions), ("objective", objectives), ("rule", rules)):
        names = [method.name for method in registry.methods()]
        if name in names:
            registry.choose(text)
            return {f"method.{key}": text}
        known += names
    raise UserError(
        f"--methods: there is no {text!r}{did_you_mean(name, known)}; `remind methods` lists fusion models, objectives "
        f"and rules; presets are {', '.join(presets)}"
    )


def _completed(settings: dict[str, Scalar]) -> dict[str, Scalar]:
    """Complete the settings: what is not named is plain; a rule that needs encoders to travel gets them."""
    objective = str(settings.get("method.objective", PLAIN_OBJECTIVE))
    weighs = objectives.choose(objective)[0].build.weighs
    fusion = str(settings.get("method.fusion", PLAIN_FUSION))
    plain_rule = ONE_SPACE_RULE if fusions.choose(fusion)[0].build.one_space else PLAIN_RULE
    rule = str(settings.get("method.rule", SPANNING_RULE if weighs else plain_rule))
    plain: dict[str, Scalar] = {
        "method.fusion": PLAIN_FUSION,
        "method.objective": objective,
        "method.rule": rule,
    }
    encoders = rules.choose(rule)[0].build.encoders
    if "local" not in encoders:
        plain["federation.encoders"] = encoders[0]
    return plain | settings


def _file(path: Path) -> dict[str, Scalar]:
    values = flatten(read_toml(path, "--methods"), str(path))
    return {key.replace("_", "-"): value for key, value in values.items() if key != "seed"}


def _split(text: str, by: str) -> list[str]:
    """Split into the parts between the separators that do not stand in brackets or quotes."""
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        depth += 0 if quoted else (character == "(") - (character == ")")
        if character == by and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
