"""The health page on loopback."""

import asyncio
import json

import pytest

from remind.processes.health_page import live, serve_pages
from tests.machine import free_port


async def get(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


async def ill():
    return False, {"superlink": "not running"}


@pytest.mark.parametrize(
    ("request_line", "first"),
    [
        (b"GET /live HTTP/1.1", b"HTTP/1.1 200"),
        (b"GET /health HTTP/1.1", b"HTTP/1.1 503"),
        (b"GET /live?x HTTP/1.1", b"HTTP/1.1 200"),
        (b"GET / HTTP/1.1", b"HTTP/1.1 404"),
        (b"POST /live HTTP/1.1", b"HTTP/1.1 405"),
        (b"nonsense", b""),
        (b"\xff\xfe", b""),
        (b"G" * 20_000, b""),
    ],
)
def test_what_is_asked_and_what_is_not(request_line, first):
    async def scene():
        port = free_port()
        server = await serve_pages(port, {"/live": live, "/health": ill})
        assert (await get(port, request_line + b"\r\n\r\n"))[:12] == first
        assert (await get(port, b"GET /live HTTP/1.1\r\n\r\n"))[:12] == b"HTTP/1.1 200", "still there"
        assert server.sockets[0].getsockname()[0] == "127.0.0.1"
        server.close()

    asyncio.run(scene())


def test_what_a_page_shows():
    async def scene():
        port = free_port()
        server = await serve_pages(port, {"/live": live, "/health": ill})
        shown = (await get(port, b"GET /health HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")[2]
        assert json.loads(shown) == {"superlink": "not running"}
        head, _, body = (await get(port, b"HEAD /health HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
        assert (f"Content-Length: {len(shown)}".encode() in head, body) == (True, b"")
        assert b"there are /live and /health" in await get(port, b"GET /ready HTTP/1.1\r\n\r\n")
        server.close()

    asyncio.run(scene())


def test_a_port_that_is_taken():
    async def scene():
        port = free_port()
        server = await serve_pages(port, {"/live": live})
        with pytest.raises(OSError, match="Address already in use") as caught:
            await serve_pages(port, {"/live": live})
        assert caught.value.strerror == "Address already in use"
        server.close()

    asyncio.run(scene())
