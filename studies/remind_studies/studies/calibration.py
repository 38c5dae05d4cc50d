"""Study `calibration`: probabilities of test patients, raw and calibrated on validation patients."""

from typing_extensions import override

from remind.errors import UserError
from remind.methods import methods_of
from remind.registry import Options
from remind_studies.cells.calibration import RAW
from remind_studies.studies.variants import REMIND, config_of, require_models
from remind_studies.study import Panel, Request, Study, registry


@registry.register(
    "calibration",
    title="probabilities raw, with a temperature, and with slope and bias fitted on validation patients",
    paper="Guo et al., On calibration of modern neural networks, ICML 2017",
    year=2017,
    options=Options,
)
class CalibrationStudy(Study):
    """A panel per method; its rows are the raw and the calibrated model, and the reference is the raw one.

    Calibration does not change the AUROC within a group, so use ``--metric ece``, ``log_loss`` or ``brier``.
    """

    methods = REMIND
    classes_only = "calibrated are probabilities of two classes"

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        require_models(request, "calibration")
        if (classes := len(request.cohort.schema.classes)) != 2:
            raise UserError(f"calibration: the study needs two classes, and the cohort has {classes}")
        for arm in request.arms:
            chosen = methods_of(config_of(request, arm))
            if chosen.rule.pooled or not chosen.objective.holds_out:
                raise UserError(
                    f"calibration: {arm.name} has no validation patients that it does not train on; name a "
                    "federated method whose objective does not train on them"
                )
        return tuple(
            Panel(
                name=arm.name,
                title=f"{arm.name}, raw and calibrated",
                arms=(arm,),
                clients=request.clients,
                runner="calibration",
                reference=RAW,
            )
            for arm in request.arms
        )
