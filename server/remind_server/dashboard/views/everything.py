"""Everything that the page shows of a run as one file: every CSV download, and run, verdict and timeline as JSON."""

import inspect
import io
import json
import zipfile
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.groups import group_table
from remind_server.dashboard.views.report import run_report
from remind_server.dashboard.views.timeline import timeline
from remind_server.dashboard.views.verdict import verdict

PREFIX = "/runs/{run_id}/"


def add_everything(router: APIRouter, reader: Reader) -> None:
    """Add the route to the router of the CSV files. The file has all CSV files of the router, also later ones."""

    @router.get(f"{PREFIX}everything.zip")
    async def everything(run_id: int) -> Response:
        """Every table of the run, of validation and test patients, in one file."""
        report = await run_in_threadpool(run_report, reader, run_id)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, call in _tables(router, sorted({"validation", report.patients})):
                response: StreamingResponse = await run_in_threadpool(call, run_id)
                parts = [str(part) async for part in response.body_iterator]
                archive.writestr(f"run{run_id}/{name}", "".join(parts))
            score = reader.score(None, run_id)
            in_short = verdict(reader, group_table(reader, run_id, score), score)
            whole = {"run": report, "verdict": in_short, "timeline": timeline(reader, run_id)}
            for name, content in whole.items():
                text = json.dumps(
                    TypeAdapter(type(content)).dump_python(content, mode="json"), indent=1, ensure_ascii=False
                )
                archive.writestr(f"run{run_id}/{name}.json", text)
        headers = {"Content-Disposition": f'attachment; filename="run{run_id}.zip"'}
        return Response(buffer.getvalue(), media_type="application/zip", headers=headers)


def _tables(router: APIRouter, patients: list[str]) -> Iterable[tuple[str, Any]]:
    """Yield the name of each CSV file and the function that makes it."""
    for route in router.routes:
        if isinstance(route, APIRoute) and route.path.startswith(PREFIX) and route.path.endswith(".csv"):
            name = route.path.removeprefix(PREFIX)
            if "on" in inspect.signature(route.endpoint).parameters:
                for kind in patients:
                    yield name.replace(".csv", f"-{kind}.csv"), _of(route.endpoint, kind)
            else:
                yield name, route.endpoint


def _of(endpoint: Any, kind: str) -> Any:
    return lambda run_id: endpoint(run_id, on=kind)
