"""Study `compare`: methods side by side, for every modality combination (the paper's Tables 1–3 and 7–9)."""

from typing_extensions import override

from remind_studies.studies.variants import with_anchors
from remind_studies.study import Panel, Request, Study, registry


@registry.register(
    "compare", title="methods side by side, per modality combination and hospital", paper="Tables 1–3, 7–9", year=2026
)
class Compare(Study):
    """One panel: the methods, with each hospital alone and all patients in one place beside them."""

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        number = len(request.arms)
        panel = Panel(
            name="compare",
            title=f"{number} method{'s' * (number > 1)} on {request.cohort.schema.name}",
            arms=with_anchors(request),
            clients=request.clients,
            reference=request.main.name,
        )
        return (panel,)
