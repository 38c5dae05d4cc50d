"""The web application: combines the routes and converts errors into responses."""

from importlib.resources import files

from fastapi import FastAPI, Request, Response
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse
from starlette.staticfiles import StaticFiles

from remind.errors import UserError
from remind.version import VERSION
from remind.web import sign_in
from remind.web.access import Access
from remind.web.guard import HEALTH, Guard
from remind_server.dashboard import annotations, api, downloads, events, metrics, pages
from remind_server.dashboard.drawing.templating import page
from remind_server.dashboard.reader import NoSuchRunError, Reader
from remind_server.store.schema import Run


def dashboard_app(engine: Engine, access: Access, min_count: int = 0) -> FastAPI:
    """Build the dashboard over a run store.

    Parameters
    ----------
    min_count
        Cells with fewer patients are suppressed in every output.
    """
    reader = Reader(engine, min_count)
    # No /docs: FastAPI's pages load scripts from elsewhere. The description they would show is at /api/openapi.json.
    app = FastAPI(
        title="federated REMIND", version=VERSION, openapi_url="/api/openapi.json", docs_url=None, redoc_url=None
    )
    routers = [part.routes(reader) for part in (api, events, downloads, metrics, pages, annotations)]
    for router in (*routers, sign_in.routes(access, _sign_in_page)):
        app.router.routes.extend(router.routes)  # `include_router` would derive the schema of every answer again
    app.mount("/static", StaticFiles(directory=str(files("remind_server.dashboard") / "static")))
    app.add_middleware(GZipMiddleware, minimum_size=2000, compresslevel=4)
    app.add_middleware(Guard, access=access, posts=(annotations.ANNOTATE,))

    @app.get(HEALTH, include_in_schema=False)
    def health() -> Response:
        """Health check without sign-in: 200, or 503 if the run store cannot be read."""
        with engine.connect() as connection:
            connection.execute(select(Run.id).limit(1))
        return Response("ok\n", media_type="text/plain")

    @app.exception_handler(UserError)
    def mistake(request: Request, error: UserError) -> Response:
        return _problem(request, 404 if isinstance(error, NoSuchRunError) else 422, str(error))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        return _problem(request, error.status_code, str(error.detail))

    @app.exception_handler(SQLAlchemyError)
    def unreadable(request: Request, error: SQLAlchemyError) -> Response:
        return _problem(request, 503, "the run store cannot be read at the moment")

    return app


def _sign_in_page(request: Request, status: int, wrong: bool) -> Response:
    return page(request, "sign_in.html", status=status, wrong=wrong)


def _problem(request: Request, status: int, detail: str) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return page(request, "problem.html", status=status, detail=detail)
    return JSONResponse({"detail": detail}, status)
