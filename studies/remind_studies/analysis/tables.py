"""The tables of an analysis: the numbers behind its figures, rounded to three digits."""

from dataclasses import dataclass

from remind_studies.analysis.document import Analysis, Gain, ModelAnalysis
from remind_studies.analysis.figures import Groups

NOTHING = "–"


@dataclass(frozen=True)
class Row:
    """A row: its name and its cells; `few` marks a row with few patients."""

    name: str
    cells: tuple[str, ...]
    few: bool = False


@dataclass(frozen=True)
class Table:
    """A table: head of the first column, heads of the others, rows."""

    key: str
    caption: str
    corner: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]


def tables(analysis: Analysis) -> dict[str, Table]:
    """Return every table by its name."""
    groups = Groups.of(analysis)
    return {
        "groups": _groups(analysis, groups),
        "consistency": _consistency(analysis, groups),
        "routing": _routing(analysis, groups),
        "experts": _experts(analysis, groups),
        "value": _value(analysis, groups),
    }


def number(value: float | None) -> str:
    """Format a number with three decimals and a true minus; a dash if there is none."""
    return NOTHING if value is None else f"{value:.3f}".replace("-", "−")


def signed(value: float) -> str:
    """Format as `number` does, with the sign."""
    return f"{value:+.3f}".replace("-", "−")


def interval(gain: Gain | None) -> str:
    """Format a gain with its interval."""
    if gain is None:
        return NOTHING
    if gain.low is None or gain.high is None:
        return signed(gain.gain)
    return f"{signed(gain.gain)} [{signed(gain.low)}, {signed(gain.high)}]"


def _groups(analysis: Analysis, groups: Groups) -> Table:
    facts = {g.mask: g for g in analysis.cohort.groups}
    several = len(analysis.models) > 1
    head = ["training patients", "test patients"]
    for model in analysis.models:
        head += [f"λ at first{_of(model, several)}", f"λ at last{_of(model, several)}"]
    rows = []
    for group, name in zip(groups.masks, groups.names, strict=True):
        cells = [str(facts[group].train), str(facts[group].test)]
        for model in analysis.models:
            found = [w.of[group] for w in model.weights if group in w.of]
            cells += [number(found[0]), number(found[-1])] if found else [NOTHING, NOTHING]
        rows.append(Row(name, tuple(cells)))
    return Table("groups", "Groups: modality combinations; * marks the tail.", "group", tuple(head), tuple(rows))


def _consistency(analysis: Analysis, groups: Groups) -> Table:
    several = len(analysis.models) > 1
    head = [f"drawn, by class ({', '.join(analysis.cohort.classes)})"]
    for model in analysis.models:
        first, last = model.looks[0].rounds, model.looks[-1].rounds
        rounds = (first, last) if last > first else (last,)
        head += [f"after {r} rounds{_of(model, several)}" for r in rounds] + [f"agreement{_of(model, several)}"]
    rows = []
    for group, name in zip(groups.masks, groups.names, strict=True):
        drawn = analysis.models[0].drawn.get(group)
        without = "left out: too few patients" if group in analysis.models[0].left_out else NOTHING
        cells = [", ".join(map(str, drawn)) if drawn else without]
        for model in analysis.models:
            looks = (model.looks[0], model.looks[-1]) if len(model.looks) > 1 else (model.looks[-1],)
            found = [look.consistency.get(group) for look in looks]
            cells += [number(c.score if c else None) for c in found]
            cells.append(number(found[-1].agreement if found[-1] else None))
        rows.append(Row(name, tuple(cells)))
    caption = (
        f"Gradient consistency with {analysis.settings.patients} training patients per group; groups with fewer are "
        "left out. Agreement, at the end: how far a group's gradients agree; near 0 the sign of the score means "
        "little."
    )
    return Table("consistency", caption, "group", tuple(head), tuple(rows))


def _routing(analysis: Analysis, groups: Groups) -> Table:
    several = len(analysis.models) > 1
    head: list[str] = []
    for model in analysis.models:
        head += [f"{what}{_of(model, several)}" for what in ("gate open", "entropy, shared router", "entropy, as used")]
    rows = []
    for group, name in zip(groups.masks, groups.names, strict=True):
        cells: list[str] = []
        for model in analysis.models:
            found = model.looks[-1].routing.get(group)
            values = (found.gate_open, found.shared_entropy, found.entropy) if found else (None, None, None)
            cells += map(number, values)
        rows.append(Row(name, tuple(cells)))
    caption = "How the final model routes each group's training patients; entropies as shares of ln E."
    return Table("routing", caption, "group", tuple(head), tuple(rows))


def _experts(analysis: Analysis, groups: Groups) -> Table:
    found = [(model, model.experts) for model in analysis.models if model.experts is not None]
    rows = []
    for group, name in zip(groups.masks, groups.names, strict=True):
        cells = []
        for _, use in found:
            shares = use.of.get(group, ())
            best = sorted(range(len(shares)), key=lambda e, shares=shares: -shares[e])[: use.top]  # type: ignore[misc]
            said = ", ".join(f"{e + 1} ({100 * shares[e]:.0f} %)" for e in best if shares[e] > 0)
            cells.append(said or NOTHING)
        rows.append(Row(name, tuple(cells)))
    caption = "Experts that are most often among the top ones of a group's patients."
    return Table("experts", caption, "group", tuple(model.name for model, _ in found), tuple(rows))


def _value(analysis: Analysis, groups: Groups) -> Table:
    names: dict[int | None, str] = {None: "all who have it and another"}
    names |= dict(zip(groups.masks, groups.names, strict=True))
    modalities = analysis.cohort.modalities
    order = {k: place for place, k in enumerate((None, *groups.masks))}
    several = len(analysis.models) > 1
    rows = []
    for model in analysis.models:
        for v in sorted(model.modality_value, key=lambda v: (modalities.index(v.modality), order[v.mask])):
            auroc = NOTHING if v.auroc is None else f"{number(v.auroc.seen)} → {number(v.auroc.hidden)}"
            cells = [model.name] if several else []
            cells += [
                v.modality,
                str(v.n),
                NOTHING if v.positives is None else str(v.positives),
                auroc,
                interval(v.auroc),
                interval(v.accuracy),
                interval(v.loss),
                {None: "", True: "yes", False: "no"}[v.known],
            ]
            rows.append(Row(names[v.mask], tuple(cells), v.few))
    head = (
        *(("model",) if several else ()),
        "without",
        "test patients",
        "positives",
        "AUROC with → without",
        "AUROC gained",
        "accuracy gained",
        "log loss saved",
        "smaller group trained on",
    )
    caption = (
        "Every group with one of its modalities hidden, with 95 % intervals (paired bootstrap over persons). In grey "
        f"italics: fewer than {analysis.settings.few} patients."
    )
    return Table("value", caption, "group", head, tuple(rows))


def _of(model: ModelAnalysis, several: bool) -> str:
    return f", {model.name}" if several else ""
