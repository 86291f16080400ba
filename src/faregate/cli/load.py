"""The client of replay and demo: sends requests over HTTP and counts their outcomes.

The requests of a user are sent one after the other; those of many users are sent at once. A header
that only the app sets tells responses of the app from those of the gate, so that a 503 of the log
is not mistaken for an outage.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from http import HTTPStatus

from faregate.cli.http_client import Answer, HttpConnection, RequestFailedError
from faregate.cli.replay_api import (
    BEYOND_HEADER,
    CLIENT_HEADER,
    SERVED_HEADER,
    SHORTFALL_HEADER,
    STATE_PATH,
)

#: How long a request is repeated while the gate answers 503, in seconds.
RETRY_S_MAX = 120.0
RETRY_DELAY_MIN_S = 0.1
RETRY_DELAY_MAX_S = 2.0
#: How many requests are read ahead.
READ_AHEAD_MAX = 10_000
#: How many failures are reported in words; all are counted.
FAILURES_KEPT_MAX = 5
FAILURE_CHARACTERS_MAX = 200

_OUT_OF_CREDITS = (HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.TOO_MANY_REQUESTS)
_NOBODY = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRequest:
    """One request to send."""

    #: The address of the user; empty for an anonymous request.
    client: str
    #: The path of the API.
    path: str
    #: Requests of one queue are sent one after the other.
    queue: str
    #: The cost of the request if the app serves it, in credits.
    cost: int = 1
    #: Whether its owner is killed between hold and settlement.
    is_killed: bool = False


@dataclass(slots=True, kw_only=True)
class LoadCounts:
    """The outcomes of requests, as the client saw them."""

    #: Requests of the plan that have ended.
    requests: int = 0
    #: Requests that the app answered.
    allowed: int = 0
    #: Of these, those with a refunded status.
    refunded: int = 0
    #: The cost of those that were not refunded, in credits: by the plan, less the shortfall.
    spent: int = 0
    #: Requests whose settlement took more than the estimate.
    beyond_estimate: int = 0
    #: Holds whose owner was killed before it could settle.
    killed: int = 0
    #: Requests that the gate refused: out of credits.
    refused: int = 0
    #: Requests that the gate refused: no or an unknown user.
    unknown: int = 0
    #: The repetitions of requests that the gate could not decide.
    retried: int = 0
    #: Requests with an unknown outcome.
    failed: int = 0
    #: The first of these, in words.
    failures: list[str] = field(default_factory=list)

    def __add__(self, other: "LoadCounts") -> "LoadCounts":
        # All fields are added: numbers, and the list of failures.
        return LoadCounts(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiState:
    """The work that an API has left."""

    #: Voids and refunds that wait.
    waiting: int
    #: Voids and refunds that were given up.
    given_up: int
    #: The ids of the holds that it owns.
    owned: Sequence[str]


class Sender:
    """Sends requests to the API of a stack. Belongs to one event loop."""

    def __init__(
        self, host: str, port: int, *, concurrency: int, refund_statuses: frozenset[int]
    ) -> None:
        self._address = (host, port)
        self._concurrency = concurrency
        self._refund_statuses = refund_statuses
        self._settling = asyncio.Lock()

    async def send_all(
        self, plan: Iterable[PlannedRequest], on_outcome: Callable[[], None] = lambda: None
    ) -> LoadCounts:
        """Send a plan, at most `concurrency` requests at once; return the counts."""
        counts = LoadCounts()
        queues = _Queues()

        async def work() -> None:
            async with HttpConnection(*self._address) as connection:
                while (request := await queues.take()) is not None:
                    await self._send(connection, request, counts)
                    counts.requests += 1
                    on_outcome()
                    queues.release(request.queue)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._concurrency):
                tasks.create_task(work())
            for request in plan:
                await queues.put(request)
            queues.close()
        return counts

    async def _send(
        self, connection: HttpConnection, request: PlannedRequest, counts: LoadCounts
    ) -> None:
        gives_up_at_s = time.monotonic() + RETRY_S_MAX
        delay_s = RETRY_DELAY_MIN_S
        headers = {CLIENT_HEADER: request.client} if request.client else {}
        while True:
            try:
                answer = await connection.get(request.path, headers)
            except RequestFailedError as error:
                _count_failure(counts, str(error))
                return
            is_gates = SERVED_HEADER not in answer.headers
            is_503 = answer.status == HTTPStatus.SERVICE_UNAVAILABLE
            if not (is_gates and is_503 and time.monotonic() < gives_up_at_s):
                await self._count(request, answer, counts)
                return
            # The request was not charged or is being voided. The next attempt must not overtake the
            # void.
            counts.retried += 1
            await asyncio.sleep(delay_s)
            await self.settle(gives_up_at_s - time.monotonic())
            delay_s = min(delay_s * 2, RETRY_DELAY_MAX_S)

    async def _count(self, request: PlannedRequest, answer: Answer, counts: LoadCounts) -> None:
        if SERVED_HEADER in answer.headers:
            counts.allowed += 1
            if answer.status in self._refund_statuses:
                counts.refunded += 1
                # A void that could not be made at once is made in the background: wait for it.
                await self.settle(RETRY_S_MAX)
            else:
                counts.spent += request.cost - int(answer.headers.get(SHORTFALL_HEADER, 0))
                counts.beyond_estimate += int(answer.headers.get(BEYOND_HEADER, 0)) > 0
        elif answer.status in _OUT_OF_CREDITS:
            counts.refused += 1
        elif answer.status in _NOBODY:
            counts.unknown += 1
        else:
            body = answer.body.decode(errors="replace")[:FAILURE_CHARACTERS_MAX]
            _count_failure(counts, f"the gate answered {answer.status} {body}")

    async def settle(self, timeout_s: float) -> bool:
        """Wait until the API has no void or refund left; return whether that was in time."""
        until_s = time.monotonic() + timeout_s
        async with self._settling, HttpConnection(*self._address) as connection:
            while True:
                try:
                    waiting = (await read_state(connection)).waiting
                except RequestFailedError:
                    return False
                if not waiting or time.monotonic() >= until_s:
                    return not waiting
                await asyncio.sleep(RETRY_DELAY_MIN_S)

    async def problems(self, counts: LoadCounts) -> list[str]:
        """Wait until the API is idle; return a sentence for each problem that the client saw."""
        found = [f"a request failed: {failure}" for failure in counts.failures]
        if not await self.settle(RETRY_S_MAX):
            found.append(f"the API still has voids or refunds to do after {RETRY_S_MAX:.0f} s")
            return found
        async with HttpConnection(*self._address) as connection:
            given_up = (await read_state(connection)).given_up
        return found + ([f"the API has given up {given_up} voids or refunds"] if given_up else [])


async def read_state(connection: HttpConnection) -> ApiState:
    """Ask the API for the work that it has left.

    Raises:
        RequestFailedError: The API does not answer.
    """
    return ApiState(**json.loads((await connection.get(STATE_PATH, {})).body))


def _count_failure(counts: LoadCounts, what: str) -> None:
    counts.failed += 1
    if len(counts.failures) < FAILURES_KEPT_MAX:
        counts.failures.append(what.strip())


class _Queues:
    """Queues of requests, each with at most one request in flight."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[PlannedRequest]] = {}
        self._ready: asyncio.Queue[str | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(READ_AHEAD_MAX)
        self._left = 0
        self._closed = False

    async def put(self, request: PlannedRequest) -> None:
        """Add a request, once there is room."""
        await self._room.acquire()
        self._left += 1
        if request.queue in self._waiting:
            self._waiting[request.queue].append(request)
        else:
            self._waiting[request.queue] = deque([request])
            self._ready.put_nowait(request.queue)

    async def take(self) -> PlannedRequest | None:
        """Return the next request of a queue without one in flight; None at the end."""
        queue = await self._ready.get()
        if queue is None:
            # Wakes the next waiter.
            self._ready.put_nowait(None)
            return None
        return self._waiting[queue].popleft()

    def release(self, queue: str) -> None:
        """Note that the request of a queue has ended."""
        self._left -= 1
        self._room.release()
        if self._waiting[queue]:
            self._ready.put_nowait(queue)
        else:
            del self._waiting[queue]
        self._end_if_done()

    def close(self) -> None:
        """Note that nothing more will be put."""
        self._closed = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._closed and not self._left:
            self._ready.put_nowait(None)
