"""The output of `remind methods`."""

from textwrap import indent
from typing import Any

from remind.encoders import encoders
from remind.federation.aggregators.base import registry as aggregators
from remind.federation.rules.base import registry as rules
from remind.fusion.base import registry as fusions
from remind.objectives.base import registry as objectives
from remind.registry import Registry

KINDS: tuple[tuple[str, Registry[Any]], ...] = (
    ("fusion", fusions),
    ("objective", objectives),
    ("rule", rules),
    ("aggregator", aggregators),
)

ENCODER = "encoder of "


def listing() -> dict[str, list[dict[str, Any]]]:
    """List the methods by kind: name, one line, paper, year, options with defaults and meaning, the word in full.

    The encoders of each kind of modality are among them, the usual one first.
    """
    found = {kind: [_entry(method) for method in registry.methods()] for kind, registry in KINDS}
    for kind, (usual, registry) in encoders().items():
        entries = [_entry(method) for method in registry.methods()]
        found[f"{ENCODER}{kind}"] = sorted(entries, key=lambda entry: entry["name"] != usual)
    return found


def _entry(method: Any) -> dict[str, Any]:
    defaults = method.options().model_dump()
    options = [
        {"name": name.replace("_", "-"), "default": defaults[name], "meaning": field.description or ""}
        for name, field in method.options.model_fields.items()
    ]
    return {
        "name": method.name,
        "title": method.title,
        "paper": method.paper,
        "year": method.year or None,
        "options": options,
        "in full": method.signature(),
    }


def as_text(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the list for people: what to write, and after it what it means."""
    lines = []
    for kind, methods in found.items():
        kind_of_modality = kind.removeprefix(ENCODER)
        lines += [f"method.{kind}" if kind_of_modality == kind else f"model.encoders.choice, {kind_of_modality}", ""]
        width = max(len(method["name"]) for method in methods)
        for method in methods:
            year = f" ({method['year']})" if method["year"] else ""
            lines.append(f"  {method['name']:{width}}  {method['title']}")
            lines += [f"  {'':{width}}  {method['paper']}{year}"] if method["paper"] else []
            options = [f"{o['name']} = {o['default']!r}: {o['meaning']}" for o in method["options"]]
            lines += [indent("\n".join(options), " " * (width + 6))] if options else []
        lines.append("")
    lines += ['Choose with --run-config \'method.fusion="attention" method.rule="fedprox(mu = 0.1)"\'.', ""]
    return "\n".join(lines)
