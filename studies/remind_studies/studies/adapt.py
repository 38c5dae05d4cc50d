"""Study `adapt`: each hospital is left out in turn, and adapts the model with an increasing number of patients."""

from typing import Annotated

from pydantic import Field
from typing_extensions import override

from remind.adaptation.settings import FEWEST
from remind.config import Scalar
from remind.errors import UserError
from remind.registry import Options
from remind_studies.cells.adapt import ADAPTED, ALL, SEPARATOR, label
from remind_studies.cells.unseen import refuse_what_does_not_travel
from remind_studies.studies.variants import REMIND, config_of, listed, require_models
from remind_studies.study import Panel, Request, Study, registry
from remind_studies.yardsticks.base import registry as yardsticks

SHARED = ("frozen", "head", "tuned")


class AdaptOptions(Options):
    """Numbers of the hospital's patients, parts of the model that train, and yardsticks."""

    patients: str = Field("10, 20, 50, 100, all", description="numbers of the hospital's patients, test patients aside")
    shared: str = Field("frozen, tuned", description="part of the initial model that trains: frozen, head, tuned")
    yardsticks: str = Field("boosting, logistic", description="yardsticks at the hospital alone; may be empty")
    rounds: Annotated[int, Field(ge=0)] = Field(0, description="rounds of adaptation; 0: the default")


@registry.register(
    "adapt",
    title="each hospital left out in turn, which then adapts the others' model with few or many patients",
    paper="beyond the paper",
    year=2026,
    options=AdaptOptions,
)
class AdaptStudy(Study):
    """A panel per method and number of patients; the reference is the adapted model with the first value of `shared`.

    All panels of a method share their cells: the other hospitals are trained once per seed and hospital.
    """

    methods, seeds = REMIND, 5
    options: AdaptOptions
    classes_only = "a hospital adapts models of classes"

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        require_models(request, "adapt")
        sites = request.clients or len(set(request.cohort.site_N.tolist() if request.cohort.site_N is not None else []))
        if sites < 2:
            raise UserError("adapt: with one hospital left out, no other would train; give a cohort with two or more")
        numbers = listed(self.options.patients, _number, "patients")
        if few := [n for n in numbers if n != ALL and n < FEWEST]:
            raise UserError(f"patients: {few[0]} are too few to adapt to; at least {FEWEST} are needed")
        shared = listed(self.options.shared, str, "shared")
        if unknown := [name for name in shared if name not in SHARED]:
            raise UserError(f"shared: there is no {unknown[0]!r}; there are {', '.join(SHARED)}")
        beside = listed(self.options.yardsticks, str, "yardsticks") if self.options.yardsticks else ()
        for name in beside:
            if yardsticks.choose(name)[0].build.federated:
                raise UserError(f"yardsticks: {name} is a federation's; name yardsticks of a hospital alone")
        for arm in request.arms:
            refuse_what_does_not_travel(config_of(request, arm))
        options: dict[str, Scalar] = {
            "numbers": ",".join(map(str, numbers)),
            "shared": ",".join(shared),
            "yardsticks": ",".join(beside),
            "rounds": self.options.rounds,
        }
        return tuple(
            Panel(
                name=f"{arm.name}, {label(n)} patients" if len(request.arms) > 1 else f"{label(n)} patients",
                title=f"{arm.name} at hospitals that were left out, with {label(n)} of their patients",
                arms=(arm,),
                options=options,
                clients=request.clients,
                runner="adapt",
                reference=f"{ADAPTED}, {shared[0]}",
                models=f"{label(n)}{SEPARATOR}",
                parts=tuple({"out": i} for i in range(sites)),
            )
            for arm in request.arms
            for n in numbers
        )


def _number(text: str) -> int:
    return ALL if text == "all" else int(text)
