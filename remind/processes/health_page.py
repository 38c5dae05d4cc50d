"""A health page on loopback for supervisors, containers and people. It shows no patient data.

Coordinator and site define their pages; this module serves them: HTTP/1.1, GET and HEAD, JSON.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping

State = Mapping[str, object]
Pages = Mapping[str, Callable[[], Awaitable[tuple[bool, State]]]]  # path → whether all is well, and the content
_LONGEST_REQUEST = 8192
_PATIENCE = 5.0  # seconds for receiving a request, and for sending an answer
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


async def serve_pages(port: int, pages: Pages) -> asyncio.Server:
    """Listen on 127.0.0.1: 200 if all is well, 503 if not; the caller closes the server.

    Raises
    ------
    OSError
        The port is taken.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                request = await reader.readuntil(b"\r\n\r\n")
            method, path, *_ = request.decode("latin-1").split(" ", 2)
            code, state = await _page(method, path, pages)  # takes as long as the checked processes
            async with asyncio.timeout(_PATIENCE):
                writer.write(_response(code, state, with_body=method != "HEAD"))
                await writer.drain()
        except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    try:
        return await asyncio.start_server(answer, "127.0.0.1", port, limit=_LONGEST_REQUEST)
    except OSError as error:  # asyncio's words repeat the address
        raise OSError(error.errno, os.strerror(error.errno or 0)) from None


async def live() -> tuple[bool, State]:
    """Return the liveness page: this process answers, independent of the state of its children."""
    return True, {"live": True}


async def _page(method: str, path: str, pages: Pages) -> tuple[int, State]:
    if method not in {"GET", "HEAD"}:
        return 405, {"error": "GET only"}
    page = pages.get(path.partition("?")[0])
    if page is None:
        *most, last = pages
        return 404, {"error": f"there are {', '.join(most)} and {last}"}
    well, state = await page()
    return (200 if well else 503), state


def _response(code: int, state: State, with_body: bool) -> bytes:
    content = json.dumps(state).encode() + b"\n"
    head = (
        f"HTTP/1.1 {code} {_REASONS[code]}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (content if with_body else b"")
