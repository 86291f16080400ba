"""The page of `faregate dev`, which shows charges live.

It is read-only, and serves loopback only.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from faregate.bootstrap import open_reports, open_stream
from faregate.cli.conventions import json_of
from faregate.cli.dev.demo_user import DEMO_USER
from faregate.cli.sockets import LOOPBACK
from faregate.config import Settings
from faregate.domain.errors import FaregateError
from faregate.ops.reconcile import differences

ROWS_MAX = 20
USERS_MAX = 10
_STOP_S_MAX = 10.0
_HTML = Path(__file__).with_name("page.html")
#: The page may run its own script and ask its own server; no other page may frame it.
_FIELDS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"
        " connect-src 'self'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}


def state(settings: Settings) -> dict[str, Any]:
    """Return the data of the page: the newest rows, their users, and the demo user.

    Raises:
        FaregateError: A server does not answer.
    """
    with open_stream(settings) as stream, open_reports(settings) as reports:
        rows = reports.newest_of_all(ROWS_MAX)
        users = list(dict.fromkeys([DEMO_USER, *(row["user_id"] for row in rows)]))[:USERS_MAX]
        # Live balances first; durable ones only for users that Redis does not know.
        live, durable = stream.read_many(users), reports.audit.reached(users)
        balances = {**durable, **live}
        findings = differences(stream, stream, reports.audit, users)
        return {
            "users": [
                {"user_id": user, "is_demo": user == DEMO_USER, **_balance(user, balances)}
                for user in users
            ],
            "rows": rows,
            "pending": stream.pending_count(),
            "dead_letters": reports.audit.dead_letter_count(),
            "drift": [finding.detail for finding in findings],
        }


def _balance(user: UUID, balances: Mapping[UUID, Any]) -> dict[str, int | None]:
    known = balances.get(user)
    return {name: known and getattr(known, name) for name in ("credits", "held")}


def page_app(settings: Settings) -> Starlette:
    """Build the app with the page and its data, which it fetches every second."""

    def page(_request: Request) -> Response:
        return FileResponse(_HTML, headers=_FIELDS)

    def state_page(_request: Request) -> Response:
        try:
            status, found = 200, state(settings)
        except FaregateError as error:
            status, found = 503, {"problem": str(error)}
        return Response(json_of(found), status, _FIELDS, "application/json")

    return Starlette(
        routes=[Route("/", page), Route("/state", state_page)],
        # A page under another host name (DNS rebinding) reads nothing.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])],
    )


@contextmanager
def serving(settings: Settings, listening: socket.socket) -> Iterator[None]:
    """Serve the page from a thread during the block."""
    config = uvicorn.Config(
        page_app(settings), log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), name="page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(_STOP_S_MAX)
