"""Middleware for every request: sign-in, allowed methods, and security headers on every response."""

import math
from collections.abc import Collection
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from remind.web.access import Access, address_of, bearer

SIGN_IN, SIGN_OUT = "/sign-in", "/sign-out"
NEXT = "next"  # parameter of the sign-in page: where a person wanted to go
HEALTH = "/health"
PUBLIC = (SIGN_IN, HEALTH, "/static/")  # these paths reveal nothing about runs
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send their own forms with Origin: null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Admits authorised requests, for reading only: POST requests sign a person in or out, or go to a path in `posts`.

    Parameters
    ----------
    app, access
        The guarded application, and its access control.
    posts
        Paths that accept a POST request from authorised senders, but never from a form on another site's page.
    public
        Prefixes of paths that need no authorisation: they reveal nothing about patients or runs.
    """

    def __init__(
        self, app: ASGIApp, access: Access, posts: Collection[str] = (), public: tuple[str, ...] = PUBLIC
    ) -> None:
        self.app, self.access, self.posts, self.public = app, access, frozenset(posts), public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (the ASGI interface)."""
        if scope["type"] != "http":  # the lifespan; there are no web sockets
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        cached = request.url.path.startswith("/static/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["Cache-Control"] = "private, max-age=3600" if cached else "no-store"
            await send(message)

        refusal = self._refusal(request)
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        path = request.url.path
        if request.method == "POST":
            if path not in {SIGN_IN, SIGN_OUT, *self.posts} or not _same_origin(request):
                return _said(403, "not sent by this site's page")
            if path not in self.posts or self.access.allows(request):
                return None
        elif request.method not in ("GET", "HEAD"):
            return _said(405, "this server takes GET, HEAD and POST" if self.posts else "this server is read-only")
        elif path.startswith(self.public) or self.access.allows(request):
            return None
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(_sign_in_for(request), 303)
        if bearer(request) is not None and (seconds := self.access.guesses.wait(address_of(request))) > 0:
            wait = str(math.ceil(seconds))
            return _said(429, f"too many wrong tokens: try again in {wait} s", {"Retry-After": wait})
        return _said(401, "sign in, or send the token as Authorization: Bearer", {"WWW-Authenticate": "Bearer"})


def _sign_in_for(request: Request) -> str:
    """Return the address of the sign-in page that leads on to the page asked for."""
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return SIGN_IN if path == "/" or request.method != "GET" else f"{SIGN_IN}?{urlencode({NEXT: path})}"


def _same_origin(request: Request) -> bool:
    """Return False for a form on another site's page; programs send no Origin."""
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


def _said(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)
