"""A small HTTP/1.1 client for the load of replay and demo: one connection, one request at a time.

It stands on h11, as uvicorn and httpx do. A client for everybody would cost more than the API that
it is to load: httpx's pool alone takes, for every request, time in proportion to its connections.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import h11

#: On loopback only a hanging API is slower, and then nobody knows what became of the request.
ANSWER_S_MAX = 30.0
_READ_BYTES_MAX = 65_536


class RequestFailedError(Exception):
    """No whole answer came, so what became of the request is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP response."""

    status: int
    #: By name in lower case.
    headers: Mapping[str, str]
    body: bytes


class HttpConnection:
    """A connection to one server, opened on first use and again after a failure."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._state = h11.Connection(h11.CLIENT)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        """Send a GET request and read its answer.

        Raises:
            RequestFailedError: There is none in time, or the connection broke.
        """
        is_done = False
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                answer = await self._exchange(path, headers)
            is_done = True
        except (OSError, h11.ProtocolError) as error:
            raise RequestFailedError(f"{type(error).__name__} {error}".strip()) from error
        finally:
            # A half-read answer must not be taken for that of the next request.
            if not is_done or not self._reusable:
                self.close()
            else:
                self._state.start_next_cycle()
        return answer

    @property
    def _reusable(self) -> bool:
        return self._state.our_state is h11.DONE and self._state.their_state is h11.DONE

    async def _exchange(self, path: str, headers: Mapping[str, str]) -> Answer:
        if self._streams is None:
            self._state = h11.Connection(h11.CLIENT)
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        fields = {"host": f"{self._host}:{self._port}", **headers}
        request = h11.Request(method="GET", target=path, headers=list(fields.items()))
        writer.write(
            (self._state.send(request) or b"") + (self._state.send(h11.EndOfMessage()) or b"")
        )
        return await self._read(reader)

    async def _read(self, reader: asyncio.StreamReader) -> Answer:
        status, headers, body = 0, {}, b""
        while True:
            event = await self._event(reader)
            if isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status=status, headers=headers, body=body)
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("closed without an answer")

    async def _event(self, reader: asyncio.StreamReader) -> object:
        while (event := self._state.next_event()) is h11.NEED_DATA:
            self._state.receive_data(await reader.read(_READ_BYTES_MAX))
        return event

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
