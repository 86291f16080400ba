"""The API of replay and demo. It trusts the client: user and outcome are in the request.

`/answer/404` is charged by the middleware and answers 404. `/converse/...` owns a hold: it takes an
estimate, works, and settles the actual cost. Killing this process kills the owners of all its
open holds, as in production.
"""

import asyncio
import socket
import sys
import time
from collections.abc import Sequence
from http import HTTPStatus
from uuid import UUID

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.types import Scope

from faregate.asgi import FaregateMiddleware
from faregate.bootstrap import build_gate
from faregate.cli.sample_api import serve
from faregate.cli.settings import development_settings
from faregate.domain.decision import Verdict
from faregate.domain.errors import ArchiveUnavailableError, LedgerError
from faregate.domain.hold import Hold, HoldAnswer
from faregate.domain.user import user_id_of
from faregate.gate import Gate

#: The namespace of users: uuid5 of it and the client's address.
REPLAY_NAMESPACE = UUID("b1b4c5f0-53a7-4f0b-8a63-27d1a3f4e7c9")
#: A request field: the address of the client, which only this API trusts.
CLIENT_HEADER = "x-replay-client"
#: A response field: the app answered, not the gate.
SERVED_HEADER = "x-served"
#: Response fields: credits that a settlement took beyond the estimate, and its shortfall.
BEYOND_HEADER = "x-beyond-estimate"
SHORTFALL_HEADER = "x-shortfall"
#: The path of the state: pending voids and refunds, and owned holds.
STATE_PATH = "/state"

#: The lifetime of holds, in milliseconds.
HOLD_TTL_MS = 5_000
#: The longest wait for the answer to a settlement, in seconds; a hold ends soon after its expiry.
SETTLE_S_MAX = 20.0

_UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE
#: The statuses of refusals; any other verdict means to retry later.
_STATUS_OF_REFUSAL = {
    Verdict.OUT_OF_CREDITS: HTTPStatus.PAYMENT_REQUIRED,
    Verdict.CREDITS_HELD: HTTPStatus.TOO_MANY_REQUESTS,
    Verdict.TOO_MANY_HOLDS: HTTPStatus.TOO_MANY_REQUESTS,
    Verdict.UNKNOWN_USER: HTTPStatus.FORBIDDEN,
}


def client_user(address: str) -> UUID:
    """Return the user of a client."""
    return user_id_of(REPLAY_NAMESPACE, address)


def statuses_of(text: str) -> list[str]:
    """Split a list of statuses of the command line: `5xx,404`."""
    return [status.strip() for status in text.split(",") if status.strip()]


def answer_path(status: int) -> str:
    """Return the path of a request that is charged and answered with a status."""
    return f"/answer/{status}"


def converse_path(estimate: int, actual: int, work_s: int) -> str:
    """Return the path of a request that holds credits, works for some seconds, and settles."""
    return f"/converse/{estimate}/{actual}/{work_s}"


def replay_app(gate: Gate, refund_statuses: Sequence[str]) -> Router:
    """Build the API, as small as possible, since it shares the machine with the load."""
    charged = FaregateMiddleware(
        Router([Route("/{status:int}", _answer_by_headers)]),
        gate=gate,
        identify=_replay_client,
        refund_statuses=refund_statuses,
    )
    owner = _Owner(gate)

    async def read_state(_request: Request) -> JSONResponse:
        waiting, given_up = len(gate.retries), gate.retries.given_up
        return JSONResponse({"waiting": waiting, "given_up": given_up, "owned": list(owner.owned)})

    routes = [
        Mount("/answer", app=charged),
        Route("/converse/{estimate:int}/{actual:int}/{work_s:int}", owner.converse),
        Route(STATE_PATH, read_state),
    ]
    return Router(routes, lifespan=gate.lifespan)


async def _answer_by_headers(request: Request) -> Response:
    # A status below 200 is no final response, so no server sends it as one.
    status = max(request.path_params["status"], HTTPStatus.OK)
    has_body = status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    body = f"{status}\n" if has_body else None
    return Response(body, status, headers={SERVED_HEADER: "1"}, media_type="text/plain")


def _replay_client(scope: Scope) -> UUID | None:
    address = Headers(scope=scope).get(CLIENT_HEADER)
    return client_user(address) if address else None


class _Owner:
    """Serves requests with holds."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        #: The ids of the open holds.
        self.owned: set[str] = set()

    async def converse(self, request: Request) -> Response:
        """Hold, work, settle, and return the amounts."""
        user_id = _replay_client(request.scope)
        if user_id is None:
            return Response(status_code=HTTPStatus.UNAUTHORIZED)
        asked = request.path_params
        try:
            hold = await self._gate.hold(user_id, asked["estimate"], ttl_ms=HOLD_TTL_MS)
        except (LedgerError, ArchiveUnavailableError):
            return Response(status_code=_UNAVAILABLE)
        if not hold.allowed:
            verdict = hold.decision.verdict
            return Response(verdict, _STATUS_OF_REFUSAL.get(verdict, _UNAVAILABLE))
        self.owned.add(str(hold.id))
        try:
            await asyncio.sleep(asked["work_s"])
            answer = await self._settle(hold, asked["actual"])
        finally:
            self.owned.remove(str(hold.id))
        if not answer.allowed:
            # Too late: the hold expired, and its work costs nothing.
            return Response(answer.verdict, _UNAVAILABLE)
        headers = {BEYOND_HEADER: str(answer.charged), SHORTFALL_HEADER: str(answer.shortfall)}
        return Response(headers={SERVED_HEADER: "1", **headers})

    async def _settle(self, hold: Hold, actual: int) -> HoldAnswer:
        """Settle. If the gate does it in the background, ask again for the result."""
        until_s = time.monotonic() + SETTLE_S_MAX
        answer = await self._gate.settle(hold, actual)
        while answer.is_pending and time.monotonic() < until_s:
            await self._gate.retries.join(until_s - time.monotonic())
            answer = await self._gate.settle(hold, actual)
        return answer


def main(arguments: Sequence[str]) -> None:
    """Serve the API. Arguments: the number of an open socket, and the statuses."""
    number, refund_status = arguments
    gate = build_gate(development_settings())
    with socket.socket(fileno=int(number)) as listening:
        serve(replay_app(gate, statuses_of(refund_status)), listening)


if __name__ == "__main__":
    main(sys.argv[1:])
