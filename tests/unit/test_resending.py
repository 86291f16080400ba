"""What a server refused without executing it is sent again, as it was; and nothing else is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from redis.exceptions import RedisError

from faregate.adapters.redis import keys, resending, scripts
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.link import LinkLostError, pack_command
from faregate.adapters.redis.nodes import Nodes
from faregate.adapters.redis.refusals import Request, is_unexecuted
from faregate.adapters.redis.resending import PAUSES_S, Resending
from faregate.adapters.redis.session import LedgerOptions, RedisSession
from faregate.domain.errors import ConfigurationError, LedgerUnavailableError
from faregate.domain.health import CallCounts
from scripted_redis import CLOSE, HOST, SILENCE, ScriptedRedis, scripted_nodes
from waiting import WAIT_S_MAX, until

SHARDS = keys.shards(3)
SHARD = SHARDS[1]
RUN = (*scripts.load("spend").run_command, 0, b"the bytes")
REQUEST = Request(SHARD, pack_command(RUN), "spend")
WORDS = [word.encode() for word in scripts.load("spend").run_command]


def moved(node: ScriptedRedis) -> bytes:
    return f"-MOVED {SHARD.slot} {HOST}:{node.port}\r\n".encode()


@asynccontextmanager
async def to_nodes(
    first: ScriptedRedis, *, scheme: str = "redis+cluster"
) -> AsyncIterator[tuple[Nodes, Resending]]:
    """Talk to the servers that the first one names."""
    options = LedgerOptions(
        url=f"{scheme}://{HOST}:{first.port}",
        shard_count=len(SHARDS),
        pending_max=100,
        decision_timeout_ms=60_000,
    )
    session = RedisSession(options, CallCounts())
    try:
        yield session.nodes, session._resending
    finally:
        await session.aclose()


def soon() -> float:
    return asyncio.get_running_loop().time() + WAIT_S_MAX


async def test_moved_leads_to_the_named_node_at_once_and_the_topology_is_read_again() -> None:
    """With the same bytes; and the next request goes there directly."""
    async with scripted_nodes(2) as (first, second), to_nodes(first) as (nodes, resender):
        first.script = [moved(second)]
        for node in (first, second):
            node.ranges = [(0, 16_383, second.port)]
        await resender.ask(REQUEST, soon())
        assert first.runs == second.runs
        assert [words[:2] for words in second.runs] == [WORDS]
        await resender.ask(REQUEST, soon())
        assert (len(first.runs), len(second.runs)) == (1, 2)
        await until(lambda: first.topology_reads + second.topology_reads)
        await until(lambda: {one.node for one in nodes.by_shard} == {nodes.of(SHARD).node})


@pytest.mark.parametrize(
    "refusal",
    [
        "ASK {slot} {host}:{port}",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN Hash slot not served",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down",
        "READONLY You can't write against a read only replica.",
    ],
)
async def test_a_refusal_of_an_unready_server_is_tried_again_there(refusal: str) -> None:
    """Until it executes. ASK is not followed: of what a script uses, some is here, some there."""
    async with scripted_nodes(2) as (first, second), to_nodes(first) as (nodes, resender):
        told = refusal.format(slot=SHARD.slot, host=HOST, port=second.port)
        first.script = [f"-{told}\r\n".encode()] * 3
        done = await resender.ask(REQUEST, soon())
        assert done.reply == b"OK"
        assert done.clocks is nodes.of(SHARD).clocks
        assert (len(first.runs), len(second.runs)) == (4, 0)
        assert all(words == first.runs[0] for words in first.runs)
        is_reread = refusal.split(maxsplit=1)[0] not in {"ASK", "TRYAGAIN"}
        await until(lambda: bool(first.topology_reads) is is_reread)


async def test_a_replica_is_left_by_a_new_connection() -> None:
    """Which leads to the new primary, where sentinels say so."""
    async with scripted_nodes(1) as (first,), to_nodes(first) as (nodes, resender):
        before = await nodes.of(SHARD).wire.link()
        first.script = [b"-READONLY You can't write against a read only replica.\r\n"]
        await resender.ask(REQUEST, soon())
        assert nodes.of(SHARD).wire.open_link is not before
        assert not before.is_open


@pytest.mark.parametrize("refusal", ["NOSCRIPT No matching script.", "ERR Function not found"])
async def test_a_script_that_a_new_node_does_not_know_is_loaded(refusal: str) -> None:
    """Once, and then it runs."""
    async with scripted_nodes(1) as (first,), to_nodes(first) as (_, resender):
        first.script = [f"-{refusal}\r\n".encode()]
        await resender.ask(REQUEST, soon())
        assert [words[0] for words in first.seen] == [b"FCALL", b"FUNCTION", b"FCALL"]


async def test_nothing_is_sent_again_forever() -> None:
    """A cluster that does not agree is asked a bounded number of times; it executed nothing."""
    async with scripted_nodes(2) as (first, second), to_nodes(first) as (_, resender):
        first.script, second.script = [moved(second)] * 100, [moved(first)] * 100
        with pytest.raises(LedgerUnavailableError, match="MOVED"):
            await resender.ask(REQUEST, soon())
        assert len(first.runs) + len(second.runs) == len(PAUSES_S)


async def test_nothing_is_sent_again_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the name of the refusal."""
    monkeypatch.setattr(resending, "PAUSES_S", (0.0, WAIT_S_MAX * 2))
    async with scripted_nodes(1) as (first,), to_nodes(first) as (_, resender):
        first.script = [b"-CLUSTERDOWN The cluster is down\r\n"] * 9
        with pytest.raises(LedgerUnavailableError, match="CLUSTERDOWN"):
            await resender.ask(REQUEST, soon())
        assert len(first.runs) == 1


async def test_what_may_have_been_executed_is_not_sent_again() -> None:
    """A connection that broke, an answer that is missing, an error inside a script."""
    async with scripted_nodes(1) as (first,), to_nodes(first) as (nodes, resender):
        first.script = [CLOSE]
        with pytest.raises(LinkLostError):
            await resender.ask(REQUEST, soon())
        first.script = [SILENCE]
        with pytest.raises(TimeoutError):
            await resender.ask(REQUEST, asyncio.get_running_loop().time() + 0.05)
        nodes.of(SHARD).wire.drop("the test is over with it")
        midway = "-READONLY script: f, on @user_function:1.\r\n"
        first.script = [midway.encode()]
        with pytest.raises(RedisError) as caught:
            await resender.ask(REQUEST, soon())
        assert not is_unexecuted(caught.value)
        assert len(first.runs) == 3


async def test_a_node_behind_the_url_of_one_server_is_named() -> None:
    """Most shards would be elsewhere."""
    async with scripted_nodes(2) as (first, second):
        first.script = [moved(second)]
        ledger = RedisLedger.from_url(
            f"redis://{HOST}:{first.port}", shard_count=1, pending_max=9, decision_timeout_ms=9_000
        )
        with pytest.raises(ConfigurationError, match=r"redis\+cluster"):
            await ledger._session.balances.read(UUID(int=1), None)
        assert not second.runs
        await ledger.aclose()
