"""The fields of a form that a page sends."""

from urllib.parse import parse_qs

from fastapi import HTTPException, Request


async def fields(request: Request, most: int) -> dict[str, str]:
    """Return the first value of each field that is not empty; a form of more than `most` bytes is answered with 413."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise HTTPException(413)
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
