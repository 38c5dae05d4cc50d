"""Signing in and out. The printed address carries the token behind ``#``, which browsers never send to a server."""

import asyncio
import math
from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from starlette.responses import PlainTextResponse, RedirectResponse

from remind.web.access import SESSION_SECONDS, Access, address_of
from remind.web.forms import fields
from remind.web.guard import NEXT, SIGN_IN, SIGN_OUT

LONGEST_FORM = 4096  # bytes
WRONG_TOKEN_PAUSE = 0.5  # seconds


Page = Callable[[Request, int, bool], Response]  # of a status; whether a wrong token was given


def wanted(request: Request, home: str = "/") -> str:
    """Return the page that a person wanted to see before signing in: a path of this server, with its query."""
    path = request.query_params.get(NEXT, "")
    local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if local and not path.startswith((SIGN_IN, SIGN_OUT)) else home


def routes(access: Access, page: Page, home: str = "/") -> APIRouter:
    """Return the sign-in page and its form.

    Parameters
    ----------
    access
        The users who may sign in.
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
        given = (await fields(request, LONGEST_FORM)).get("token", "")
        address = address_of(request)
        if (seconds := access.guesses.wait(address)) > 0:
            return _wait(seconds)
        if not access.accepts(given.strip(), address):
            await asyncio.sleep(WRONG_TOKEN_PAUSE)
            return page(request, 401, True)
        response = RedirectResponse(wanted(request, home), 303)
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
    def sign_out(request: Request) -> Response:
        access.end_session(request)
        response = RedirectResponse(SIGN_IN, 303)
        response.delete_cookie(access.cookie, httponly=True, samesite="strict", secure=access.secure)
        return response

    return router


def _wait(seconds: float) -> Response:
    text = f"too many wrong tokens from this address: try again in {math.ceil(seconds)} s\n"
    return PlainTextResponse(text, 429, {"Retry-After": str(math.ceil(seconds))})
