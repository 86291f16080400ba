"""Sends again what a server refused without executing it, to the server that has its shard now.

| refusal              | what is done before it is sent again                                    |
|----------------------|-------------------------------------------------------------------------|
| MOVED                | the shard is at the named node; the topology is read again              |
| ASK, TRYAGAIN        | a pause: its slot is being moved, key by key                            |
| CLUSTERDOWN          | a pause; the topology is read again                                     |
| LOADING, MASTERDOWN  | a pause; the topology is read again                                     |
| READONLY             | as LOADING, by a new connection: its server has become a replica        |
| NOSCRIPT             | the script is loaded, such as on a node that is new                     |

A server refuses for these reasons before it executes anything. So the same bytes are sent again,
with the same ids and deadline, a bounded number of times. ASK is not followed: a script also uses
keys that the call does not declare, and while its slot moves, some are here and some there.
"""

import asyncio
from typing import Any, Final

from redis.exceptions import RedisError

from faregate.adapters.redis import scripts
from faregate.adapters.redis.link import LinkLostError, pack_command
from faregate.adapters.redis.nodes import Nodes
from faregate.adapters.redis.refusals import (
    MOVED,
    READONLY,
    REREAD,
    Executed,
    Request,
    is_unexecuted,
    text_of,
)
from faregate.adapters.redis.topology import Node
from faregate.adapters.redis.urls import cluster_error
from faregate.adapters.redis.wire import Wire
from faregate.domain.errors import LedgerUnavailableError

#: The pauses before a call is sent again, in seconds. After the last one it is not sent again.
PAUSES_S: Final = (0.0, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.2, 0.4)

_PAUSE_S_MIN: Final = 0.003


class Resending:
    """Sends requests to the servers of their shards until they are executed."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    async def ask(
        self, request: Request, until_s: float, refusal: RedisError | None = None
    ) -> Executed:
        """Send a request, and return its reply.

        Args:
            request: The request.
            until_s: When the wait ends, in the time of the loop.
            refusal: How it was refused already, if it was.

        Raises:
            LedgerUnavailableError: It was not executed.
            ConfigurationError: The server cannot make it so safe; nothing was sent.
            TimeoutError: It may be executed, but there was no answer in time.
            LinkLostError: It may have been executed, but the connection broke.
            UnconfirmedError: It was executed, but its copies were not made in time.
            RedisError: A server refused it for another reason, or too often.
        """
        for pause_s in PAUSES_S:
            if refusal is not None:
                await self._obey(request, refusal, pause_s, until_s)
            endpoint = self._nodes.of(request.shard).to(request.durability)
            try:
                reply = await ask_once(endpoint.wire, request, until_s)
                return Executed(reply, endpoint.clocks, endpoint.wire.log)
            except RedisError as error:
                if not is_unexecuted(error):
                    raise
                refusal = error
        why = text_of(refusal) if refusal is not None else ""
        raise LedgerUnavailableError(f"not executed in {len(PAUSES_S)} tries: {why}")

    async def _obey(
        self, request: Request, refusal: RedisError, pause_s: float, until_s: float
    ) -> None:
        """Do what a refusal asks for before the request is sent again."""
        code, shard, nodes = refusal.status_code, request.shard, self._nodes
        if not nodes.is_cluster and cluster_error(refusal) is not None:
            # The URL of one server names a node of a cluster.
            raise refusal
        if scripts.is_unknown(refusal):
            await self._load(request, refusal, until_s)
            return
        if code == MOVED:
            nodes.note_moved(shard, _target(refusal))
        elif code in REREAD:
            nodes.read_soon(nodes.of(shard))
        if code == READONLY:
            nodes.of(shard).to(request.durability).wire.end_link()
        if code != MOVED:
            pause_s = max(pause_s, _PAUSE_S_MIN)
        if asyncio.get_running_loop().time() + pause_s >= until_s:
            raise LedgerUnavailableError(f"not executed in time: {text_of(refusal)}")
        await asyncio.sleep(pause_s)

    async def _load(self, request: Request, refusal: RedisError, until_s: float) -> None:
        if not request.script:
            raise refusal
        load = pack_command(scripts.load(request.script).load)
        try:
            await ask_once(
                self._nodes.of(request.shard).wire, Request(request.shard, load), until_s
            )
        except (TimeoutError, LinkLostError) as error:
            raise LedgerUnavailableError(f"{request.script} was not loaded in time") from error


async def ask_once(wire: Wire, request: Request, until_s: float) -> Any:
    """Send a command by a wire and return its reply; raises as `Resending.ask`."""
    is_sent = False
    try:
        async with asyncio.timeout_at(until_s):
            link = await wire.link()
            is_sent = True
            if wire.confirmation is not None:
                return await wire.confirmation.ask(link, request.packed, request.shard)
            return await link.ask(request.packed)
    except TimeoutError as error:
        if is_sent:
            raise
        raise LedgerUnavailableError("no connection to Redis in time") from error


def _target(moved: RedisError) -> Node | None:
    """Return the node that a MOVED names; None if it does not know the address."""
    host, _, port = str(moved).rpartition(" ")[2].rpartition(":")
    return Node(host, int(port)) if host else None
