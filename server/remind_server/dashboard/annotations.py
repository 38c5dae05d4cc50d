"""Tags, notes and the archive mark of a run: the only data that a page changes."""

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse

from remind.errors import UserError
from remind.web.forms import fields
from remind_server.dashboard.reader import Reader
from remind_server.store.open import writing

ANNOTATE = "/annotate"
MOST_TAGS, MOST_NOTES = 200, 4000  # letters
LONGEST_FORM = 30_000  # bytes


def routes(reader: Reader) -> APIRouter:
    """Return the route of the form on the page of a run. It refuses forms of other web sites."""
    router = APIRouter(include_in_schema=False)

    @router.post(ANNOTATE)
    async def annotate(request: Request) -> Response:
        form = await fields(request, LONGEST_FORM)
        run_id = int(form["run"]) if form.get("run", "").isdecimal() else 0
        write(reader, run_id, form.get("tags", ""), form.get("notes", ""), "archived" in form)
        return RedirectResponse(f"/runs/{run_id}#annotations", 303)

    return router


def write(reader: Reader, run_id: int, tags: str, notes: str, archived: bool) -> None:
    """Store tags, notes and the archive mark of a run.

    Raises
    ------
    UserError
        There is no such run, or the text is too long.
    """
    words = " ".join(dict.fromkeys(tags.replace(",", " ").split()))
    for name, text, most in (("tags", words, MOST_TAGS), ("notes", notes, MOST_NOTES)):
        if len(text) > most:
            raise UserError(f"{name}: {len(text)} letters, at most {most} are kept")
    with Session(writing(reader.engine)) as session, session.begin():
        run = reader.run(session, run_id)
        run.tags, run.notes, run.archived = words, notes.replace("\r\n", "\n").strip(), archived
