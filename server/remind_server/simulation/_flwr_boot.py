"""Add our options to Flower's CLI. Python imports this module at every start, through ``federated_remind.pth``.

Flower's command line has no plug-in interface, and of two console scripts named ``flwr`` the last one installed wins.
So a finder waits for ``flwr.cli.app`` and lets ``remind_server.simulation.flwr_run`` extend its ``run`` command. In any
other program this costs the import of one small module. If Flower has changed, its command line stays as it is.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

TARGET = "flwr.cli.app"
OPTIONS = ("--num-clients", "--cohort", "--yes")


class FlowerCliFinder:
    """A meta-path finder that only adds a step to the loading of ``flwr.cli.app``."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of ``flwr.cli.app`` with our step after its own; None for every other module."""
        if name != TARGET:
            return None
        sys.meta_path.remove(
            self
        )  # there is one CLI per process, and the look-up below must not call this finder again
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_extend(module: ModuleType) -> None:
            load(module)
            extend(module)

        spec.loader.exec_module = load_and_extend  # type: ignore[method-assign]
        return spec


def extend(cli: ModuleType) -> None:
    """Add our options to ``flwr run``. If this Flower cannot take them, leave it as it is and tell who uses one."""
    try:
        from remind_server.simulation.flwr_run import install

        install(cli)
    except Exception as error:  # whatever has changed in Flower, its command line must keep working
        if any(argument.split("=", 1)[0] in OPTIONS for argument in sys.argv):
            print(
                f"federated-remind cannot add {' and '.join(OPTIONS)} to this version of Flower ({error}). "
                "Use --federation-config 'num-supernodes=N' and --run-config 'data.cohort=\"/path\"' instead.",
                file=sys.stderr,
            )


if not any(isinstance(finder, FlowerCliFinder) for finder in sys.meta_path):
    sys.meta_path.insert(0, FlowerCliFinder())
