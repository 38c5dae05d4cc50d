"""The model card (README.md) of an exported run, by the conventions of Hugging Face: YAML front matter and text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from remind.config import PrivacyConfig
from remind.export.facts import SHOWN, GroupFacts, RunFacts
from remind.metrics.calibration import Calibration
from remind.metrics.scores import SCORES
from remind.prediction.bundle import Bundle
from remind.quoting import quoted

NONE = "–"
LIBRARY = "federated-remind"
HUB_NAMES = {"auroc": "roc_auc", "macro_f1": "f1"}  # metrics that have another name on the hub


@dataclass(frozen=True)
class Wishes:
    """The caller's choices for an export.

    Attributes
    ----------
    minimum
        Numbers about fewer patients than this are suppressed.
    site
        The hospital whose encoders are included; empty: none.
    ranges
        Whether the ranges of that hospital's training values are included.
    hospitals
        Hospitals that agreed to be named; `remind.export.facts.agreed_names` adds those whose policy agrees.
    licence
        SPDX identifier in lower case, as on the hub.
    intended_use
        Text for the card; empty: a cautious default.
    """

    minimum: int
    site: str = ""
    ranges: bool = False
    hospitals: tuple[str, ...] = ()
    licence: str = "unknown"
    intended_use: str = ""


def card(
    bundle: Bundle,
    facts: RunFacts,
    wishes: Wishes,
    contents: Mapping[str, str],
    lacking: Sequence[str],
    not_exported: str,
    checked: Sequence[str],
) -> str:
    """Return the text of README.md.

    Parameters
    ----------
    bundle, facts, wishes
        The model, the publishable facts of its run, and the caller's choices.
    contents
        File → description.
    lacking
        Modalities whose encoders are not included.
    not_exported
        Why there is no program of the fusion model; empty if there is one.
    checked
        Results of comparing the programs with the model.
    """
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False)
    template = environment.from_string((files("remind.export") / "card.jinja").read_text(encoding="utf-8"))
    schema = bundle.schema
    text = template.render(
        title=_plain(f"{schema.name}, federated REMIND"),
        schema=schema,
        classes=_plain(", ".join(schema.classes)),
        modalities=_plain(", ".join(f"{m.name} ({m.kind})" for m in schema.modalities)),
        config=bundle.config,
        bundle=bundle,
        facts=facts,
        hospitals=[_plain(name) for name in wishes.hospitals],
        site=_plain(wishes.site) if wishes.site in wishes.hospitals else "one hospital" if wishes.site else "",
        intended_use=wishes.intended_use or _usual_use(bundle),
        files=contents.items(),
        lacking=lacking,
        not_exported=not_exported,
        columns=[SCORES[name].title for name in SHOWN],
        rows=[facts.all, *facts.groups],
        number=lambda n: NONE if n is None else n,
        cells=_cells,
        calibration=_calibration(bundle.calibration),
        checked=checked,
        privacy=_privacy(bundle.config.privacy),
    )
    return f"---\n{_front(bundle, facts, wishes)}\n---\n\n{text}"


def _privacy(privacy: PrivacyConfig) -> str:
    """Return which guarantee the run gave to its training patients (docs/privacy.md)."""
    if privacy.mode == "none":
        return (
            "**none**. The model was trained without noise, so no ε can be stated, and the weights may disclose "
            "information about training patients."
        )
    how = {
        "site": "each hospital adds all of the noise to its own steps",
        "joint": "the hospitals share the noise, and it holds if all of them but "
        f"{privacy.colluding} keep their shares secret",
    }[privacy.mode]
    return (
        f"**ε = {privacy.epsilon:g} at most, at δ = {privacy.delta:g}**, for adding or removing one patient "
        f"(`privacy.mode = {privacy.mode}`: {how}). It covers all that left a hospital in the training of this model. "
        "It does not hold for a simulation, whose noise follows from the run's seed."
    )


def _front(bundle: Bundle, facts: RunFacts, wishes: Wishes) -> str:
    results = [
        EvalResult(
            task_type="tabular-classification",
            dataset_type=_slug(bundle.schema.name),
            dataset_name=_plain(bundle.schema.name),
            dataset_split="test",
            metric_type=HUB_NAMES.get(name, name),
            metric_name=SCORES[name].title,
            metric_value=round(value, 4),
        )
        for name, value in facts.all.scores.items()
    ]
    tags = ["federated-learning", "multimodal", "missing-modalities", "medical", *sorted(_kinds(bundle))]
    front: dict[str, Any] = {"license": wishes.licence, "library_name": LIBRARY, "tags": tags}
    if results:
        front |= {"model_name": _plain(bundle.schema.name), "eval_results": results}
    return str(ModelCardData(**front).to_yaml())


def _kinds(bundle: Bundle) -> set[str]:
    return {modality.kind for modality in bundle.schema.modalities}


def _usual_use(bundle: Bundle) -> str:
    what = _plain(" or ".join(bundle.schema.classes))
    return (
        f"Research on, and support of, the decision between {what} for patients like those of the cohort "
        f"{_plain(bundle.schema.name)}, at hospitals that measured it on their own patients first."
    )


def _cells(row: GroupFacts) -> list[str]:
    return [_cell(row, name) for name in SHOWN]


def _cell(row: GroupFacts, name: str) -> str:
    value = row.scores.get(name)
    if value is None:
        return NONE
    ends = row.intervals.get(name)
    return f"{value:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")


def _calibration(calibration: Calibration | None) -> str:
    if calibration is None:
        return "None: the run has no `calibration.json`. Probabilities are raw and may be over-confident."
    own = f", {len(calibration.group_scaling)} groups have their own" if calibration.group_scaling else ""
    point = f" The decision is that of the operating point `{calibration.wanted}`." if calibration.wanted else ""
    return (
        f"Method: {calibration.method}{own}, fitted on validation patients of the hospitals, for the model after round "
        f"{calibration.round}.{point}"
    )


def _plain(text: str) -> str:
    """Return the name without characters that would change the page: line breaks, cell borders, HTML."""
    return quoted(text).translate(str.maketrans("|<>`", "/()'"))


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-") or "cohort"
