"""HTML pages of the service: sign-in and the API description. They load nothing from other servers and run no script.

The data models of the answers are also here, since the description shows them.
"""

import json
from html import escape
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.responses import HTMLResponse

from remind_client.serving.request import Patient
from remind_client.serving.request import Request as Form

Json = dict[str, Any]


class Estimate(BaseModel):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


class NextTestAnswer(BaseModel):
    """The expected change from one modality that the patient lacks (docs/next-test.md)."""

    test: str  # the modality
    status: str  # "ok", or why there is no estimate
    n: int  # number of this hospital's reference patients
    change: Estimate | None  # of the probabilities
    flips: Estimate | None  # probability of another decision
    gain: Estimate | None  # nats of log-loss, by the model's own probabilities
    measured: Estimate | None  # nats of log-loss, by the labels of these patients


class Prediction(BaseModel):
    """The answer for one patient; null where a value is unknown."""

    id: str
    status: str  # "ok", or why this patient got no prediction
    group: str  # the patient's modality combination
    probabilities: dict[str, float] | None  # class → raw probability
    calibrated: dict[str, float] | None  # class → calibrated probability; null: the run has no calibration
    decision: str | None  # by the operating point, or the most probable class
    train_n: int | None  # training patients of the combination
    gate_open: bool | None  # whether the combination's own router was used; null: the method has no gate
    trusted: bool
    reasons: list[str]  # why the prediction should not be trusted
    next_tests: list[NextTestAnswer] | None  # by missing modality; null: the request did not ask


class Answer(BaseModel):
    """The answer to a request: the model, and one entry per patient in the order of the request."""

    model: dict[str, Any]
    predictions: list[Prediction]


def _request() -> Json:
    schema = Form.model_json_schema()
    schema["properties"]["patients"]["items"] = Patient.model_json_schema()
    return schema


REQUEST = _request()


def sign_in_page(request: Request, status: int, wrong: bool) -> Response:
    """Return the form that takes the token."""
    alarm = '<p role="alert">The token is wrong.</p>' if wrong else ""
    query = f"?{escape(request.url.query)}" if request.url.query else ""
    form = (
        f'<form method="post" action="/sign-in{query}"><label>Token '
        '<input name="token" type="password" required></label> '
        "<button>Sign in</button></form>"
    )
    hint = "<p>The token is in the file of <code>--token-file</code>. Without one, remind-site serve prints it.</p>"
    return _page("Sign in", alarm + form + hint, status)


def description(openapi: Json) -> Response:
    """Return the OpenAPI description as a page."""
    parts = [
        f"<p>OpenAPI: <a href='/openapi.json'>/openapi.json</a>. Version {escape(openapi['info']['version'])}.</p>"
    ]
    for path, methods in openapi["paths"].items():
        for method, one in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(one.get('description') or one.get('summary', ''))}</p>")
            body = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if body:
                parts.append("<p>Request:</p>" + _shown(body))
            rows = "".join(
                f"<tr><td>{escape(code)}</td><td>{escape(answer['description'])}</td></tr>"
                for code, answer in sorted(one["responses"].items())
            )
            parts.append(f"<table><tr><th>Status</th><th>Meaning</th></tr>{rows}</table>")
    for name, schema in openapi.get("components", {}).get("schemas", {}).items():
        parts.append(f"<h2>{escape(name)}</h2>" + _shown(schema))
    return _page(openapi["info"]["title"], "".join(parts))


def _shown(schema: Json) -> str:
    return f"<pre>{escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre>"


def _page(title: str, body: str, status: int = 200) -> Response:
    text = f"<h1>{escape(title)}</h1>{body}"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head>{head}</head><body><main>{text}</main></body></html>', status
    )
