"""The web application of the service: routes, limits, and errors turned into answers."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from remind.data.cohort.kinds.pictures import Reading
from remind.errors import UserError
from remind.version import VERSION
from remind.web import sign_in
from remind.web.access import Access
from remind.web.guard import HEALTH, SIGN_IN, Guard
from remind_client.serving import pages
from remind_client.serving.model import ModelKeeper, Served, answers
from remind_client.serving.monitor import Monitor
from remind_client.serving.patients import Intake
from remind_client.serving.request import Request as Form
from remind_client.serving.request import form_of

PREDICT, SCHEMA, READY, METRICS, OPENAPI, DOCS = "/predict", "/schema", "/ready", "/metrics", "/openapi.json", "/"
PUBLIC = (SIGN_IN, HEALTH, READY, "/static/")  # paths without any data about patients
Audit = Callable[[Served, int, int], None]  # model, patients in the request, patients refused; raises if it cannot log


@dataclass(frozen=True)
class Limits:
    """Limits of one request.

    Attributes
    ----------
    request_bytes
        Maximum size of a request.
    patients
        Maximum number of patients in a request.
    seconds
        Maximum time until the answer, and until all bytes of the request have arrived.
    waiting
        Maximum number of requests that wait while another one is computed.
    """

    request_bytes: int = 32 << 20
    patients: int = 1000
    seconds: float = 60.0
    waiting: int = 16


@dataclass(frozen=True)
class Files:
    """The folder for files that a request names, and how this hospital reads pictures."""

    folder: Path | None = None
    readings: dict[str, Reading] | None = None


class Desk:
    """Answers requests one after another, with a bounded queue.

    Torch already uses all cores for one batch, so computing several requests in parallel would not be faster.
    """

    def __init__(self, keeper: ModelKeeper, monitor: Monitor, audit: Audit, limits: Limits, files: Files) -> None:
        self.keeper, self.monitor, self.audit, self.limits, self.files = keeper, monitor, audit, limits, files
        self._worker = ThreadPoolExecutor(1, "predict")
        self._waiting = asyncio.Semaphore(limits.waiting)

    async def answer(self, form: Form) -> tuple[Served, list[dict[str, Any]]]:
        """Return the model that answered and one entry per patient.

        Raises
        ------
        HTTPException
            There is no model, it has another schema, too many requests wait, or the answer took too long.
        """
        if self._waiting.locked():
            waiting = f"{self.limits.waiting} requests are waiting already; ask again"
            raise HTTPException(503, waiting, {"Retry-After": "1"})
        try:
            async with self._waiting, asyncio.timeout(self.limits.seconds):
                return await asyncio.get_running_loop().run_in_executor(self._worker, self._work, form)
        except TimeoutError:
            raise HTTPException(503, f"no answer within {self.limits.seconds:g} s; ask for fewer patients") from None
        except UserError as error:
            raise HTTPException(503, str(error)) from None

    def close(self) -> None:
        """Stop taking requests."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _work(self, form: Form) -> tuple[Served, list[dict[str, Any]]]:
        served = self.keeper.current()
        if form.fingerprint not in ("", served.schema.fingerprint):
            raise HTTPException(
                409,
                f"fingerprint: the request is for the schema {form.fingerprint[:16]}…, and the current model has the "
                f"schema {served.schema.fingerprint[:16]}…; GET {SCHEMA} describes it",
            )
        with TemporaryDirectory(prefix="remind-serve-") as folder:
            intake = Intake(served.schema, Path(folder), self.files.folder, self.files.readings or {})
            cohort, problems = intake.cohort(form.patients)
            found = served.predictor.outputs(cohort, problems)
        tests = served.next_test.of(found) if form.next_test else None
        try:
            self.audit(served, len(found), int((~found.served_N).sum()))
        except OSError as error:
            raise HTTPException(
                503, f"the audit log cannot be written: {error.strerror}; nothing is answered"
            ) from None
        self.monitor.answered(cohort, found, served.moments)
        return served, answers(found, tests)


def serving_app(
    keeper: ModelKeeper, monitor: Monitor, access: Access, audit: Audit, limits: Limits, files: Files
) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    keeper
        Source of the current model.
    monitor
        Counts for Prometheus.
    access
        Who may send requests.
    audit
        Writes the log entry of a request before it is answered.
    limits, files
        The limits of a request, and the files that it may name.
    """
    desk = Desk(keeper, monitor, audit, limits, files)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    # FastAPI's own /docs pages load scripts from other servers. `pages` shows the same content without scripts.
    app = FastAPI(
        title="federated REMIND: predictions of this hospital's model",
        version=VERSION,
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(sign_in.routes(access, pages.sign_in_page))
    app.add_middleware(Guard, access=access, posts=(PREDICT,), public=PUBLIC)

    @app.post(
        PREDICT,
        tags=["predictions"],
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": pages.REQUEST}}}},
        responses={
            status: {"description": text}
            for status, text in {
                400: "the request is not JSON, or does not follow the schema",
                401: "the token is missing",
                408: "the request did not arrive in time",
                409: "the current model has another schema than the request",
                413: "the request is larger than the limit, or has too many patients",
                503: "there is no model, too many requests wait, or the answer took too long",
            }.items()
        },
        response_model=pages.Answer,
    )
    async def predict(request: Request) -> Response:
        """Predict for one patient or a batch. If a patient gets no prediction, `status` has the reason."""
        begun = time.perf_counter()
        status = 500
        try:
            form = _form(await _body(request, limits), limits)
            served, rows = await desk.answer(form)
            status = 200
            return JSONResponse({"model": served.about, "predictions": rows})
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            monitor.requests.labels(str(status)).inc()
            monitor.seconds.observe(time.perf_counter() - begun)

    @app.get(SCHEMA, tags=["predictions"])
    def schema() -> Response:
        """JSON schema of requests to the current model, by modality: columns, levels, items, codes."""
        return JSONResponse(form_of(_current(keeper).schema, limits.patients))

    @app.get(METRICS, tags=["operation"])
    def metrics() -> Response:
        """Metrics in Prometheus text format; numbers of patients are in steps of the hospital's minimum count."""
        return Response(generate_latest(monitor.registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get(HEALTH, tags=["operation"])
    def health() -> Response:
        """Whether the service runs. Needs no sign-in."""
        return Response("ok\n", media_type="text/plain")

    @app.get(READY, tags=["operation"])
    def ready() -> Response:
        """200 if the newest model is in use, else 503. Needs no sign-in."""
        try:
            keeper.current()
        except UserError:
            return JSONResponse({"ready": False, "newest": False}, 503)
        return JSONResponse({"ready": True, "newest": not keeper.problem})

    @app.get("/model", tags=["operation"])
    def model() -> Response:
        """The current model, and the reason if a newer one could not be loaded."""
        return JSONResponse(_current(keeper).about | {"problem": keeper.problem})

    @app.get(DOCS, include_in_schema=False)
    def described() -> Response:
        return pages.description(app.openapi())

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        words = str(error.detail).encode(errors="backslashreplace").decode()  # it may quote half of a surrogate pair
        return JSONResponse({"detail": words}, error.status_code, error.headers)

    return app


def _current(keeper: ModelKeeper) -> Served:
    try:
        return keeper.current()
    except UserError as error:
        raise HTTPException(503, str(error)) from None


async def _body(request: Request, limits: Limits) -> bytes:
    """Return the bytes of a request, never more than the limit in memory."""
    parts, size = [], 0
    too_large = HTTPException(413, f"the request is larger than {limits.request_bytes} bytes; send fewer patients")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.request_bytes:
        raise too_large
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                size += len(part)
                if size > limits.request_bytes:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise HTTPException(408, f"the request did not arrive within {limits.seconds:g} s") from None
    return b"".join(parts)


def _form(body: bytes, limits: Limits) -> Form:
    try:
        form = Form.model_validate(json.loads(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "request"
        raise HTTPException(400, f"{where}: {first['msg']}; GET {SCHEMA} describes requests") from None
    except (ValueError, RecursionError):
        raise HTTPException(400, "the request is not JSON; send a JSON object with patients") from None
    if not form.patients:
        raise HTTPException(400, "patients: the list is empty; send at least one patient")
    if len(form.patients) > limits.patients:
        raise HTTPException(
            413, f"patients: {len(form.patients)} are more than the limit of {limits.patients}; send several requests"
        )
    return form
