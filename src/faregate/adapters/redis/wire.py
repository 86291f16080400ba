"""Connects to Redis: one link, which is replaced at its next use after it broke."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from faregate.adapters.redis.answered import AnswerLog
from faregate.adapters.redis.confirming import Confirmation
from faregate.adapters.redis.link import Link
from faregate.domain.durability import Durability
from faregate.domain.errors import LedgerUnavailableError

#: The timeout of a connection and its handshake, in seconds.
CONNECT_S_MAX = 1.0
#: The pause after a failed connection, in seconds.
CONNECT_PAUSE_S = 0.02
#: A link without any reply is closed after this number of decision timeouts, and after this number
#: of seconds.
SILENT_TIMEOUTS_MAX = 10
SILENCE_S_MIN = 1.0
#: A server is answering while no reply has been due for longer than this, in seconds.
ANSWERING_S_MAX = 0.2

Make: TypeAlias = Callable[[], AbstractConnection]


class Wire:
    """One link to a server. It belongs to the event loop that first uses it."""

    def __init__(
        self,
        make: Make,
        *,
        silence_s_max: float,
        connect_s_max: float = CONNECT_S_MAX,
        on_trouble: Callable[[], None] = lambda: None,
        log_of_new_link: Callable[[], AnswerLog] = AnswerLog,
        confirmation: Confirmation | None = None,
    ) -> None:
        """Make a wire, which connects at its first use.

        Args:
            make: Makes a connection.
            silence_s_max: How long a reply may be due before the link is closed, in seconds.
            connect_s_max: The timeout of a connection, in seconds.
            on_trouble: Called when a connection failed, and when a link was dropped or closed.
            log_of_new_link: Called when a link was made.
            confirmation: What confirms all that is sent; None if nothing does.
        """
        #: What confirms all that is sent; None if nothing does.
        self.confirmation = confirmation
        self._log_of_new_link = log_of_new_link
        self._make = make
        self._on_trouble = on_trouble
        self._silence_s_max = silence_s_max
        self._connect_s_max = connect_s_max
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None
        self._failed_at_s = 0.0
        self._failure: Exception | None = None
        self._is_closed = False

    @property
    def open_link(self) -> Link | None:
        """The link, if it can send at once."""
        link = self._link
        return link if link is not None and link.is_open else None

    @property
    def is_answering(self) -> bool:
        """Whether there is a link, and no reply has been due for long."""
        return self.open_link is not None and self.silence_s < ANSWERING_S_MAX

    @property
    def durability(self) -> Durability:
        """How safe all that is sent becomes before its reply is passed on."""
        return Durability.MEMORY if self.confirmation is None else self.confirmation.durability

    @property
    def log(self) -> AnswerLog | None:
        """The answers that came by the link."""
        return None if self._link is None else self._link.log

    @property
    def silence_s(self) -> float:
        """For how long a reply has been due and none has come."""
        return 0.0 if self._link is None else self._link.silence_s

    async def link(self) -> Link:
        """Return an open link.

        A caller that gives up does not cancel the connection: the next caller uses it.

        Raises:
            LedgerUnavailableError: There is no connection. Nothing was sent.
            ConfigurationError: The server cannot confirm what is sent.
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
            raise self._unreachable(self._failure) from self._failure

    def _unreachable(self, error: Exception) -> LedgerUnavailableError:
        # The message of a timeout is empty.
        why = str(error) or f"no connection in {self._connect_s_max:.1f} s"
        return LedgerUnavailableError(f"Redis cannot be reached: {why}")

    async def _connect(self) -> Link:
        connection = self._make()
        try:
            async with asyncio.timeout(self._connect_s_max):
                await connection.connect()  # type: ignore[no-untyped-call]
                if self.confirmation is not None:
                    await self.confirmation.check(connection)
        except (RedisError, OSError) as error:
            self._failure, self._failed_at_s = error, asyncio.get_running_loop().time()
            await connection.disconnect(nowait=True)
            self._on_trouble()
            raise self._unreachable(error) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._connecting = None
        self._failure = None
        self._link = Link(connection, silence_s_max=self._silence_s_max)
        self._link.log = self._log_of_new_link()
        self._link.on_closed(self._on_trouble)
        return self._link

    def drop(self, why: str) -> None:
        """Close the link; the next use makes a new one."""
        if self._link is not None:
            self._link.close(why)
            self._on_trouble()

    def end_link(self) -> None:
        """Let the next use make a new link; the replies that are due still come by the old one."""
        if self._link is not None:
            self._link.end()
            self._on_trouble()

    async def aclose(self) -> None:
        """Close the link for good."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._link is not None:
            self._link.close("the connection to Redis is closed")
            await self._link.wait_closed()


def _note_failure(connecting: asyncio.Task[Link]) -> None:
    """Retrieve the exception of a connection, since all its callers may have been cancelled."""
    if not connecting.cancelled():
        connecting.exception()
