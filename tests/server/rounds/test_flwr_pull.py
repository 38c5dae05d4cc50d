"""A reply is measured while it is pulled, by Flower's own grid over a simulated SuperLink."""

import hashlib
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from remind.federation.bounds import Bounds
from remind_server.rounds.flwr_pull import replies_within

SMALL = Bounds(text=1000, values=10, buffer=2 << 20)
PIECE = 1 << 20


class SuperLink:
    """Hands out one reply and its pieces."""

    def __init__(self, reply: Message, swap=None) -> None:
        objects = get_all_nested_objects(reply)
        self.tree = get_object_tree(reply)
        self.contents = {name: thing.deflate() for name, thing in objects.items()}
        self.proto = message_to_proto(remove_content_from_message(reply))
        self.proto.metadata.message_id = reply.object_id
        self.pulled = 0
        if swap is not None:
            swap(self.contents)

    def PullMessages(self, request):
        return SimpleNamespace(messages_list=[self.proto], message_object_trees=[self.tree])

    def PullObject(self, request):
        self.pulled += 1
        content = self.contents[request.object_id]
        return SimpleNamespace(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(self, request):
        return None


def reply(nbytes: int) -> Message:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    buffer = np.random.default_rng(0).integers(256, size=nbytes, dtype=np.uint8)
    content = RecordDict({"message": ConfigRecord({"json": "{}"}), "buffer": ArrayRecord({"bytes": Array(buffer)})})
    asked = Message(RecordDict(), 2, "train")
    asked.metadata.__dict__["_message_id"] = hashlib.sha256(b"asked").hexdigest()
    return Message(content, reply_to=asked)


def pulled(superlink: SuperLink, bounds: Bounds = SMALL) -> Message:
    grid: Any = HttpGrid(token="t")
    grid._client, grid._run = superlink, Run.create_empty(1)
    with replies_within(bounds):
        (message,) = grid.pull_messages(["asked"])
    return message


def named_often(contents: dict[str, bytes]) -> None:
    """The array names its first piece four thousand times."""
    for name, content in contents.items():
        head, body = content.split(b"\x00", 1)
        if head.startswith(b"Array "):
            array = json.loads(body)
            body = json.dumps(array | {"arraychunk_ids": [0] * 4000}).encode()
            contents[name] = b" ".join([*head.split(b" ")[:2], str(len(body)).encode()]) + b"\x00" + body


@pytest.mark.parametrize("nbytes", [10, PIECE, 2 << 20])
def test_a_reply_of_the_right_size_comes_whole(nbytes):
    message = pulled(SuperLink(reply(nbytes)))
    assert not message.has_error()
    assert message.content.array_records["buffer"]["bytes"].numpy().nbytes == nbytes


def test_a_reply_with_too_many_bytes_is_its_sites_error():
    superlink = SuperLink(reply(40 << 20))
    message = pulled(superlink)
    assert message.has_error()
    assert "more than" in message.error.reason
    assert message.metadata.reply_to_message_id == superlink.proto.metadata.reply_to_message_id
    assert superlink.pulled < len(superlink.contents), "pulling stops as soon as it is too much"


def test_a_piece_named_many_times_is_never_put_together():
    message = pulled(SuperLink(reply(PIECE), named_often))
    assert "when assembled" in message.error.reason


def test_an_array_that_cannot_be_read_is_an_error():
    def spoil(contents):
        named_often(contents)
        for name, content in contents.items():
            if content.startswith(b"Array "):
                contents[name] = content.replace(b"arraychunk_ids", b"arraychunk_idx")

    assert "cannot be read" in pulled(SuperLink(reply(10), spoil)).error.reason


def test_thousands_of_pieces_are_not_even_asked_for():
    superlink = SuperLink(reply(10))
    for _ in range(3000):
        superlink.tree.children.add().object_id = "a" * 64
    assert "pieces" in pulled(superlink).error.reason
    assert superlink.pulled == 0
