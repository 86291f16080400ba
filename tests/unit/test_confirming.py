"""Which replies are passed on when copies are confirmed, and which are not."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from faregate import ConfigurationError, Durability
from faregate.adapters.redis.confirming import Confirmation, UnconfirmedError
from faregate.adapters.redis.keys import shards
from faregate.adapters.redis.link import LinkLostError

SHARD = shards(1)[0]


class FakeLink:
    """A link whose replies the test gives."""

    def __init__(self) -> None:
        self.sent = b""
        self.takes: list[Callable[[Any], None]] = []

    def send(self, packed: bytes, *takes: Callable[[Any], None]) -> None:
        self.sent = packed
        self.takes.extend(takes)

    def reply(self, *replies: object) -> None:
        for take, reply in zip(self.takes, replies, strict=True):
            take(reply)


class FakeConnection:
    """A connection that answers the probe."""

    def __init__(self, answer: object) -> None:
        self.sent: list[tuple[object, ...]] = []
        self._answer = answer

    async def send_command(self, *command: object) -> None:
        self.sent.append(command)

    async def read_response(self) -> object:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("durability", "confirmed", "missing"),
    [(Durability.REPLICA, 1, 0), (Durability.DISK, [1, 1], [1, 0])],
)
def test_all_replies_are_passed_on_when_the_copies_are_made(
    durability: Durability, confirmed: object, missing: object
) -> None:
    """In one write, and not before; an error of the server stays what it is."""
    error = ResponseError("MOVED")
    for waited in (confirmed, missing):
        link, got = FakeLink(), list[Any]()
        confirmation = Confirmation(durability, 50)
        replies = confirmation.send(link, b"ab", [got.append] * 2)  # type: ignore[arg-type]
        assert link.sent.startswith(b"ab*")
        assert b"WAIT" in link.sent
        assert b"SET" not in link.sent
        link.takes.pop(0)(b"decided")
        assert (got, replies) == ([], [b"decided"])
        link.reply(error, waited)
        assert got[1] is error
        assert got[0] == b"decided" if waited is confirmed else type(got[0]) is UnconfirmedError


@pytest.mark.parametrize(
    ("written", "waited", "expected"),
    [
        (b"OK", 2, bytes),
        (b"OK", 0, UnconfirmedError),
        (ResponseError("OOM"), 1, UnconfirmedError),
        (b"OK", ResponseError("unknown"), UnconfirmedError),
        (b"OK", LinkLostError("lost"), LinkLostError),
    ],
)
async def test_a_retry_counts_only_behind_a_write(
    written: object, waited: object, expected: type
) -> None:
    """Since a server confirms at once what only reads."""
    link = FakeLink()
    confirmation = Confirmation(Durability.REPLICA, 50)
    asking = asyncio.ensure_future(confirmation.ask(link, b"", SHARD))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert SHARD.touched in link.sent
    link.reply(b"decided", written, waited)
    if expected is bytes:
        assert await asking == b"decided"
    else:
        with pytest.raises(expected):
            await asking


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (NoPermissionError("no permissions to run 'wait'"), "faregate access"),
        (ResponseError("unknown command 'WAITAOF'"), "WAITAOF needs Redis"),
    ],
)
async def test_a_server_that_cannot_wait_is_refused_before_anything_is_sent(
    answer: Exception, problem: str
) -> None:
    """By a probe that waits for no copy."""
    for durability in (Durability.REPLICA, Durability.DISK):
        confirmation = Confirmation(durability, 50)
        with pytest.raises(ConfigurationError, match=problem):
            await confirmation.check(FakeConnection(answer))  # type: ignore[arg-type]
        await confirmation.check(FakeConnection([1, 0]))  # type: ignore[arg-type]


async def test_a_server_that_has_become_a_replica_is_left_to_its_redirects() -> None:
    """A primary that was killed comes back as a replica, before the gate has read the topology."""
    for durability, command in ((Durability.REPLICA, "WAIT"), (Durability.DISK, "WAITAOF")):
        error = ResponseError(f"{command} cannot be used with replica instances.")
        await Confirmation(durability, 50).check(FakeConnection(error))  # type: ignore[arg-type]
