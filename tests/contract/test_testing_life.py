"""The testing kit lives as the gate on servers does: lifespans, event loops, closing."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import psycopg

from asgi_client import USER
from faregate import Settings, build_gate
from faregate.cli.servers import EmbeddedServers
from faregate.domain.errors import FaregateError
from faregate.gate import Gate
from faregate.testing import Failure, memory_gate
from waiting import WAIT_S_MAX


@dataclass(frozen=True, slots=True)
class Kept:
    """A gate whose user exists, and how to take its Postgres away."""

    gate: Gate
    without_postgres: Callable[[], AbstractContextManager[None]]


Call: TypeAlias = Callable[[Gate], Awaitable[object]]
CALLS: dict[str, Call] = {
    "grant": lambda gate: gate.grant(USER, 100),
    "charge": lambda gate: gate.charge(USER),
    "hold": lambda gate: gate.hold(USER, 1),
    "balance": lambda gate: gate.balance(USER),
    "usage": lambda gate: gate.usage(USER),
    "history": lambda gate: gate.history(USER),
}


def tried(gate: Gate, call: Call) -> str:
    """What a call comes to, on an event loop of its own."""

    async def go() -> str:
        async with asyncio.timeout(WAIT_S_MAX):
            try:
                await call(gate)
            except FaregateError as error:
                return f"{type(error).__name__}: {error}"
            return "answered"

    return asyncio.run(go())


def through_a_lifespan(gate: Gate, *calls: Call) -> list[str]:
    async def go() -> list[str]:
        told = []
        async with gate.lifespan():
            for call in calls:
                try:
                    await call(gate)
                    told.append("answered")
                except FaregateError as error:
                    told.append(type(error).__name__)
        return told

    return asyncio.run(go())


def lives(kept: Kept) -> Iterator[object]:
    """What a gate answers in the course of its life."""
    gate, charge = kept.gate, CALLS["charge"]
    yield asyncio.run(_on_two_loops(gate))
    for _ in range(2):
        yield through_a_lifespan(gate, *CALLS.values())
        yield [tried(gate, call) for call in CALLS.values()]
    with kept.without_postgres():
        yield through_a_lifespan(gate, charge)
    yield through_a_lifespan(gate, charge)


async def _on_two_loops(gate: Gate) -> list[str]:
    async with gate.lifespan():
        await gate.charge(USER)
        return [await asyncio.to_thread(tried, gate, call) for call in CALLS.values()]


@contextmanager
def closed_to_all(servers: EmbeddedServers, database_url: str) -> Iterator[None]:
    """Let nobody connect to a database, as if its server were down."""
    with psycopg.connect(servers.postgres_url, autocommit=True) as admin:
        with psycopg.connect(database_url) as connection:
            name = connection.info.dbname
        admin.execute(f'alter database "{name}" allow_connections false')
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name]
        )
        try:
            yield
        finally:
            admin.execute(f'alter database "{name}" allow_connections true')


def test_the_kit_lives_as_a_gate_on_servers_does(
    servers: EmbeddedServers, ledger_redis: str, database_url: str
) -> None:
    """On two loops at once, through two lifespans, closed, and started in an outage."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("insert into auth.users (id) values (%s)", [USER])
    real = Kept(
        build_gate(Settings(redis_url=ledger_redis, postgres_url=database_url)),
        lambda: closed_to_all(servers, database_url),
    )
    kit = memory_gate()
    kit.sign_up(USER)
    told = lives(Kept(kit, lambda: kit.failing(Failure.POSTGRES_DOWN)))
    for expected, answer in zip(lives(real), told, strict=True):
        assert answer == expected


def test_without_a_lifespan_the_kit_begins_anew_on_each_loop() -> None:
    """As `test_binding` says of every gate; each loop ends before the next begins."""
    kit = memory_gate()
    kit.sign_up(USER)
    assert [tried(kit, call) for call in CALLS.values()] == ["answered"] * len(CALLS)
