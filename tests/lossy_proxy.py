"""A relay between a client and Redis that breaks, or stands still, when it is told to."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

CLOSE_S_MAX = 5


class LossyProxy:
    """Forwards bytes to one server or to each of several.

    A reply or a request is lost as networks lose it: with its connection.
    """

    def __init__(self) -> None:
        #: Texts of which a request that runs a script has one: it is marked.
        self.markers = b"EVALSHA", b"FCALL"
        #: How many replies of marked requests are still to be lost, executed as they are.
        self.replies_to_lose = 0
        #: How many marked requests are still to be lost.
        self.requests_to_lose = 0
        #: How many have been lost, so that a test can prove that it happened.
        self.lost = 0
        #: How many connections were made.
        self.connections = 0
        #: How many replies wait for `release`.
        self.held = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._relays: set[asyncio.Task[None]] = set()

    def hold(self) -> None:
        """Let no reply pass until `release`. Requests pass, and are executed."""
        self._flowing.clear()

    def release(self) -> None:
        """Let replies pass again, those that are late first."""
        self._flowing.set()

    async def accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str | int
    ) -> None:
        """Relay one connection to a socket's path or a port, and remember that it is there."""
        self.connections += 1
        relay = asyncio.ensure_future(self.serve(reader, writer, target))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)
        await relay

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str | int
    ) -> None:
        """Relay one connection until either side closes it, or it is lost."""
        if isinstance(target, str):
            server_reader, server_writer = await asyncio.open_unix_connection(target)
        else:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", target)
        marked = asyncio.Event()
        sides = [
            asyncio.ensure_future(self._requests(reader, server_writer, marked)),
            asyncio.ensure_future(self._replies(server_reader, writer, marked)),
        ]
        await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        for side in sides:
            side.cancel()
        await asyncio.gather(*sides, return_exceptions=True)
        await _close(writer, server_writer)

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, marked: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            if self.requests_to_lose and self._is_marked(data):
                self.requests_to_lose -= 1
                self.lost += 1
                return
            if self.replies_to_lose and self._is_marked(data):
                self.replies_to_lose -= 1
                marked.set()
            writer.write(data)

    def _is_marked(self, data: bytes) -> bool:
        return any(marker in data for marker in self.markers)

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, marked: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            if marked.is_set():
                self.lost += 1
                return
            self.held += not self._flowing.is_set()
            await self._flowing.wait()
            writer.write(data)

    async def aclose(self) -> None:
        """Wait until the clients, which have closed their ends, are forgotten."""
        self.release()
        if self._relays:
            await asyncio.wait(self._relays, timeout=CLOSE_S_MAX)


async def _close(*sides: asyncio.StreamWriter) -> None:
    for side in sides:
        side.close()
        with suppress(OSError):
            await side.wait_closed()


@asynccontextmanager
async def lossy_proxy(redis_url: str) -> AsyncIterator[tuple[LossyProxy, str]]:
    """Put a relay before the Redis at a `unix://` URL; yield it and its own URL."""
    target = redis_url.removeprefix("unix://").partition("?")[0]
    proxy = LossyProxy()
    with tempfile.TemporaryDirectory(prefix="fg-proxy-") as folder:
        path = Path(folder) / "s"
        server = await asyncio.start_unix_server(partial(proxy.accept, target=target), path)
        async with server:
            yield proxy, f"unix://{path}"
            await proxy.aclose()


@asynccontextmanager
async def lossy_proxies(ports: Sequence[int]) -> AsyncIterator[tuple[LossyProxy, list[int]]]:
    """Put a relay before each of some ports of this machine; yield all of it and the new ports."""
    proxy = LossyProxy()
    async with AsyncExitStack() as servers:
        mine = []
        for port in ports:
            accept = partial(proxy.accept, target=port)
            server = await servers.enter_async_context(
                await asyncio.start_server(accept, "127.0.0.1", 0)
            )
            mine.append(server.sockets[0].getsockname()[1])
        yield proxy, mine
        await proxy.aclose()
