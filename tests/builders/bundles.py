"""Bundles of apps as Flower sends them."""

import io
import zipfile

from remind_client.policy.bundle import OURS

PROJECT = f"""
[project]
name = "app"
version = "1"
[tool.flwr.app]
publisher = "someone"
[tool.flwr.app.components]
serverapp = "remind_server.app:app"
clientapp = "{OURS}"
"""


def fab(files: dict[str, str | bytes] | None = None, project: str = PROJECT) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in {"pyproject.toml": project, ".info/CONTENT": "x", **(files or {})}.items():
            archive.writestr(name, text)
    return out.getvalue()
