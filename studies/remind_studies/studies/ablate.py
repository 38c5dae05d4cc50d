"""Study `ablate`: the contribution of each part of REMIND (the paper's Table 4)."""

from typing_extensions import override

from remind.config import Config, Scalar
from remind.fusion.base import registry as fusions
from remind_studies.arms import anchored
from remind_studies.studies.variants import REMIND, beside, config_of, remind_of, with_options
from remind_studies.study import Arm, Panel, Request, Study, registry

OFF: dict[str, tuple[str, Scalar]] = {  # what is not the paper's, by name: its key, and the value that leaves it out
    "what hospitals know alone": ("model.encoders.alone", "none"),
    "the shared linear model": ("model.linear", False),
    "the shared projection": ("model.projection", False),
    "prototypes": ("model.prototypes", 0.0),
    "learning without labels": ("model.encoders.pretraining-rounds", 0),
    "the anchor of encoders": ("train.anchor", 0.0),
    "the mean over rounds": ("federation.averaging", 0.0),
    "shrinking": ("train.shrink", 0.0),
    "quantiles": ("model.encoders.numbers", "standard"),
    "periodic features": ("model.encoders.periodic", 0),
    "attention between columns": ("model.encoders.table", "patches"),
    "the set of observations": ("model.encoders.series", "items"),
}
OFF_FUSION: dict[str, tuple[str, Scalar]] = {
    "composed routers": ("compose", False),
    "low rank": ("rank", 0),
    "modality dropout": ("modality_dropout", 0.0),
}


@registry.register("ablate", title="REMIND without each of its parts", paper="Table 4", year=2026)
class Ablate(Study):
    """One panel: REMIND, and what is left of it.

    Without DRO every patient weighs alike. Without expert specialisation no Φ_k is ever used, which is Soft MoE under
    GroupDRO. Without B_k an absent modality's tokens are 0. λ within sites is what hospitals could do with existing
    tools: each runs GroupDRO over its own patients' groups, and sites weigh by their size. What the method has that is
    not the paper's (`OFF`, `OFF_FUSION`) is left out one by one too.
    """

    methods = REMIND

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        whole = remind_of(request, "ablate")
        config = config_of(request, whole)
        shared = config.federation.encoders == "shared"
        composed = fusions.choose(config.method.fusion)[1].compose  # then there is no B_k to leave out
        arms: tuple[Arm, ...] = (
            whole,
            whole.but("without DRO", {"method.objective": "erm"}),
            whole.but("without expert specialisation", {"model.gate": "never"}),
            whole.but("without both", {"method.objective": "erm", "model.gate": "never"}),
            *([] if composed else [_with(whole, config, "without B_k", missing="zero")]),
            whole.but("λ within sites", {"method.rule": "fedavg" if shared else "lg"}),
            *_besides(whole, config),
        )
        title = f"parts of {whole.name} on {request.cohort.schema.name}"
        arms = (*arms, *beside(request, arms, whole))
        arms = anchored(arms, whole, yardsticks=request.yardsticks) if request.anchors else arms
        return (Panel("ablate", title, arms, clients=request.clients, reference=whole.name),)


def _with(whole: Arm, config: Config, name: str, **options: Scalar) -> Arm:
    return whole.but(name, {"method.fusion": with_options(config.method.fusion, **options)})


def _besides(whole: Arm, config: Config) -> list[Arm]:
    """Return the method without each of its options that are not the paper's, as far as it has them."""
    flat, options = config.flat(), fusions.choose(config.method.fusion)[1].model_dump()
    settings = [whole.but(f"without {n}", {key: off}) for n, (key, off) in OFF.items() if flat[key] != off]
    fusion = [
        _with(whole, config, f"without {n}", **{o: off}) for n, (o, off) in OFF_FUSION.items() if options[o] != off
    ]
    if config.dro.initial == "shrunk":
        settings.append(whole.but("without shrinking λ₀", {"dro.initial": "proportional"}))
    return settings + fusion
