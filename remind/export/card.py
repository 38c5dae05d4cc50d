"""The model card (README.md) of an exported run, by the conventions of Hugging Face: YAML front matter and text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from remind.export.facts import SHOWN, GroupFacts, RunFacts
from remind.metrics.calibration import Calibration
from remind.metrics.scores import SCORES
from remind.prediction.bundle import Bundle
from remind.quoting import quoted

NONE = "–"
LIBRARY = "federated-remind"
HUB_NAMES = {"auroc": "roc_auc", "macro_f1": "f1"}  # where the hub's name of a metric differs from ours


@dataclass(frozen=True)
class Wishes:
    """What the caller of an export decides.

    Attributes
    ----------
    minimum
        Patients below which numbers are suppressed.
    site
        The hospital whose encoders are included; empty: none.
    ranges
        Whether the ranges of that hospital's training values are included.
    hospitals
        Hospitals that agreed to be named; `remind.export.facts.agreed_names` adds those that said so by their policy.
    licence
        SPDX identifier in lower case, as the hub has it.
    intended_use
        Empty: a careful default.
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
        The model, what may be said of its run, and what the caller decides.
    contents
        File → what it is.
    lacking
        Modalities whose encoders are not included.
    not_exported
        Why there is no program of the fusion model.
    checked
        What was measured of the programs.
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
    )
    return f"---\n{_front(bundle, facts, wishes)}\n---\n\n{text}"


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
        return "None: the run has no `calibration.json`. Probabilities are the model's own and may be over-confident."
    own = f", {len(calibration.group_scaling)} groups with one of their own" if calibration.group_scaling else ""
    point = f" The decision is that of the operating point `{calibration.wanted}`." if calibration.wanted else ""
    return (
        f"Method: {calibration.method}{own}, fitted on validation patients of the hospitals, for the model after round "
        f"{calibration.round}.{point}"
    )


def _plain(text: str) -> str:
    """Return a name that cannot change the page: no line break, no cell border, no HTML."""
    return quoted(text).translate(str.maketrans("|<>`", "/()'"))


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-") or "cohort"
