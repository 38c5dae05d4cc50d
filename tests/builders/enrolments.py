"""Hospitals with keys that ask to be enrolled, and a SuperLink with its state in memory."""

import itertools

from cryptography.hazmat.primitives.asymmetric import ec

from remind.consortium.enrolment import make_request, public_key_text
from remind_server.consortium.flower import KEY_IN_USE, Node, RefusalError


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
