"""A small HTTP/1.1 client for the load of replay and demo: one connection, one request at a time.

It reads the responses of the APIs of replay and demo: fields, and a body with a Content-Length.
Anything else is an error. A general client would take as much of the machine as the API under load.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

#: On loopback only a hanging API is slower; the outcome of the request is then unknown.
ANSWER_S_MAX = 30.0

_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class RequestFailedError(Exception):
    """There was no complete response, so the outcome of the request is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP response."""

    status: int
    #: The fields by name, in lower case.
    headers: Mapping[str, str]
    body: bytes


class HttpConnection:
    """A connection to one server, opened on first use and again after a failure."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        """Send a GET request and read its response. Path and fields are not escaped.

        Raises:
            RequestFailedError: There is no response in time, or the connection broke.
        """
        is_keep_alive = False
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                answer = await self._exchange(path, headers)
            is_keep_alive = answer.headers.get("connection", "").lower() != "close"
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise RequestFailedError(f"{type(error).__name__} {error}".strip()) from error
        finally:
            # The rest of a response must not be read as that of the next request.
            if not is_keep_alive:
                self.close()
        return answer

    async def _exchange(self, path: str, headers: Mapping[str, str]) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        request = f"GET {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n{fields}\r\n"
        writer.write(request.encode("latin-1"))
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        parts = [line.partition(":") for line in lines]
        headers = {name.lower(): value.strip() for name, _, value in parts}
        status = int(first[len("HTTP/1.1 ") :][:3])
        length = 0 if status in _WITHOUT_BODY else int(headers.get("content-length", "unknown"))
        return Answer(status=status, headers=headers, body=await reader.readexactly(length))

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
