"""The calls in flight: sent, and not answered yet."""

import asyncio
import struct
from collections.abc import Callable
from time import monotonic
from typing import Any

from redis.exceptions import RedisError

from faregate.adapters.redis.calls import Call, CallPacker, answer
from faregate.adapters.redis.clock import ShardClocks
from faregate.adapters.redis.link import Link, LinkLostError, pack_command
from faregate.adapters.redis.queue import Waiting
from faregate.adapters.redis.scripts import is_unknown, load
from faregate.adapters.redis.wire import Wire, refusal
from faregate.domain.attempt import Event
from faregate.domain.errors import FaregateError, LedgerUnavailableError, OutcomeUnknownError
from faregate.domain.health import CallCounts

#: How many calls may be in flight. While Redis runs one, others are packed and read here.
CALLS_MAX = 3
#: After this number of decision timeouts without a reply the connection is replaced.
STUCK_TIMEOUTS = 2


class Flights:
    """Sends calls, and passes decisions to the callers that still wait.

    All calls have the same timeout, so one timer, set for the oldest call, ends the waits of
    callers. A later reply is read and dropped.
    """

    def __init__(
        self,
        wire: Wire,
        packer: CallPacker,
        clocks: ShardClocks,
        counts: CallCounts,
        *,
        timeout_s: float,
    ) -> None:
        self._wire = wire
        self._packer = packer
        self._clocks = clocks
        self._counts = counts
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        #: In the order of sending: each call, and when the wait for it ends, in the time of the
        #: loop.
        self._calls: dict[Call, float] = {}
        #: How many spends are in flight.
        self.spends_count = 0
        self._watch: asyncio.TimerHandle | None = None
        self._dropping: asyncio.TimerHandle | None = None
        self._resending: set[asyncio.Task[None]] = set()
        #: Called with the number of spends in a call that was answered.
        self.on_reply: Callable[[int], None] = lambda _: None

    @property
    def has_room(self) -> bool:
        """Whether one more call may be sent."""
        return len(self._calls) < CALLS_MAX

    def send(self, link: Link, waiting: list[Waiting]) -> None:
        """Send a call."""
        call = self._packer.pack(waiting)
        self._calls[call] = due_at_s = self._loop.time() + self._timeout_s
        self.spends_count += len(waiting)
        if self._watch is None:
            self._watch = self._loop.call_at(due_at_s, self._check_timeouts)
        self._ask(link, call)

    def _ask(self, link: Link, call: Call) -> None:
        link.send(call.packed, lambda reply: self._receive(call, reply))

    def _receive(self, call: Call, reply: Any) -> None:
        """Handle the reply to a call: decisions, an error of the server, or a lost connection."""
        is_error = isinstance(reply, RedisError)
        if is_error and call.is_awaited and not call.is_resent and is_unknown(reply):
            call.is_resent = True
            resending = asyncio.create_task(self._load_and_resend(call))
            self._resending.add(resending)
            resending.add_done_callback(self._resending.discard)
            return
        if isinstance(reply, LinkLostError):
            call.fail(Event.LOST, f"the connection to Redis broke: {reply}")
        elif is_error:
            _refuse(call, call.load_error or reply)
        else:
            self._read(call, reply)
        self._end(call)

    def _read(self, call: Call, received: Any) -> None:
        try:
            answer(call, received, self._clocks)
        except (struct.error, ValueError, TypeError, FaregateError) as error:
            call.fail(Event.LOST, f"the reply of Redis cannot be read: {error}")
        else:
            first = call.waiting[0]
            seconds = monotonic() - first.since_s
            self._counts.note(len(call.waiting), seconds, is_late=not call.is_awaited)

    async def _load_and_resend(self, call: Call) -> None:
        """Load the script and send a call again that failed because the server did not know it."""
        try:
            link = await self._wire.link()
        except LedgerUnavailableError as error:
            call.fail(Event.NOT_SENT, str(error))
            self._end(call)
            return

        def note(reply: Any) -> None:
            # If the load fails, the call fails, too, with this reason.
            call.load_error = reply if isinstance(reply, RedisError) else None

        link.send(pack_command(load("spend").load), note)
        self._ask(link, call)

    def _check_timeouts(self) -> None:
        """Fail the calls whose timeout is over."""
        self._watch, now_s = None, self._loop.time()
        for call, due_at_s in self._calls.items():
            if due_at_s > now_s:
                self._watch = self._loop.call_at(due_at_s, self._check_timeouts)
                return
            call.is_awaited = False
            call.fail(Event.TIMED_OUT, f"Redis did not answer within {self._timeout_s:.3f} s")

    def _end(self, call: Call) -> None:
        count = len(call.waiting)
        if self._calls.pop(call, None) is not None:
            self.spends_count -= count
        self.on_reply(count)

    def drop_stuck_link(self) -> None:
        """Close a link whose replies nobody waits for any more.

        The loop may have been too busy to read them, so it reads once more first.
        """
        if self._dropping is None and self._is_stuck():
            self._dropping = self._loop.call_later(0, self._drop)

    def _drop(self) -> None:
        self._dropping = None
        if self._is_stuck():
            self._wire.drop("no reply in time")

    def _is_stuck(self) -> bool:
        if not self._calls or any(call.is_awaited for call in self._calls):
            return False
        return self._wire.silence_s >= STUCK_TIMEOUTS * self._timeout_s

    async def aclose(self) -> None:
        """Fail all waiting attempts: they may have been executed."""
        for resending in list(self._resending):
            resending.cancel()
        if self._resending:
            await asyncio.wait(self._resending)
        for call in list(self._calls):
            call.fail(Event.LOST, "the ledger was closed")
            self._end(call)
        for timer in (self._watch, self._dropping):
            if timer is not None:
                timer.cancel()


def _refuse(call: Call, error: RedisError) -> None:
    """Fail the attempts of a call that the server refused."""
    problem = refusal(error)
    if isinstance(problem, OutcomeUnknownError):
        call.fail(Event.LOST, str(problem))
    elif isinstance(problem, LedgerUnavailableError):
        call.fail(Event.NOT_SENT, str(problem))
    else:
        for waiting in call.waiting:
            waiting.fail(problem)
