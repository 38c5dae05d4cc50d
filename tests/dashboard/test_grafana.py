"""The Grafana files in deploy/ name metrics and labels that exist."""

import json
import re
from pathlib import Path

import yaml

from remind_server.dashboard.metrics import FAMILIES

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "federated-remind.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def test_every_metric_and_label_exists():
    assert len(EXPRESSIONS) > 8
    queries = EXPRESSIONS + [
        variable["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"
    ]
    for query in queries:
        names = re.findall(r"\bremind_\w+", query)
        assert names, query
        assert set(names) <= FAMILIES.keys(), query
        for name, selector in re.findall(r"\b(remind_\w+){([^}]*)}", query):
            assert set(re.findall(r"(\w+)=~?\"", selector)) <= set(FAMILIES[name][1]), query


def test_every_metric_is_used():
    shown = set(re.findall(r"\bremind_\w+", json.dumps(DASHBOARD)))
    assert shown == FAMILIES.keys()


def test_legends_name_labels_of_their_metrics():
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            labels = {label for name in re.findall(r"\bremind_\w+", target["expr"]) for label in FAMILIES[name][1]}
            assert set(re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))) <= labels


def test_provisioning_fits_together():
    [source] = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["uid"] == DASHBOARD["templating"]["list"][0]["datasource"]["uid"]
    [provider] = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "provider.yaml").read_text())["providers"]
    assert provider["options"]["path"]
    scrape = yaml.safe_load((GRAFANA / "prometheus.yaml").read_text())["scrape_configs"][0]
    assert scrape["authorization"]["credentials_file"]


def test_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
