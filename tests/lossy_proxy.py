"""A relay between a client and Redis that loses the replies it is told to lose."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

CLOSE_S_MAX = 5


class LossyProxy:
    """Forwards bytes; swallows the reply of commands that contain a marker."""

    def __init__(self, target: str) -> None:
        self._target = target
        #: Bytes whose presence in a request marks it.
        self.marker = b"EVALSHA"
        #: How many replies of marked requests are still to be swallowed.
        self.replies_to_lose = 0
        #: How many marked requests are still to be swallowed.
        self.requests_to_lose = 0
        #: How many have been swallowed, so that a test can prove that it happened.
        self.lost = 0
        self._relays: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection, and remember that it is there."""
        relay = asyncio.ensure_future(self.serve(reader, writer))
        self._relays.add(relay)
        await relay

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until either side closes it."""
        server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        state = {"lose": False}

        async def upstream() -> None:
            while data := await reader.read(65536):
                if self.marker in data and self.requests_to_lose:
                    self.requests_to_lose -= 1
                    self.lost += 1
                    continue
                if self.marker in data and self.replies_to_lose:
                    self.replies_to_lose -= 1
                    state["lose"] = True
                server_writer.write(data)
            server_writer.close()

        async def downstream() -> None:
            while data := await server_reader.read(65536):
                if state["lose"]:
                    state["lose"] = False
                    self.lost += 1
                    continue
                writer.write(data)
            writer.close()

        await asyncio.gather(upstream(), downstream(), return_exceptions=True)
        await _close(writer, server_writer)

    async def aclose(self) -> None:
        """Wait until the clients, which have closed their ends, are forgotten."""
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
    proxy = LossyProxy(target)
    with tempfile.TemporaryDirectory(prefix="fg-proxy-") as folder:
        path = Path(folder) / "s"
        server = await asyncio.start_unix_server(proxy.accept, path)
        async with server:
            yield proxy, f"unix://{path}"
            await proxy.aclose()
