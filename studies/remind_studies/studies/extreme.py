"""Study `extreme`: a modality that most patients lack (the paper's Table 5)."""

from typing import Annotated

from pydantic import Field
from typing_extensions import override

from remind.errors import UserError
from remind.registry import Options
from remind_studies.cells.missingness import spared
from remind_studies.studies.variants import listed, with_anchors
from remind_studies.study import Panel, Request, Study, registry


class ExtremeOptions(Options):
    """What is hidden, and from how many."""

    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="share of the patients who have the modality and lose it"
    )
    modalities: str = Field("", description="which, separated by commas, one at a time; empty: each in turn")


@registry.register(
    "extreme",
    title="each modality in turn hidden from most patients: all, those who have it, those who lack it",
    paper="Table 5",
    year=2026,
    options=ExtremeOptions,
)
class Extreme(Study):
    """A panel per modality: the methods on the cohort with that modality hidden from a share of those who have it.

    It is hidden from training, validation and test patients alike, and the patients' groups change with it.
    """

    seeds = 5
    options: ExtremeOptions

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        names = request.cohort.schema.names
        if len(names) < 2:
            raise UserError(f"extreme: cohort {request.cohort.schema.name} has one modality, and none can be hidden")
        chosen = listed(self.options.modalities, str, "modalities") if self.options.modalities else names
        return tuple(self._panel(request, name) for name in chosen)

    def _panel(self, request: Request, name: str) -> Panel:
        keep = spared(request.cohort, name)
        kept = f"; {keep} who have nothing else keep it" if keep else ""
        bit = request.cohort.schema.names.index(name)
        return Panel(
            name=name,
            title=f"{self.options.share:.0%} of the patients with {name} lose it{kept}",
            arms=with_anchors(request),
            options={"hide": name, "share": self.options.share},
            clients=request.clients,
            reference=request.main.name,
            measures=(f"available:{bit}", f"absent:{bit}"),
        )
