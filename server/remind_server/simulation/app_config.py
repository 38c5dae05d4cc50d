"""Generates the Flower app in ``simulation/``, which is configuration alone, from `remind.config.Config`.

After a change of the config tree: ``python -m remind_server.simulation.app_config > simulation/pyproject.toml``.
"""

from remind.config import Config
from remind.config_toml import to_toml

SERVER_APP = "remind_server.app:app"
CLIENT_APP = "remind_client.app:app"

HEAD = f"""\
# The Flower app: `flwr run simulation/`. Its code is in the installed packages remind_server and remind_client; the
# bundle that travels to a hospital is this file alone. Generated, comments and all, by
#     python -m remind_server.simulation.app_config > simulation/pyproject.toml

[project]
name = "federated-remind-simulation"
version = "0.1.0"
description = "Federated REMIND: hospitals with different modality combinations train one model."
license = "Apache-2.0"
dependencies = []  # installed beside flwr; a dependency here would be downloaded again for every run

[tool.flwr.app]
publisher = "federated-remind"
fab-include = ["pyproject.toml"]

[tool.flwr.app.components]
serverapp = "{SERVER_APP}"
clientapp = "{CLIENT_APP}"

# Defaults of every setting; `flwr run simulation/ --run-config 'train.lr=0.01 dro.gamma=0.0'` changes them for a run.
"""


def app_toml() -> str:
    """Return the text of ``simulation/pyproject.toml``."""
    return HEAD + to_toml(Config(), "tool.flwr.app.config")


if __name__ == "__main__":
    print(app_toml(), end="")
