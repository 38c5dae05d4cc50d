"""Study `cost`: parameters, FLOPs and time of methods (the paper's Table 17)."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from remind.config import Config, Positive, Scalar
from remind.config_pairs import flatten, read_toml
from remind.errors import UserError
from remind.fusion.base import registry as fusions
from remind.registry import Options
from remind_studies.cells.cost import REFERENCE
from remind_studies.studies.variants import REMIND, config_of, listed
from remind_studies.study import Arm, Panel, Request, Study, registry

NOT_SIZES = frozenset({"model.gate", "model.hide"})  # what arms vary, and what tables alone know


class CostOptions(Options):
    """How long to measure, and other sizes."""

    turns: Annotated[int, Field(ge=5)] = Field(60, description="steps timed of each method and of Soft MoE")
    seconds: Positive = Field(120.0, description="after which no further turn begins")
    sizes: str = Field("", description="comma-separated TOML files whose [model] and batch are also measured")


@registry.register(
    "cost",
    title="parameters, FLOPs and time of a training step, beside Soft MoE",
    paper="Table 17",
    year=2026,
    options=CostOptions,
)
class Cost(Study):
    """A panel for the configured sizes and one per file of sizes; REMIND without and with group routing always on.

    Runs measure and train nothing to an end, so there are no scores.
    """

    methods, seeds = f"{REFERENCE}, {REMIND}", 3
    options: CostOptions

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        arms = tuple(variant for arm in request.arms for variant in _with_gates(request, arm))
        files = listed(self.options.sizes, Path, "sizes") if self.options.sizes else ()
        names = ["configured", *(path.stem for path in files)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f"sizes: two files are named {twice[0]}, which their tables would be; rename one")
        sizes: list[tuple[str, dict[str, Scalar]]] = [("configured", {})]
        sizes += [(path.stem, _sizes(path.expanduser())) for path in files]
        return tuple(
            Panel(
                name=name,
                title=_title(Config.from_flat({**request.common, **settings})),
                arms=arms,
                settings=settings,
                options={"turns": self.options.turns, "seconds": self.options.seconds},
                clients=request.clients,
                runner="cost",
            )
            for name, settings in sizes
        )


def _with_gates(request: Request, arm: Arm) -> tuple[Arm, ...]:
    """Return the method; REMIND also without group routing, and with it for every patient."""
    config = config_of(request, arm)
    if fusions.choose(config.method.fusion)[0].name != REMIND:
        return (arm,)
    never = arm.but(f"{arm.name} without group routing", {"model.gate": "never"})
    always = arm.but(f"{arm.name}, gate always open", {"model.gate": "always"})
    return (never, arm, always) if config.model.gate not in ("never", "always") else (never, always)


def _sizes(path: Path) -> dict[str, Scalar]:
    """Return [model] of a file but for its encoders, and its batch."""
    values = {k.replace("_", "-"): v for k, v in flatten(read_toml(path, "sizes"), str(path)).items()}
    inside = {k: v for k, v in values.items() if k.startswith("model.") and k not in NOT_SIZES}
    found = {k: v for k, v in inside.items() if not k.startswith("model.encoders.")}
    return found | {k: v for k, v in values.items() if k == "train.batch"}


def _title(config: Config) -> str:
    model = config.model
    return f"D = {model.width}, E = {model.experts}, S = {model.slots}, batch {config.train.batch or 'of all'}"
