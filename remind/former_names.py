"""Former names of modules: an import by the former name finds the module at its new place, and warns.

The next minor version removes them. If a former name is now a folder (`remind.data.cohort`), the folder's ``__init__``
forwards its former content.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Package before, package now, modules that kept their name; then those that did not.
_KEPT = (
    ("remind.data", "remind.data.batches", "augment batch lazy"),
    ("remind.data", "remind.data.checks", "check describe describe_plots report report_text"),
    (
        "remind.data",
        "remind.data.cohort",
        "contents declaration examine patients problems read schema sections tabular text",
    ),
    ("remind.data", "remind.data.sites", "hospitals split"),
    ("remind.data", "remind.data.synthetic", "declare laws write"),
    ("remind.federation", "remind.consortium", "enrolment"),
    ("remind_client", "remind_client.models", "adapt adapt_into adaptation export predict"),
    ("remind_client", "remind_client.rounds", "secure site"),
    ("remind_client", "remind_client.store", "history"),
    ("remind_server.dashboard", "remind.web", "access guard listening sign_in"),
    ("remind_server.dashboard", "remind_server.dashboard.drawing", "bars combos pictures strips templating"),
    (
        "remind_server.dashboard",
        "remind_server.dashboard.views",
        "calibration compare curves everything experts groups hospitals matrix report run_list thresholds timeline "
        "verdict",
    ),
    ("remind_server", "remind_server.outputs", "progress records run_folder tables"),
    ("remind_server", "remind_server.rounds", "checks collect exchange roster strategy tasks"),
    (
        "remind_server",
        "remind_server.simulation",
        "app_config flwr_app flwr_pairs flwr_plan flwr_run local_grid simulate simulate_command",
    ),
)
_RENAMED = {
    "remind_client.disk": "remind.disk",
    "remind_client.few": "remind_client.rounds.small_updates",
    "remind_client.private": "remind_client.engine.private_steps",
    "remind_server.model": "remind.global_model",
    "remind_server.rounds.model": "remind.global_model",
    "remind_server.rounds.joint": "remind_server.rounds.secure.joint",
    "remind_server.rounds.secure_results": "remind_server.rounds.secure.results",
    "remind_server.rounds.secure_round": "remind_server.rounds.secure.masked_replies",
    "remind_server.rounds.secure_setup": "remind_server.rounds.secure.setup",
    "remind.data.odd": "remind.data.checks.warnings",
    "remind.data.odd_files": "remind.data.cohort.kinds.picture_warnings",
    "remind.data.rules": "remind.data.sites.lacking",
    "remind.data.readers": "remind.data.cohort.kinds",
    "remind.data.synth": "remind.data.synthetic.features",
    "remind.encoders.weights": "remind.encoders.pretrained",
    "remind.encoders.words": "remind.encoders.word_transformer",
    "remind.federation.weighing": "remind.federation.site_weights",
    "remind.federation.weights": "remind.federation.block_weights",
    "remind.fusion.soft_moe": "remind.fusion.experts",
    "remind.objectives.group_dro": "remind.objectives.lambda_step",
}
FORMER = {f"{old}.{name}": f"{new}.{name}" for old, new, names in _KEPT for name in names.split()} | _RENAMED


class FormerNames(MetaPathFinder, Loader):
    """Finds a module under its former name; the last finder in the list."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for former names, None for all others."""
        return ModuleSpec(fullname, self) if fullname in FORMER else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module at its new place, the same object."""
        warnings.warn(f"{spec.name} is now {FORMER[spec.name]}", DeprecationWarning, stacklevel=2)
        module = import_module(FORMER[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back, which the import machinery has replaced by that of the former name."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


def moved(module: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` that finds names at their new places, and warns.

    Parameters
    ----------
    module
        Where the names stood.
    places
        Modules, and the names that each of them now holds, separated by spaces.
    """
    place_of = {name: place for place, names in places.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in place_of:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        # pending: it is no error yet in our own tests, as the move of a module is
        warnings.warn(f"{module}.{name} is now {place_of[name]}.{name}", PendingDeprecationWarning, stacklevel=2)
        return getattr(import_module(place_of[name]), name)

    return find
