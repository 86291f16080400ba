"""The path of a request that is charged, from the middleware to the socket."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import faregate
from asgi_client import USER, answers, call
from faregate import CreditPolicy, Gate
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.redis.lane import Lane
from faregate.adapters.redis.link import Link
from faregate.asgi import FaregateMiddleware
from redis_ledger import make_ledger

pytestmark = pytest.mark.redis

FRAMES_MAX = 12
PACKAGE = str(Path(faregate.__file__).parent)


def frames_to_here() -> list[str]:
    """The functions of the package that run just now, from the outermost on."""
    names, frame = [], sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename.startswith(PACKAGE):
            names.append(frame.f_code.co_qualname)
    return names[::-1]


def noting(function: Callable[..., Any], paths: list[list[str]]) -> Callable[..., Any]:
    """The same function, which notes the path by which it is called."""

    def note(*arguments: Any, **named: Any) -> Any:
        paths.append(frames_to_here())
        return function(*arguments, **named)

    return note


async def test_the_path_from_the_middleware_to_the_socket_is_short(
    ledger_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ARCHITECTURE.md says: a dozen frames, and none of them for what is rare."""
    to_queue: list[list[str]] = []
    to_link: list[list[str]] = []
    store = MemoryStore(starting_credits=3)
    store.users.add(USER)
    gate = Gate(make_ledger(ledger_redis), store, CreditPolicy(starting_credits=3))
    app = FaregateMiddleware(answers(200), gate, identify=lambda _: USER)
    assert (await call(app)).status == 200

    monkeypatch.setattr(Lane, "_pack", noting(Lane._pack, to_queue))
    monkeypatch.setattr(Link, "send", noting(Link.send, to_link))
    assert (await call(app)).status == 200
    await gate.aclose()

    (queued,), (sent,) = to_queue, to_link
    # The lane sends in the next turn of the loop, or at once where nobody else asks.
    path = sent if sent[0] == queued[0] else queued + sent
    assert path[0] == "FaregateMiddleware.__call__"
    # `Link.send` writes to the socket.
    assert len([*path, "Link.send"]) <= FRAMES_MAX, path
