"""Study `ablate`: the contribution of each part of REMIND (the paper's Table 4)."""

from typing_extensions import override

from remind_studies.arms import anchored
from remind_studies.studies.variants import REMIND, beside, config_of, remind_of, with_options
from remind_studies.study import Arm, Panel, Request, Study, registry


@registry.register("ablate", title="REMIND without each of its parts", paper="Table 4", year=2026)
class Ablate(Study):
    """One panel: REMIND, and what is left of it.

    Without DRO every patient weighs alike. Without expert specialisation no Φ_k is ever used, which is Soft MoE under
    GroupDRO. Without B_k an absent modality's tokens are 0. λ within sites is what hospitals could do with existing
    tools: each runs GroupDRO over its own patients' groups, and sites weigh by their size.
    """

    methods = REMIND

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        whole = remind_of(request, "ablate")
        config = config_of(request, whole)
        shared = config.federation.encoders == "shared"
        no_embedding = with_options(config.method.fusion, missing="zero")
        arms: tuple[Arm, ...] = (
            whole,
            whole.but("without DRO", {"method.objective": "erm"}),
            whole.but("without expert specialisation", {"model.gate": "never"}),
            whole.but("without both", {"method.objective": "erm", "model.gate": "never"}),
            whole.but("without B_k", {"method.fusion": no_embedding}),
            whole.but("λ within sites", {"method.rule": "fedavg" if shared else "lg"}),
        )
        title = f"parts of {whole.name} on {request.cohort.schema.name}"
        arms = (*arms, *beside(request, arms, whole))
        arms = anchored(arms, whole) if request.anchors else arms
        return (Panel("ablate", title, arms, clients=request.clients, reference=whole.name),)
