"""A artificial study of three methods, tabulated."""

from dataclasses import replace

from remind.config import SyntheticConfig
from remind.data.synthetic.generate import generate
from remind_studies.results import Panel as PanelTable
from remind_studies.results import Results, Run, StudyMade, results
from remind_studies.study import Arm, Panel
from tests.builders.study_runs import draw

COHORT = generate(SyntheticConfig(patients=60), 0)
PATIENTS = draw(0, 500)
SKILLS = {"plain": 0.5, "remind": 1.5, "pooled remind": 2.0}
ARMS = tuple(Arm(name=name, anchor=name.startswith("pooled")) for name in SKILLS)
PANEL = Panel(
    name="compare", title="Three methods", arms=ARMS, reference="remind", measures=("available:0", "absent:0")
)
MADE = StudyMade(
    command="remind bench compare",
    date="2026-11-21 20:00",
    seconds=12.5,
    trained=40.0,
    machine="2 × a processor",
    python="3.11.7",
    torch="2.15.0",
    version="0.1.0",
    commit="",
)


def study(runs, panels=(PANEL,), seeds=range(10), folds=5, cohort=COHORT, **changes) -> Results:
    fields = {
        "study": "compare",
        "title": "methods side by side",
        "metric": "auroc",
        "tuning": {"budget": 0, "text": "None.", "chosen": {}},
        "common": {"train.lr": 0.001},
        "missing": {},
        "made": MADE,
    }
    return results(cohort=cohort, panels=panels, runs=runs, seeds=seeds, folds=folds, **{**fields, **changes})


def summary(table: PanelTable, arm: str, name: str, metric: str = "auroc"):
    (found,) = (s for s in table.summaries if (s.arm, s.measure, s.metric) == (arm, name, metric))
    return found


def examined(run: Run, test) -> Run:
    """The run with another test."""
    (one,) = run.result.outcomes
    changed = one.model_copy(update={"test": test})
    return replace(run, result=run.result.model_copy(update={"outcomes": (changed,)}))
