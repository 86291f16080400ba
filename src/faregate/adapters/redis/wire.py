"""The way to Redis: one link, made anew at its next use when it broke."""

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

#: For a connection and its handshake, in seconds.
CONNECT_S_MAX = 1.0
#: How long no other connection is tried after one could not be made, in seconds.
CONNECT_PAUSE_S = 0.02
#: After how many decision timeouts without any reply a link is closed, and after how many seconds.
SILENT_TIMEOUTS_MAX = 10
SILENCE_S_MIN = 1.0

Make: TypeAlias = Callable[[], AbstractConnection]


class Wire:
    """Keeps one link to a server. It belongs to the event loop that first uses it."""

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
        """Make a wire to a server. Nothing is connected before its first use."""
        pool = ConnectionPool.from_url(
            url, maint_notifications_config=MaintNotificationsConfig(enabled=False)
        )
        # What the URL says of these does not count: replies are bytes, and nothing is sent twice.
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
        """The link, where something can be sent at once."""
        link = self._link
        return link if link is not None and link.is_open else None

    @property
    def silence_s(self) -> float:
        """For how long a reply has been due and none has come."""
        return 0.0 if self._link is None else self._link.silence_s

    async def link(self) -> Link:
        """Return a link that is open.

        A connection that is being made outlives a caller who gives up: it is ready for the next.

        Raises:
            LedgerUnavailableError: None can be made. Nothing was sent.
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
        """Fail as before where the last connection could not be made just now.

        Raises:
            LedgerUnavailableError: No connection is tried.
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
    """Return what an error of the server means to whoever asked for a script.

    The server refuses a script before it runs: for want of memory, as a replica, while it loads.
    A key of another type is met before anything is written. Any other error from within a script
    is a fault of ours, after which nothing is certain.
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
    """Take note of a failure, since all who waited for the connection may have gone."""
    if not connecting.cancelled():
        connecting.exception()
