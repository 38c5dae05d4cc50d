"""Parse the methods of a study: ``softmoe, groupdro, fedavg, remind+cvar(alpha = 0.1)+lg``."""

from pathlib import Path

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.rules.base import registry as rules
from remind.fusion.base import registry as fusions
from remind.methods import methods_of
from remind.objectives.base import registry as objectives
from remind.suggest import did_you_mean
from remind_server.presets import PRESET_SUFFIX, preset_files
from remind_server.simulation.flwr_pairs import flatten, read_toml
from remind_studies.study import Arm, Settings

PLAIN_FUSION, PLAIN_OBJECTIVE, PLAIN_RULE, SPANNING_RULE = "softmoe", "erm", "lg", "fedremind"
REMIND: dict[str, Scalar] = {
    "method.fusion": "remind",
    "method.objective": "groupdro",
    "method.rule": SPANNING_RULE,
}
LOCAL, POOLED = "local", "pooled"
YARDSTICKS = (LOCAL, POOLED)  # federated rules that are none: each hospital alone, all patients in one place


def read_arms(text: str, common: Settings) -> tuple[Arm, ...]:
    """The methods of a comma-separated list.

    A method is made of parts joined by ``+``: the name of a fusion model, an objective, a federated rule, each perhaps
    with options, a preset such as ``paper``, or a TOML file of settings. What it does not name is plain: Soft MoE, mean
    loss (erm), shared fusion with encoders that stay (lg); with an objective that weighs groups, the rule under which
    these span sites (fedremind). Under the rules local and pooled it is a yardstick, shown and never ranked. ``remind``
    is what a run without settings is: REMIND at its defaults. ``label: method`` names it.

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


def anchors(arm: Arm) -> tuple[Arm, Arm]:
    """The lower and the upper anchor of a method: the same at each hospital alone, and on all patients in one place."""
    settings = {**arm.settings, "federation.encoders": "local"}
    return (
        Arm(name=f"{LOCAL} {arm.name}", settings={**settings, "method.rule": LOCAL}, anchor=True),
        Arm(name=f"{POOLED} {arm.name}", settings={**settings, "method.rule": POOLED}, anchor=True),
    )


def _arm(text: str, common: Settings) -> Arm:
    label, colon, method = text.partition(":")
    name, parts = (label.strip(), method) if colon else (text.strip(), text)
    settings: dict[str, Scalar] = {}
    for part in _split(parts, "+"):
        settings |= _part(part)
    settings = _completed(settings)
    methods_of(Config.from_flat({**common, **settings, "seed": 0}, f"method {name!r}"))
    rule = rules.choose(str(settings["method.rule"]))[0].name
    name = Path(name).stem if name.endswith(PRESET_SUFFIX) else name
    return Arm(name=name, settings=settings, anchor=rule in YARDSTICKS)


def _part(text: str) -> dict[str, Scalar]:
    """Settings that a part of a method stands for."""
    if text.endswith(PRESET_SUFFIX):
        return _file(Path(text).expanduser())
    name = text.partition("(")[0].strip()
    if name == "remind":
        return REMIND | {"method.fusion": text}
    if text in (presets := preset_files()):
        return REMIND | _file(presets[text])
    known = list(presets)
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
    """What is not named is plain; a rule that needs encoders to travel gets them."""
    objective = str(settings.get("method.objective", PLAIN_OBJECTIVE))
    weighs = objectives.choose(objective)[0].build.weighs
    rule = str(settings.get("method.rule", SPANNING_RULE if weighs else PLAIN_RULE))
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
    """Parts between the separators that do not stand in brackets or quotes."""
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        depth += 0 if quoted else (character == "(") - (character == ")")
        if character == by and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
