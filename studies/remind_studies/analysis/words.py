"""Summarise an analysis in a few sentences, from its numbers alone."""

from statistics import fmean

from remind_studies.analysis.document import Analysis, ModalityValue, ModelAnalysis
from remind_studies.analysis.tables import number, signed


def sentences(analysis: Analysis) -> list[str]:
    """Return the main facts of an analysis as sentences, without a judgement."""
    several = len(analysis.models) > 1
    found = []
    for model in analysis.models:
        said = [*_consistency(analysis, model), *_experts(model), *_gate(analysis, model), *_weights(analysis, model)]
        found += [_begun(model, sentence, several) for sentence in said]
    return [*found, _begun(analysis.models[0], _value(analysis, analysis.models[0]), several)]


def _begun(model: ModelAnalysis, sentence: str, several: bool) -> str:
    """Begin the sentence with the model's name, where there are several."""
    return f"{model.name}: {sentence}" if several else sentence[0].upper() + sentence[1:]


def _consistency(analysis: Analysis, model: ModelAnalysis) -> list[str]:
    tail = {g.mask for g in analysis.cohort.groups if g.tail}
    scores = {k: c.score for k, c in model.looks[-1].consistency.items() if c.score is not None}
    means = []
    for part, chosen in (
        ("head", [abs(s) for k, s in scores.items() if k not in tail]),
        ("tail", [abs(s) for k, s in scores.items() if k in tail]),
    ):
        if chosen:
            counted = "1 group" if len(chosen) == 1 else f"{len(chosen)} groups"
            means.append(f"{number(fmean(chosen))} in the {part} ({counted})")
    if not means:
        return []
    return [
        f"|cos| of a group's gradients with those of {analysis.settings.compared_with}, at the end: {', '.join(means)}."
    ]


def _experts(model: ModelAnalysis) -> list[str]:
    if model.experts is None:
        return ["this model has no experts."]
    if model.experts.apart is None:
        return []
    top = model.experts.top
    return [f"two groups differ, on average, in {100 * model.experts.apart:.0f} % of their top {top} experts."]


def _gate(analysis: Analysis, model: ModelAnalysis) -> list[str]:
    if model.gate is None:
        return ["this model has no gate."]
    routed = [r for r in model.looks[-1].routing.values() if r.gate_open is not None]
    if not routed:
        return []
    share = sum(r.n * (r.gate_open or 0.0) for r in routed) / sum(r.n for r in routed)
    among = " of the groups shown" if analysis.withheld_groups else ""
    return [f"the groups' own routers are used for {100 * share:.0f} % of the training patients{among}."]


def _weights(analysis: Analysis, model: ModelAnalysis) -> list[str]:
    names = {g.mask: g.name for g in analysis.cohort.groups}
    if len(model.weights) < 2:
        return []
    first, last = model.weights[0].of, model.weights[-1].of
    both = [k for k in last if k in first]
    if not both:
        return []
    moved = max(both, key=lambda k: abs(last[k] - first[k]))
    return [
        f"the weight λ that moved most is that of {names[moved]}: from {number(first[moved])} to {number(last[moved])}."
    ]


def _value(analysis: Analysis, model: ModelAnalysis) -> str:
    """Name the modalities whose gain among all patients can be told from 0."""
    told: list[tuple[float, str]] = []
    everyone: list[ModalityValue] = [v for v in model.modality_value if v.mask is None]
    for v in everyone:
        gain = v.auroc or v.loss
        unit = "AUROC" if v.auroc else "log loss"
        if not v.few and gain.low is not None and gain.high is not None and (gain.low > 0 or gain.high < 0):
            text = f"{v.modality} ({unit} {signed(gain.gain)}, {signed(gain.low)} to {signed(gain.high)})"
            told.append((gain.gain, text))
    if not everyone and (analysis.withheld_groups or analysis.withheld_rows):
        return "the value of modalities is not shown: there are too few test patients."
    if not everyone:
        return "no test patient has two modalities, so none can be hidden."
    if not told:
        return "these test patients do not show for any modality whether hiding it matters."
    listed = ", ".join(text for _, text in sorted(told, reverse=True))
    return f"over all test patients who have them and another, hiding these modalities matters: {listed}."
