"""Connects to Redis: one link, which is replaced at its next use after it broke."""

import asyncio
from collections.abc import Callable
from typing import Self, TypeAlias

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from faregate.adapters.redis.link import Link
from faregate.adapters.redis.urls import cluster_error
from faregate.domain.errors import (
    FaregateError,
    InvalidArgumentError,
    LedgerCorruptError,
    LedgerUnavailableError,
    OutcomeUnknownError,
)

#: The timeout of a connection and its handshake, in seconds.
CONNECT_S_MAX = 1.0
#: The pause after a failed connection, in seconds.
CONNECT_PAUSE_S = 0.02
#: A link without any reply is closed after this number of decision timeouts, and after this number
#: of seconds.
SILENT_TIMEOUTS_MAX = 10
SILENCE_S_MIN = 1.0

Make: TypeAlias = Callable[[], AbstractConnection]


class Wire:
    """One link to a server. It belongs to the event loop that first uses it."""

    def __init__(
        self, make: Make, *, silence_s_max: float, connect_s_max: float = CONNECT_S_MAX
    ) -> None:
        self._make = make
        self._silence_s_max = silence_s_max
        self._connect_s_max = connect_s_max
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None
        self._failed_at_s = 0.0
        self._failure: Exception | None = None
        self._is_closed = False

    @classmethod
    def from_url(cls, url: str, *, decision_timeout_ms: int) -> Self:
        """Make a wire, which connects at its first use."""
        pool = ConnectionPool.from_url(
            url, maint_notifications_config=MaintNotificationsConfig(enabled=False)
        )
        # Options of the URL that are ignored: replies are bytes, and no command is sent twice.
        pool.connection_kwargs.update(
            protocol=2,
            decode_responses=False,
            socket_timeout=None,
            health_check_interval=0,
            retry=Retry(NoBackoff(), 0),
        )
        silence_s_max = max(SILENT_TIMEOUTS_MAX * decision_timeout_ms / 1_000, SILENCE_S_MIN)
        return cls(pool.make_connection, silence_s_max=silence_s_max)

    @property
    def open_link(self) -> Link | None:
        """The link, if it can send at once."""
        link = self._link
        return link if link is not None and link.is_open else None

    @property
    def silence_s(self) -> float:
        """For how long a reply has been due and none has come."""
        return 0.0 if self._link is None else self._link.silence_s

    async def link(self) -> Link:
        """Return an open link.

        A caller that gives up does not cancel the connection: the next caller uses it.

        Raises:
            LedgerUnavailableError: There is no connection. Nothing was sent.
        """
        link = self.open_link
        if link is not None:
            return link
        if self._connecting is None:
            self._check_pause()
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(_note_failure)
        connecting = self._connecting
        await asyncio.wait([connecting])
        if connecting.cancelled():
            raise LedgerUnavailableError("the connection to Redis is closed")
        return connecting.result()

    def _check_pause(self) -> None:
        """Fail at once, with the last error, within the pause after a failed connection.

        Raises:
            LedgerUnavailableError: The pause is not over.
        """
        if self._is_closed:
            raise LedgerUnavailableError("the connection to Redis is closed")
        now_s = asyncio.get_running_loop().time()
        if self._failure is not None and now_s - self._failed_at_s < CONNECT_PAUSE_S:
            raise LedgerUnavailableError(
                f"Redis cannot be reached: {self._failure}"
            ) from self._failure

    async def _connect(self) -> Link:
        connection = self._make()
        try:
            async with asyncio.timeout(self._connect_s_max):
                await connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            self._failure, self._failed_at_s = error, asyncio.get_running_loop().time()
            await connection.disconnect(nowait=True)
            raise LedgerUnavailableError(f"Redis cannot be reached: {error}") from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._connecting = None
        self._failure = None
        self._link = Link(connection, silence_s_max=self._silence_s_max)
        return self._link

    def drop(self, why: str) -> None:
        """Close the link; the next use makes a new one."""
        if self._link is not None:
            self._link.close(why)

    async def aclose(self) -> None:
        """Close the link for good."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._link is not None:
            self._link.close("the connection to Redis is closed")
            await self._link.wait_closed()


def refusal(error: RedisError) -> FaregateError:
    """Return the error of the domain for an error of the server on a script.

    The server may refuse a script before it runs: out of memory, as a replica, or while it loads
    its data. A script meets a key of another type before it writes. Any other error inside a script
    is a bug of ours, and its outcome is unknown.
    """
    text = str(error)
    of_cluster = cluster_error(error)
    if of_cluster is not None:
        return of_cluster
    if text.startswith("INVALID "):
        return InvalidArgumentError(text.removeprefix("INVALID "))
    if "WRONGTYPE" in text:
        return LedgerCorruptError(f"a key of the ledger was overwritten: {text}")
    if "user_script" in text or "user_function" in text:
        return OutcomeUnknownError(f"a script failed: {text}")
    return LedgerUnavailableError(f"Redis refused: {text}")


def _note_failure(connecting: asyncio.Task[Link]) -> None:
    """Retrieve the exception of a connection, since all its callers may have been cancelled."""
    if not connecting.cancelled():
        connecting.exception()
