"""Servers that answer as a test says: nodes of a cluster that refuse, redirect, or say nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import hiredis

HOST = "127.0.0.1"
#: Says nothing, ever.
SILENCE = b""
#: Breaks the connection.
CLOSE = b"close"
OK = b"+OK\r\n"
_RUN = {b"FCALL", b"EVALSHA"}


@dataclass(slots=True)
class ScriptedRedis:
    """A server on a port of this machine."""

    port: int = 0
    #: What it answers to scripts, one after another; then `OK`.
    script: list[bytes] = field(default_factory=list)
    #: The scripts and loads that it was sent, as words.
    seen: list[list[Any]] = field(default_factory=list)
    #: The writes that carried scripts, and how many there were in each.
    writes: list[int] = field(default_factory=list)
    #: What it answers to CLUSTER SLOTS: first slot, last slot, and port of each range.
    ranges: Sequence[tuple[int, int, int]] = ()
    topology_reads: int = 0
    #: Its open connections.
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def runs(self) -> list[list[Any]]:
        """The scripts that it was told to run."""
        return [words for words in self.seen if words[0] in _RUN]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, until it or the test is over."""
        self.open.add(writer)
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(65_536):
            parser.feed(data)
            count = 0
            while (words := parser.gets()) is not False:
                count += words[0] in _RUN
                reply = self._reply(words)
                if reply == CLOSE:
                    return
                writer.write(reply)
            if count:
                self.writes.append(count)

    def _reply(self, words: list[Any]) -> bytes:
        if words[0] in {*_RUN, b"FUNCTION"}:
            self.seen.append(words)
        if words[0] in _RUN:
            return self.script.pop(0) if self.script else OK
        if words[:2] == [b"CLUSTER", b"SLOTS"]:
            self.topology_reads += 1
            return _slots(self.ranges)
        return OK


def _slots(ranges: Sequence[tuple[int, int, int]]) -> bytes:
    parts = [
        f"*3\r\n:{first}\r\n:{last}\r\n*2\r\n${len(HOST)}\r\n{HOST}\r\n:{port}\r\n"
        for first, last, port in ranges
    ]
    return f"*{len(ranges)}\r\n{''.join(parts)}".encode()


@asynccontextmanager
async def scripted_nodes(count: int) -> AsyncIterator[list[ScriptedRedis]]:
    """Run servers that name the first one as the owner of all slots."""
    nodes = [ScriptedRedis() for _ in range(count)]
    servers = [await asyncio.start_server(node.serve, HOST, 0) for node in nodes]
    for node, server in zip(nodes, servers, strict=True):
        node.port = server.sockets[0].getsockname()[1]
    for node in nodes:
        node.ranges = [(0, 16_383, nodes[0].port)]
    try:
        yield nodes
    finally:
        for server in servers:
            server.close()
        # One turn in which the newest connection is passed on.
        await asyncio.sleep(0)
        for writer in [one for node in nodes for one in node.open]:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
