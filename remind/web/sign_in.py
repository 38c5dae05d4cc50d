"""Signing in and out. The printed address carries the token behind ``#``, which browsers never send to a server."""

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from remind.web.access import SESSION_SECONDS, Access
from remind.web.guard import SIGN_IN, SIGN_OUT

LONGEST_FORM = 4096  # bytes
WRONG_TOKEN_PAUSE = 0.5  # seconds


Page = Callable[[Request, int, bool], Response]  # of a status; whether a wrong token was given


def routes(access: Access, page: Page, home: str = "/") -> APIRouter:
    """The sign-in page and its form.

    Parameters
    ----------
    access
        Who is let in.
    page
        Makes the page with the form.
    home
        Path of the page that a person sees once signed in.
    """
    router = APIRouter(include_in_schema=False)

    @router.get(SIGN_IN)
    def show(request: Request) -> Response:
        return page(request, 200, False)

    @router.post(SIGN_IN)
    async def sign_in(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LONGEST_FORM:
                return Response(status_code=413)
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        if not access.is_token(given.strip()):
            await asyncio.sleep(WRONG_TOKEN_PAUSE)
            return page(request, 401, True)
        response = RedirectResponse(home, 303)
        response.set_cookie(
            access.cookie,
            access.new_session(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=access.secure,
        )
        return response

    @router.post(SIGN_OUT)
    def sign_out() -> Response:
        response = RedirectResponse(SIGN_IN, 303)
        response.delete_cookie(access.cookie, httponly=True, samesite="strict", secure=access.secure)
        return response

    return router
