"""A consortium's folder, a SuperLink with its state in memory, and hospitals with keys."""

import itertools

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from remind.consortium.enrolment import make_request, public_key_text
from remind_server.consortium.flower import KEY_IN_USE, Node, RefusalError
from remind_server.consortium.make import make


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "heart", "heart", ["coordinator.example.org", "10.0.0.5"], 443, "", None, 3650, 365)


class Hospital:
    """A key pair and what is asked for with it."""

    def __init__(self, name):
        self.name = name
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.public_key = public_key_text(self.key.public_key())

    def request(self, **changes):
        return make_request(self.key, **{"consortium": "heart", "site": self.name, "location": "46.5,6.6"} | changes)


class Registry:
    """What a SuperLink does with keys: one that was let out never comes back."""

    def __init__(self):
        self.known = {}
        self.ids = itertools.count(1)
        self.fail_after = None  # "register": the answer is lost

    def register(self, public_key, name, location):
        if public_key in self.known:
            raise RefusalError(KEY_IN_USE, "in use")
        self.known[public_key] = Node(next(self.ids), public_key, "registered", None)
        if self.fail_after == "register":
            self.fail_after = None
            raise ConnectionError("lost")
        return self.known[public_key].node_id

    def unregister(self, node_id):
        (key,) = (key for key, node in self.known.items() if node.node_id == node_id)
        self.known[key] = Node(node_id, key, "unregistered", None)

    def nodes(self):
        return dict(self.known)


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def hospital():
    return Hospital
