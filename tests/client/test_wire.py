"""Invariant 3: all bytes of a whole run, in both directions."""

import json

import numpy as np
import pytest
import torch

from remind import groups
from remind.federation.messages import Task
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import NAMES, cohort
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.sites import CPU, site

MIXES = {"s1": [1, 1, 3] * 5, "s2": [3, 5] * 6, "s3": [2] * 8}
EXTRA = {"s2": [6], "s3": [7]}  # one test patient each, of a group in which nobody trains there
BITS = dict(zip(NAMES, (1, 2, 4), strict=True))


class Tap(SiteGrid):
    """Keeps every message and reply: (site, kind, direction) → JSON and buffer."""

    def __init__(self, sites):
        super().__init__(sites)
        self.names, self.seen = [s.name for s in sites], []

    def _work(self, message):
        name, kind = self.names[message.metadata.dst_node_id - 2], message.metadata.message_type
        self.seen.append((name, kind, "to", *opened(message.content)))
        reply = super()._work(message)
        if reply.has_error():
            return reply
        self.seen.append((name, kind, "from", *opened(reply.content)))
        return reply


def opened(record):
    (text,) = record["message"].values()
    assert set(record) <= {"message", "buffer"}
    buffers = list(record.array_records["buffer"].values()) if "buffer" in record else []
    return json.loads(text), buffers[0].numpy().tobytes() if buffers else b""


def federation(folder, **changes):
    config = settings({"train.warmup-rounds": 2, "train.routing-rounds": 2} | changes)
    sites = []
    for seed, (name, mix) in enumerate(MIXES.items()):
        extra = EXTRA.get(name, [])
        whole = cohort([*mix, *extra], seed)
        whole.split_N[len(mix) :] = 2
        sites.append(site(name, whole, config, folder))
    return sites


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    sites = federation(tmp_path_factory.mktemp("local"))
    tap = Tap(sites)
    result = FedRemind(sites[0].config).run(tap)
    return sites, tap.seen, result


def names_in(content):
    return {entry["name"] for entry in content.get("index", [])}


def groups_in(content):
    return {int(name.split(".")[2]) for name in names_in(content) if name.startswith("fusion.groups.")}


def test_every_kind_of_message_was_seen(local):
    kinds = [(kind, way) for _, kind, way, _, _ in local[1]]
    assert {k: kinds.count(k) for k in set(kinds)} == {
        ("query", "to"): 3,
        ("query", "from"): 3,
        ("train", "to"): 12,
        ("train", "from"): 12,
        ("evaluate", "to"): 3,
        ("evaluate", "from"): 3,
    }


def test_only_groups_the_site_observes(local):
    for name, kind, way, content, _ in local[1]:
        trains, observes = set(MIXES[name]), set(MIXES[name]) | set(EXTRA.get(name, []))
        for field in ("weights", "counts", "train"):
            assert {int(k) for k in content.get(field, {})} <= trains, (name, kind, way, field)
        for field in ("validation", "test"):
            assert {int(k) for k in content.get(field, {})} <= observes
        if kind == "train":
            assert groups_in(content) == trains
            assert {e["block"] for e in content["index"]} == {"shared", *(f"group:{k}" for k in trains)}
        if (kind, way) == ("train", "to"):
            assert {int(k) for k in content["weights"]} == {int(k) for k in content["counts"]} == trains
            assert set(content["block_weights"]) == {"shared", *(f"group:{k}" for k in trains)}
        if (kind, way) == ("evaluate", "to"):
            assert groups_in(content) == observes & {1, 2, 3, 5}, "of groups in which somebody trains"


def test_nothing_but_named_tensors_in_the_buffers(local):
    for *_, content, buffer in local[1]:
        size = {"float32": 4}
        length = 0
        for entry in content.get("index", []):
            length += size[entry["dtype"]] * int(torch.Size(entry["shape"]).numel())
        assert len(buffer) == length


def test_no_encoder_tensor_by_name_or_by_value(local):
    sites, seen, result = local
    secret = [
        p.detach().numpy().tobytes()
        for s in sites
        for p in s.engine.model.encoders.state_dict().values()
        if p.unique().numel() > 2
    ]
    assert len(secret) > 20
    for *_, content, buffer in seen:
        assert "encoders" not in json.dumps(content)
        assert not any(value in buffer for value in secret)
    assert not any(name.startswith("encoders") for name in result.tensors)


def test_no_patient_by_name(local):
    ids = {patient for s in local[0] for patient in s.cohort.patient_id_N.tolist()}
    for *_, content, _ in local[1]:
        text = json.dumps(content)
        assert not any(f'"{patient}"' in text for patient in ids)


def test_shared_encoders_go_to_sites_with_the_modality_only(tmp_path):
    sites = federation(tmp_path, **{"federation.encoders": "shared"})
    tap = Tap(sites)
    result = FedRemind(sites[0].config).run(tap)
    warmup = sites[0].config.train.warmup_rounds
    for name, kind, way, content, _ in tap.seen:
        modalities = {n.split(".")[1] for n in names_in(content) if n.startswith("encoders.")}
        mixed = MIXES[name] if kind == "train" else [*MIXES[name], *EXTRA.get(name, [])]
        own = {m for m, bit in BITS.items() if any(k & bit for k in mixed)}
        if kind == "train" and way != "to" and content.get("round", 0) >= warmup:
            assert not modalities, "what a round does not train does not come back"
        elif kind == "train" and way == "to" and content.get("round", 0) > warmup:
            assert not modalities, "nor is it sent again"
        elif names_in(content):
            assert modalities == own, (name, kind)
    assert {n.split(".")[1] for n in result.tensors if n.startswith("encoders.")} == set(NAMES)


def test_a_site_takes_no_blocks_of_groups_it_does_not_observe(tmp_path):
    """Its own last word, for anybody who asks."""
    first, second, _ = federation(tmp_path)
    tap = Tap([first, second])
    FedRemind(first.config).run(tap)
    *_, task = (c for name, kind, way, c, _ in tap.seen if (name, kind, way) == ("s2", "train", "to"))
    asked = Task.model_validate_json(json.dumps(task | {"weights": {"3": 0.5}, "counts": {"3": 20}}))
    *_, buffer = (b for name, kind, way, _, b in tap.seen if (name, kind, way) == ("s2", "train", "to"))
    new = site("s1", first.cohort, first.config, tmp_path / "new")  # the run has ended at the one that took part
    with pytest.raises(ValueError, match="blocks of groups that the site does not observe"):
        new.train(asked, np.frombuffer(buffer, np.uint8))


def test_groups_of_the_cohorts_are_as_said(local):
    for s in local[0]:
        assert set(groups.counts(s.cohort.groups_N)) == set(MIXES[s.name]) | set(EXTRA.get(s.name, []))
        assert s.engine.state.data.device == CPU
