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
            "description": "What the caller has used, and what has happened to its credits.",
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
            "policy": _described(_TEXT, "The name of the policy that holds."),
            "is_unlimited": _described({"type": "boolean"}, "Whether nothing is ever refused."),
            "remaining": _described(_WHOLE, "What can be spent now: allowance and bought credits."),
            "held": _described(_WHOLE, "What open holds have taken, and may give back."),
            "limit": _described(_NO_WHOLE, "The allowance of a period; null without one."),
            "used": _described(_NO_WHOLE, "What of it is spent; null without an allowance."),
            "period_start": _described(_NO_TIME, "When the period began."),
            "period_end": _described(_NO_TIME, "When the next period begins."),
            "warning": _described({"type": "boolean"}, "Whether most of the allowance is used."),
        },
    ),
    "Transaction": _object(
        "One change of the caller's credits.",
        {
            "id": _ID,
            "type": {"type": "string", "enum": list(TransactionType)},
            "amount": _described(_WHOLE, "In credits; negative where some were taken."),
            "description": _TEXT,
            "timestamp": _TIME,
            "balance_after": _described(_NO_WHOLE, "The credits after it; null if not known."),
            "refund_of": {
                "type": ["string", "null"],
                "format": "uuid",
                "description": "The id of the deduct that this gives back.",
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
                "description": "The `cursor` of the next page; null on the last.",
            },
        },
    ),
    "Problem": _object(
        "What went wrong (RFC 9457).",
        {
            "type": {"type": "string", "format": "uri-reference"},
            "title": _TEXT,
            "status": _WHOLE,
            "detail": _TEXT,
            "code": _described(_TEXT, "One word for the reason, for programs."),
        },
    ),
}

_PROBLEMS: Mapping[str, _Schema] = {
    "Problem400": _problem("`limit` or `cursor` is ill-formed."),
    "Problem401": _problem("Nobody knows who asks."),
    "Problem403": _problem("Nobody knows the user."),
    "Problem503": _problem("It cannot be told right now; `Retry-After` says when to ask again."),
}

_USAGE: _Schema = {
    "operationId": "usage",
    "summary": "The caller's credits now",
    "responses": _answers("Usage", "What is used and what is left.", "401", "403", "503"),
}

_HISTORY: _Schema = {
    "operationId": "history",
    "summary": "The caller's transactions, the newest first",
    "parameters": [
        {
            "name": "limit",
            "in": "query",
            "description": "How many transactions a page has at most.",
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
            "description": "The `next_cursor` of the page before.",
            "schema": {"type": "string", "pattern": PATTERN},
        },
    ],
    "responses": _answers("History", "A page.", "400", "401", "503"),
}
