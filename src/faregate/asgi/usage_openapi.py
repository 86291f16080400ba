"""The description of the usage app in OpenAPI 3.1: both answers, and the problems."""

from collections.abc import Mapping
from typing import TypeAlias

from faregate.asgi.cursor import PATTERN
from faregate.domain.history import PAGE_LENGTH, PAGE_LENGTH_MAX
from faregate.domain.transaction import TransactionType

_Schema: TypeAlias = Mapping[str, object]

_WHOLE: _Schema = {"type": "integer"}
_NO_WHOLE: _Schema = {"type": ["integer", "null"]}
_TEXT: _Schema = {"type": "string"}
_ID: _Schema = {"type": "string", "format": "uuid"}
_TIME: _Schema = {"type": "string", "format": "date-time"}
_NO_TIME: _Schema = {"type": ["string", "null"], "format": "date-time"}


def openapi(root: str) -> dict[str, object]:
    """Return the document, for an app that is mounted at `root`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Usage of credits",
            "version": "1",
            "description": "The caller's usage and transactions.",
        },
        "servers": [{"url": root or "/"}],
        "paths": {"/usage": {"get": _USAGE}, "/usage/history": {"get": _HISTORY}},
        "components": {"schemas": _SCHEMAS, "responses": _PROBLEMS},
    }


def _object(description: str, members: Mapping[str, _Schema]) -> _Schema:
    """Return the schema of an object that has all of its members."""
    return {
        "type": "object",
        "description": description,
        "required": list(members),
        "properties": members,
    }


def _described(schema: _Schema, description: str) -> _Schema:
    return {**schema, "description": description}


def _reference(kind: str, name: str) -> _Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


def _answers(schema: str, description: str, *problems: str) -> dict[str, object]:
    """Return the responses of an operation: the one of 200, and problems by their statuses."""
    content = {"application/json": {"schema": _reference("schemas", schema)}}
    no_store = {"schema": {"const": "no-store"}}
    return {
        "200": {
            "description": description,
            "headers": {"Cache-Control": no_store},
            "content": content,
        },
        **{status: _reference("responses", f"Problem{status}") for status in problems},
    }


def _problem(description: str) -> _Schema:
    content = {"application/problem+json": {"schema": _reference("schemas", "Problem")}}
    return {"description": description, "content": content}


_SCHEMAS: Mapping[str, _Schema] = {
    "Usage": _object(
        "The caller's credits now.",
        {
            "policy": _described(_TEXT, "The name of the policy that applies."),
            "is_unlimited": _described({"type": "boolean"}, "Whether the policy is unlimited."),
            "remaining": _described(_WHOLE, "Credits to spend now: allowance and bought credits."),
            "held": _described(_WHOLE, "Credits in open holds; settlements may refund them."),
            "limit": _described(_NO_WHOLE, "The allowance of a period; null without an allowance."),
            "used": _described(_NO_WHOLE, "Spent from the allowance; null without an allowance."),
            "period_start": _described(_NO_TIME, "The start of the period."),
            "period_end": _described(_NO_TIME, "The start of the next period."),
            "warning": _described({"type": "boolean"}, "Whether most of the allowance is used."),
        },
    ),
    "Transaction": _object(
        "One change of the caller's credits.",
        {
            "id": _ID,
            "type": {"type": "string", "enum": list(TransactionType)},
            "amount": _described(_WHOLE, "In credits; negative for a charge."),
            "description": _TEXT,
            "timestamp": _TIME,
            "balance_after": _described(_NO_WHOLE, "The balance after it; null if unknown."),
            "refund_of": {
                "type": ["string", "null"],
                "format": "uuid",
                "description": "The id of the deduct that this refunds.",
            },
        },
    ),
    "History": _object(
        "A page of the caller's transactions, the newest first.",
        {
            "transactions": {
                "type": "array",
                "maxItems": PAGE_LENGTH_MAX,
                "items": _reference("schemas", "Transaction"),
            },
            "next_cursor": {
                "type": ["string", "null"],
                "pattern": PATTERN,
                "description": "The `cursor` of the next page; null on the last page.",
            },
        },
    ),
    "Problem": _object(
        "Problem details (RFC 9457).",
        {
            "type": {"type": "string", "format": "uri-reference"},
            "title": _TEXT,
            "status": _WHOLE,
            "detail": _TEXT,
            "code": _described(_TEXT, "A name of the reason, for programs."),
        },
    ),
}

_PROBLEMS: Mapping[str, _Schema] = {
    "Problem400": _problem("`limit` or `cursor` is invalid."),
    "Problem401": _problem("The request has no valid credentials."),
    "Problem403": _problem("The user has no credit account."),
    "Problem503": _problem("The service is unavailable; `Retry-After` says when to try again."),
}

_USAGE: _Schema = {
    "operationId": "usage",
    "summary": "The caller's credits now",
    "responses": _answers("Usage", "Used and remaining credits.", "401", "403", "503"),
}

_HISTORY: _Schema = {
    "operationId": "history",
    "summary": "The caller's transactions, the newest first",
    "parameters": [
        {
            "name": "limit",
            "in": "query",
            "description": "The maximum number of transactions on a page.",
            "schema": {
                "type": "integer",
                "minimum": 1,
                "maximum": PAGE_LENGTH_MAX,
                "default": PAGE_LENGTH,
            },
        },
        {
            "name": "cursor",
            "in": "query",
            "description": "The `next_cursor` of the previous page.",
            "schema": {"type": "string", "pattern": PATTERN},
        },
    ],
    "responses": _answers("History", "A page of transactions.", "400", "401", "503"),
}
