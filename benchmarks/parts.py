"""`python -m benchmarks.parts`: where the processor time of a request goes, in one process.

64 callers ask an ASGI app without a server in front: the bare app, the middleware with a decision
that is there at once, the middleware, and the gate alone. The differences are the parts. Redis runs
beside it, and its time is not counted. The smallest of many short rounds is told, since whatever
else runs only adds to it.
"""

import asyncio
import cProfile
import pstats
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message

from benchmarks.apps import USER_FIELD, app_of, user_of
from benchmarks.faregate_targets import patient_gate
from benchmarks.internals import install_users
from benchmarks.servers import Place, open_servers
from benchmarks.users import user_ids
from faregate import Decision, Gate
from faregate.asgi import FaregateMiddleware

CALLERS = 64
REQUESTS_EACH = 60
ROUNDS = 40
_SHOWN_PERCENT_MIN = 2.0

Ask = Callable[[UUID], Awaitable[object]]


def asking(app: ASGIApp) -> Ask:
    """Return what sends one request to an app, in a task of its own, as servers do."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None:
        return None

    def ask(user_id: UUID) -> Awaitable[object]:
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"bench"), (USER_FIELD, str(user_id).encode())],
            "client": ("127.0.0.1", 2),
            "server": ("127.0.0.1", 1),
            "state": {},
        }
        return asyncio.ensure_future(app(scope, receive, send))

    return ask


async def run(ask: Ask, users: list[UUID]) -> float:
    """Let all callers ask; return the processor time of a request in microseconds."""

    async def caller(user_id: UUID) -> None:
        for _ in range(REQUESTS_EACH):
            await ask(user_id)

    began = time.process_time()
    await asyncio.gather(*map(caller, users))
    return (time.process_time() - began) * 1e6 / (CALLERS * REQUESTS_EACH)


def answering(place: Place, known: Decision) -> Gate:
    """Build a gate that has its decision at once, for the part of the middleware."""
    gate = patient_gate(place)

    async def charge(*_: object, **__: object) -> Decision:
        return known

    gate.charge = charge
    return gate


def guarded(gate: Gate) -> ASGIApp:
    """Return the app behind the middleware."""
    app: ASGIApp = app_of("Starlette", [Middleware(FaregateMiddleware, gate, user_of)])
    return app


async def measure(place: Place) -> Mapping[str, float]:
    """Return the smallest time of each way to ask, and the shares of the files of the last one."""
    users = list(user_ids("user", CALLERS))
    gate = patient_gate(place)
    await gate.start()
    install_users(place.redis_url, users)
    known = answering(place, await gate.charge(users[0]))
    whole = asking(guarded(gate))
    ways: dict[str, Ask] = {
        "bare app": asking(app_of("Starlette")),
        "middleware, with a decision at once": asking(guarded(known)),
        "middleware": whole,
        "gate alone": gate.charge,
    }
    least: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, ask in ways.items():
            least[name] = min(least.get(name, 1e9), await run(ask, users))
    with cProfile.Profile() as profile:
        await run(whole, users)
    await gate.aclose()
    return least | shares(profile)


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """Return which percentage each file has of a profile, which weighs calls too heavily."""
    spent: Counter[str] = Counter()
    stats: Any = pstats.Stats(profile)
    for (path, _, _), (_, _, own, _, _) in stats.stats.items():
        spent["/".join(Path(path).parts[-3:])] += own
    total = sum(spent.values())
    found = {name: 100 * own / total for name, own in spent.most_common()}
    return {f"% {name}": share for name, share in found.items() if share >= _SHOWN_PERCENT_MIN}


def main() -> int:
    """Run; return the exit status."""
    with open_servers() as servers, servers.place() as place:
        for name, value in asyncio.run(measure(place)).items():
            print(f"{value:8.1f}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
