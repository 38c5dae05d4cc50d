"""Server-sent events: notify the page when the store changes."""

import asyncio
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from remind_server.dashboard.reader import Reader

LOOK = 0.5  # seconds between two queries of the store
LONGEST = 3600.0  # seconds; then the browser reconnects, which checks its session again


def routes(reader: Reader) -> APIRouter:
    """Return the streams for the list of runs and for one run."""
    router = APIRouter(prefix="/api", tags=["events"])

    @router.get("/events", response_class=EventSourceResponse)
    async def any_run() -> AsyncIterator[ServerSentEvent]:
        """Send an event named `change` when a run begins, ends, stalls or finishes a round."""
        async for event in _changes(reader.news):
            yield event

    def known(run_id: int) -> None:
        reader.state(run_id)  # its error must come before the stream begins

    @router.get("/runs/{run_id}/events", response_class=EventSourceResponse, dependencies=[Depends(known)])
    async def one_run(run_id: int) -> AsyncIterator[ServerSentEvent]:
        """Send the same for one run, and also when an answer is taken."""
        async for event in _changes(lambda: _word(reader, run_id)):
            yield event

    return router


async def _changes(look: Callable[[], str]) -> AsyncIterator[ServerSentEvent]:
    """Send one event immediately and one for each change; its data is the state, which the page compares."""
    seen, left = "", LONGEST
    while left > 0:
        now = await run_in_threadpool(look)
        if now != seen:
            seen = now
            yield ServerSentEvent(event="change", raw_data=now, retry=1000)
        await asyncio.sleep(LOOK)
        left -= LOOK


def _word(reader: Reader, run_id: int) -> str:
    run = reader.state(run_id)
    return f"{run.id}:{run.change}:{run.status}:{run.answers}"
