"""Hospitals with their doors under secure aggregation."""

from typing_extensions import override

from remind.config import Scalar
from remind.consortium.enrolment import public_key_text
from remind.consortium.roster import roster_text
from remind.data.synthetic.write import write_cohort
from remind_client.app import app
from remind_client.identity import new_private_key
from remind_client.launcher.door import Door
from remind_client.site_config import VARIABLE, VAULT_KEY, load_site_config
from remind_client.vault.key import new_key_file
from remind_server.simulation.local_grid import FIRST_NODE_ID, LocalGrid
from tests.builders import cohorts
from tests.builders.bundles import fab
from tests.builders.site_files import TOML, context

POLICY = """
[policy]
runs = ["*"]
minimum_patients = 5
minimum_batch = 8
minimum_steps = 1

[policy.privacy]
require = ["secure-aggregation"]
"""


SETTINGS: dict[str, Scalar] = {
    "federation.secure-aggregation": True,
    "train.warmup-rounds": 1,
    "train.routing-rounds": 0,
    "run.id": "one",
}


NAMES = ("north", "south", "west")


class Doors(LocalGrid):
    """A grid whose messages go through the doors of hospitals."""

    def __init__(self, sites, run_config, monkeypatch):
        super().__init__(app, len(sites), run_config, run_id=7)
        self.sites, self.run_config, self.monkeypatch = sites, run_config, monkeypatch

    @override
    def _work(self, message):
        site = self.sites[message.metadata.dst_node_id - FIRST_NODE_ID]
        self.monkeypatch.setenv(VARIABLE, str(site.base))
        return Door(site).answer(fab(), message, context(site, **self.run_config), lambda bundle: app)


def hospitals(folder, left_out=(), policy=POLICY, of=None):
    """Their sites; the roster is of all but those left out."""
    for name in NAMES:
        (folder / name).mkdir()
    keys = {name: new_private_key(folder / name / "site.key") for name in NAMES}
    roster = {name: public_key_text(key.public_key()) for name, key in keys.items() if name not in left_out}
    found = []
    for seed, name in enumerate(NAMES):
        where = folder / name
        (where / "roster.toml").write_text(roster_text(roster))
        text = TOML.format(more=policy).replace('site = "north"', f'site = "{name}"\nroster = "roster.toml"')
        (where / "site.toml").write_text(text)
        new_key_file(where / VAULT_KEY)
        site = load_site_config(where)
        write_cohort(cohorts.cohort([1] * 24 + [3] * 20 + [7] * 20, seed, of=of), site.path(site.cohort))
        found.append(site)
    return found
