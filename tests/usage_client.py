"""Asks the usage app, and holds each answer against the document in which the app describes it."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator
from starlette.types import ASGIApp

from asgi_client import Answer, call, http_scope
from faregate.asgi import usage_app
from faregate.gate import Gate


def app_of(gate: Gate | Callable[[], Gate], user_id: UUID | None) -> ASGIApp:
    """The app, asked by one user."""
    return usage_app(gate, lambda _: user_id)


async def get(app: ASGIApp, path: str, query: str = "", method: str = "GET") -> Answer:
    scope = http_scope(method)
    scope.update(path=path, raw_path=path.encode(), query_string=query.encode())
    answer = await call(app, scope)
    assert answer.error is None
    return answer


async def read(app: ASGIApp, path: str, query: str = "") -> dict[str, Any]:
    """The body of an answer, once it is what the document promises."""
    answer = await get(app, path, query)
    body: dict[str, Any] = json.loads(answer.body)
    check(path, answer, body, await document(app))
    return body


async def document(app: ASGIApp) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((await get(app, "/usage/openapi.json")).body)
    return found


def check(path: str, answer: Answer, body: object, described: dict[str, Any]) -> None:
    """Hold an answer against the document: media type, schema, and nothing that is not in it."""
    response = described["paths"][path]["get"]["responses"][str(answer.status)]
    if "$ref" in response:
        response = described["components"]["responses"][response["$ref"].rpartition("/")[2]]
    ((media_type, content),) = response["content"].items()
    assert (answer.header(b"content-type") or b"").decode() == media_type
    assert answer.header(b"cache-control") == b"no-store"
    schema = {**content["schema"], "components": described["components"]}
    checker = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    checker.validate(body)
    if answer.status == 200:
        name = content["schema"]["$ref"].rpartition("/")[2]
        assert isinstance(body, dict)
        assert body.keys() == described["components"]["schemas"][name]["properties"].keys()
