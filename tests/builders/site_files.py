"""A site.toml that tests can load, and what Flower hands to an app."""

from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from remind.config import Scalar
from remind_client.site_config import SiteConfig, load_site_config

TOML = """
site = "north"
cohort = "cohort"
device = "cpu"
health_port = 0

[coordinator]
consortium = "test"
address = "127.0.0.1:1"

[resources]
threads = 1

{more}
"""


def write_site(folder: Path, more: str = "") -> SiteConfig:
    """A site.toml in a folder, loaded; `more` goes to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "site.toml").write_text(TOML.format(more=more))
    return load_site_config(folder)


def asked(content: RecordDict, kind: str) -> Message:
    """A message as it comes to an app."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1  # as a task's process has it
    return Message(content, dst_node_id=1, message_type=kind)


def context(site: SiteConfig, **settings: str | float | bool) -> Context:
    """A context as the SuperNode makes it for a hospital."""
    node: dict[str, Scalar] = {
        "site": site.site,
        "cohort": str(site.path(site.cohort)),
        "state-dir": str(site.runs_folder),
    }
    return Context(run_id=7, node_id=1, node_config=node, state=RecordDict(), run_config=dict(settings))
