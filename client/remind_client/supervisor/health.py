"""The health page on loopback: is the site alive, is it ready, how does it stand? No patient's value, no count.

``/live`` 200 while the supervisor runs; ``/ready`` 200 when all processes run and the coordinator knows the site, else
503; ``/status`` everything, as JSON.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

Status = Mapping[str, object]
_LONGEST_REQUEST = 8192
_PATIENCE = 5.0


async def serve_health(port: int, status: Callable[[], Awaitable[Status]]) -> asyncio.Server:
    """Listen on 127.0.0.1; the caller closes the server.

    Raises
    ------
    OSError
        If the port is taken.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                request = await reader.readuntil(b"\r\n\r\n")
                method, path, *_ = request.decode("latin-1").split(" ", 2)
                code, body = await _page(method, path, status)
                writer.write(_response(code, body))
                await writer.drain()
        except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port, limit=_LONGEST_REQUEST)


async def _page(method: str, path: str, status: Callable[[], Awaitable[Status]]) -> tuple[int, Status]:
    if method not in {"GET", "HEAD"}:
        return 405, {"error": "GET only"}
    match path.partition("?")[0]:
        case "/live":
            return 200, {"live": True}
        case "/ready":
            ready = bool((await status())["ready"])
            return (200 if ready else 503), {"ready": ready}
        case "/status":
            return 200, await status()
    return 404, {"error": "there are /live, /ready and /status"}


def _response(code: int, body: Status) -> bytes:
    reasons = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
    content = json.dumps(body).encode() + b"\n"
    head = (
        f"HTTP/1.1 {code} {reasons[code]}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content
