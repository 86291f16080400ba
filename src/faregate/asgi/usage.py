"""An app to mount that shows users their usage and their history.

    routes = [Mount("/api", app=gated), Mount("/", app=usage_app(gate, identify))]

| GET                   | answers                                                             |
|-----------------------|---------------------------------------------------------------------|
| `/usage`              | the caller's credits now: used, limit, remaining, held, period      |
| `/usage/history`      | the caller's own transactions, the newest first, page by page       |
| `/usage/openapi.json` | the description of both, for programs; to anybody                   |

It charges and records nothing, so mount it beside the middleware, not behind it. Responses are not
cached. Errors are problems (see `problems`).
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from faregate.asgi.answers import answer
from faregate.asgi.cursor import read_cursor, write_cursor
from faregate.asgi.headers import Headers, printable
from faregate.asgi.identity import Caller, Identify, caller_of
from faregate.asgi.logs import RequestLog
from faregate.asgi.problems import (
    IDENTITY_UNAVAILABLE,
    INVALID_CURSOR,
    INVALID_LIMIT,
    NO_IDENTITY,
    UNAVAILABLE,
    UNKNOWN_USER,
    Problem,
    problem_of_outage,
)
from faregate.asgi.usage_openapi import openapi
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    IdentityUnavailableError,
    LedgerError,
    UnknownTierError,
)
from faregate.domain.history import PAGE_LENGTH, PAGE_LENGTH_MAX, HistoryRow
from faregate.domain.usage import Usage
from faregate.gate import Gate

Members: TypeAlias = Mapping[str, object]
#: Returns the answer for a caller and the query of the URL.
_Read: TypeAlias = Callable[[Gate, Caller, QueryParams], Awaitable[Members | Problem]]


def usage_app(
    gate: Gate | Callable[[], Gate], identify: Identify, *, challenge: str = "Bearer"
) -> Starlette:
    """Build the app.

    Args:
        gate: The gate, or a function that returns it, called for each request. The outer
            application opens and closes it.
        identify: Returns the caller, as for the middleware. None is a 401.
        challenge: The WWW-Authenticate field of a 401, which tells clients what to send.

    Raises:
        TypeError: The gate or the identity function has the wrong type.
        ConfigurationError: The challenge is no valid header field.
    """
    if not callable(identify):
        raise TypeError("give an identity function: `identify(scope)` returns the caller that asks")
    if not isinstance(gate, Gate) and not callable(gate):
        raise TypeError(f"gate must be a Gate or a function that returns one, not {gate!r}")
    fields = [(b"www-authenticate", printable(challenge, "the challenge of a 401").encode())]

    def route(path: str, read: _Read) -> Route:
        return Route(path, _Resource(gate, identify, fields, read), methods=["GET"])

    return Starlette(
        routes=[
            route("/usage", _read_usage),
            route("/usage/history", _read_history),
            Route("/usage/openapi.json", _describe),
        ]
    )


class _Resource:
    """The responses of one path to identified callers."""

    def __init__(
        self,
        gate: Gate | Callable[[], Gate],
        identify: Identify,
        challenge: Headers,
        read: _Read,
    ) -> None:
        self._gate = gate
        self._identify = identify
        self._challenge = challenge
        self._read = read
        self._log = RequestLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            caller = await caller_of(self._identify, scope)
        except IdentityUnavailableError as error:
            self._log.warning("usage refused, identity unavailable: %s", error)
            await answer(IDENTITY_UNAVAILABLE, scope, send, fields=[])
            return
        if caller is None:
            await answer(NO_IDENTITY, scope, send, fields=self._challenge)
            return
        members = await self._answer_to(caller, QueryParams(scope["query_string"]))
        if isinstance(members, Problem):
            await answer(members, scope, send, fields=[])
            return
        response = JSONResponse(members, headers={"cache-control": "no-store"})
        await response(scope, receive, send)

    async def _answer_to(self, caller: Caller, query: QueryParams) -> Members | Problem:
        gate = self._gate if isinstance(self._gate, Gate) else self._gate()
        try:
            return await self._read(gate, caller, query)
        except (LedgerError, ArchiveUnavailableError) as error:
            self._log.warning("usage refused, ledger unavailable: %s", error)
            return problem_of_outage(error)
        except UnknownTierError as error:
            self._log.error("usage refused, unknown tier: %s", error)
        except ConfigurationError as error:
            self._log.error("usage refused, configuration error: %s", error)
        return UNAVAILABLE


async def _read_usage(gate: Gate, caller: Caller, _query: QueryParams) -> Members | Problem:
    usage = await gate.usage(caller.user_id, tier=caller.tier, creates=False)
    return UNKNOWN_USER if usage is None else usage_members(usage)


async def _read_history(gate: Gate, caller: Caller, query: QueryParams) -> Members | Problem:
    limit = query.get("limit", str(PAGE_LENGTH))
    # At most the digits of the largest limit.
    if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= PAGE_LENGTH_MAX:
        return INVALID_LIMIT
    cursor = query.get("cursor")
    before = None if cursor is None else read_cursor(cursor)
    if cursor is not None and before is None:
        return INVALID_CURSOR
    page = await gate.history(caller.user_id, count_max=int(limit), before=before)
    return {
        "transactions": [history_members(row) for row in page.rows],
        "next_cursor": None if page.ends_at is None else write_cursor(page.ends_at),
    }


async def _describe(request: Request) -> JSONResponse:
    return JSONResponse(openapi(request.scope.get("root_path", "")))


def usage_members(usage: Usage) -> Members:
    """Return a usage as the members of a JSON object."""
    return {
        "policy": usage.policy,
        "is_unlimited": usage.is_unlimited,
        "remaining": usage.remaining,
        "held": usage.held,
        "limit": usage.limit,
        "used": usage.used,
        "period_start": _time_of(usage.period_start_ms),
        "period_end": _time_of(usage.period_end_ms),
        "warning": usage.is_warning,
    }


def history_members(row: HistoryRow) -> Members:
    """Return a row as the members of a JSON object."""
    return {
        "id": str(row.id),
        "type": row.type,
        "amount": row.amount,
        "description": row.description,
        "timestamp": _rfc3339(row.timestamp),
        "balance_after": row.balance_after,
        "refund_of": None if row.refund_of is None else str(row.refund_of),
    }


def _time_of(time_ms: int | None) -> str | None:
    return None if time_ms is None else _rfc3339(datetime.fromtimestamp(time_ms / 1000, UTC))


def _rfc3339(time: datetime) -> str:
    """Return a UTC time in RFC 3339, with `Z`."""
    return time.isoformat().removesuffix("+00:00") + "Z"
