"""Calls ASGI apps by hand, one request at a time, over a gate in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.memory.values import unix_ms
from faregate.asgi import FaregateMiddleware
from faregate.domain.decision import Decision, Verdict
from faregate.domain.policy import CreditPolicy
from faregate.domain.request import Refund
from faregate.domain.transaction import CreditTransaction, TransactionType
from faregate.gate import Gate
from lossy_ledger import LossyLedger

USER = UUID(int=1)
LIFESPAN_S_MAX = 20


class FragileLedger(LossyLedger):
    """A ledger whose refunds fail as a test says, too."""

    def __init__(self, now_ms: Callable[[], int] = unix_ms) -> None:
        super().__init__(now_ms)
        self.refund_errors: list[Exception] = []
        #: Whether refunds are refused, since records wait for too long.
        self.is_backlogged = False
        #: Runs before each refund.
        self.before_refund: Callable[[], Awaitable[object]] | None = None
        self._refund, self.refund = self.refund, self._refund_as_told

    async def _refund_as_told(self, refund: Refund) -> Decision:
        if self.before_refund:
            await self.before_refund()
        if self.refund_errors:
            raise self.refund_errors.pop()
        decision = Decision(
            verdict=Verdict.BACKLOG,
            user_id=refund.user_id,
            transaction_id=refund.transaction_id,
            amount=0,
            credits=0,
        )
        return decision if self.is_backlogged else await self._refund(refund)


class World:
    """A gate in memory, with one user that has signed up."""

    def __init__(
        self,
        policy: CreditPolicy | None = None,
        *,
        credits: int = 3,
        cost: int = 1,
        now_ms: Callable[[], int] = unix_ms,
    ) -> None:
        policy = policy or CreditPolicy(starting_credits=credits, request_cost=cost)
        self.ledger = FragileLedger(now_ms)
        self.store = MemoryStore(starting_credits=policy.starting_credits)
        self.store.users.add(USER)
        self.gate = Gate(self.ledger, self.store, policy)

    def around(self, app: ASGIApp, **settings: Any) -> FaregateMiddleware:
        """Mount the middleware; every request is the user's unless the settings say otherwise."""
        settings.setdefault("identify", lambda _: USER)
        return FaregateMiddleware(app, self.gate, **settings)

    async def credits(self) -> int:
        """The user's live balance."""
        user = await self.gate.balance(USER)
        assert user is not None
        return user.credits

    def records(self, kind: TransactionType) -> list[CreditTransaction]:
        """What was recorded of one type, oldest first."""
        return [record for record in self.ledger.pending.values() if record.type is kind]

    @property
    def amounts(self) -> list[int]:
        """All changes of balances, oldest first."""
        return [record.amount for record in self.ledger.pending.values()]

    @property
    def refunds(self) -> list[CreditTransaction]:
        return self.records(TransactionType.REFUND)


@dataclass
class Answer:
    """What a client got."""

    messages: list[Message] = field(default_factory=list)
    #: What the app raised, if anything.
    error: Exception | None = None

    @property
    def status(self) -> int:
        status = self.messages[0]["status"]
        assert isinstance(status, int)
        return status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.messages[0]["headers"])

    def header(self, name: bytes) -> bytes | None:
        """The value of a header that may be there once at most."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1
        return values[0] if values else None

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])


def http_scope(
    method: str = "GET", headers: Sequence[tuple[bytes, bytes]] = (), path: str = "/"
) -> Scope:
    """The scope of a request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }


async def call(
    app: ASGIApp,
    scope: Scope | None = None,
    *,
    disconnects: bool = False,
    on_send: Callable[[Message], None] = lambda _: None,
) -> Answer:
    """Send one request and return all of its response; what the app raises is kept, too."""
    answer = Answer()

    request: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
    is_over = asyncio.Event()

    async def receive() -> Message:
        if request and not disconnects:
            return request.pop()
        if not disconnects:
            # As of a server: nothing more comes before the response is over.
            await is_over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        on_send(message)
        answer.messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            is_over.set()

    try:
        await app(scope or http_scope(), receive, send)
    except Exception as error:
        answer.error = error
    return answer


def answers(
    status: int, *chunks: bytes, headers: Sequence[tuple[bytes, bytes]] = ((b"x-app", b"1"),)
) -> ASGIApp:
    """An app that answers every request alike, chunk by chunk."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    return app


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Start an app, and stop it at the end, as a server does."""
    sent: asyncio.Queue[Message] = asyncio.Queue()
    answered: asyncio.Queue[Message] = asyncio.Queue()
    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    running = asyncio.ensure_future(app(scope, sent.get, answered.put))

    async def tell(phase: str) -> None:
        await sent.put({"type": f"lifespan.{phase}"})
        async with asyncio.timeout(LIFESPAN_S_MAX):
            assert await answered.get() == {"type": f"lifespan.{phase}.complete"}

    try:
        await tell("startup")
        yield
        await tell("shutdown")
        await running
    finally:
        running.cancel()
