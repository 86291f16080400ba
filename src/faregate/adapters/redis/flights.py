"""The calls in flight: sent, and not answered yet.

A flight is one write to the server: one call or, in a cluster, one for each shard.
"""

import asyncio
import struct
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any

from redis.exceptions import RedisError

from faregate.adapters.redis.calls import Call, CallPacker, answer
from faregate.adapters.redis.clock import ShardClocks
from faregate.adapters.redis.confirming import UnconfirmedError
from faregate.adapters.redis.encoding import ALONE
from faregate.adapters.redis.link import Link, LinkLostError
from faregate.adapters.redis.queue import Waiting
from faregate.adapters.redis.refusals import is_unexecuted, refusal
from faregate.adapters.redis.resends import AskAgain, Resends
from faregate.adapters.redis.wire import Wire
from faregate.domain.attempt import Event
from faregate.domain.errors import FaregateError, LedgerUnavailableError, OutcomeUnknownError
from faregate.domain.health import CallCounts

#: How many flights there may be. While Redis runs one, others are packed and read here.
FLIGHTS_MAX = 3
#: After this number of decision timeouts without a reply the connection is replaced.
STUCK_TIMEOUTS = 2


class Flight:
    """The calls of one write."""

    __slots__ = ("calls", "ends_at_s", "open_count", "replies", "spends_count")

    def __init__(self, calls: list[Call], spends_count: int, ends_at_s: float) -> None:
        self.calls = calls
        self.spends_count = spends_count
        #: When the wait for its replies ends, in the time of the loop.
        self.ends_at_s = ends_at_s
        #: How many of its calls have no reply yet.
        self.open_count = len(calls)
        #: The replies that have come, and are to be confirmed.
        self.replies: Sequence[Any] = ()

    @property
    def is_awaited(self) -> bool:
        """Whether callers still wait for it; they give up together."""
        return self.calls[0].is_awaited


class Flights:
    """Sends calls, and passes decisions to the callers that still wait.

    All flights have the same timeout, so one timer, set for the oldest one, ends the waits of
    callers. A later reply is read and dropped. A call that is sent again leaves its flight, which
    other calls may follow.
    """

    def __init__(
        self,
        wire: Wire,
        packer: CallPacker,
        clocks: ShardClocks,
        ask_again: AskAgain,
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
        #: In the order of sending; the values mean nothing.
        self._flights: dict[Flight, None] = {}
        #: How many spends are in flight.
        self.spends_count = 0
        self._watch: asyncio.TimerHandle | None = None
        self._dropping: asyncio.TimerHandle | None = None
        self._resends = Resends(ask_again, self._take, clocks, wire.durability)
        #: Called with the number of spends in a flight that was answered.
        self.on_reply: Callable[[int], None] = lambda _: None

    @property
    def has_room(self) -> bool:
        """Whether one more flight may leave."""
        return len(self._flights) < FLIGHTS_MAX

    def send(self, link: Link, waiting: list[Waiting]) -> None:
        """Send attempts in one write."""
        calls = self._packer.pack_all(waiting)
        ends_at_s = self._loop.time() + self._timeout_s
        flight = Flight(calls, len(waiting), ends_at_s)
        self._flights[flight] = None
        self.spends_count += len(waiting)
        if self._watch is None:
            self._watch = self._loop.call_at(ends_at_s, self._check_timeouts)
        for call in calls:
            call.log = link.log
        packed = b"".join([call.packed for call in calls])
        takes = [partial(self._receive, flight, call) for call in calls]
        if self._wire.confirmation is None:
            link.send(packed, *takes)
        else:
            # A retry may write nothing, though its caller is told of what an earlier one wrote.
            retries = (one.shard for one in waiting if one.flags & ALONE)
            touched = next(retries, None)
            flight.replies = self._wire.confirmation.send(link, packed, takes, touched)

    def _receive(self, flight: Flight, call: Call, reply: Any) -> None:
        """Handle the reply to a call: decisions, an error of the server, or a lost connection."""
        if isinstance(reply, RedisError) and call.is_awaited and is_unexecuted(reply):
            self._resends.add(call, flight.ends_at_s, reply)
        else:
            self._take(call, reply, self._clocks)
        flight.open_count -= 1
        if not flight.open_count:
            self._end(flight)

    def _take(self, call: Call, reply: Any, clocks: ShardClocks) -> None:
        if isinstance(reply, LinkLostError):
            call.fail(Event.LOST, f"the connection to Redis broke: {reply}")
        elif isinstance(reply, UnconfirmedError):
            call.fail(Event.UNCONFIRMED, str(reply))
        elif isinstance(reply, RedisError):
            _refuse(call, reply)
        elif isinstance(reply, LedgerUnavailableError):
            call.fail(Event.NOT_SENT, str(reply))
        elif isinstance(reply, FaregateError):
            for one in call.waiting:
                one.fail(reply)
        elif isinstance(reply, TimeoutError):
            self._time_out(call)
        else:
            self._read(call, reply, clocks)

    def _read(self, call: Call, received: Any, clocks: ShardClocks) -> None:
        try:
            answer(call, received, clocks)
        except (struct.error, ValueError, TypeError, FaregateError) as error:
            call.fail(Event.LOST, f"the reply of Redis cannot be read: {error}")
        else:
            first = call.waiting[0]
            seconds = monotonic() - first.since_s
            self._counts.note(len(call.waiting), seconds, is_late=not call.is_awaited)

    def _check_timeouts(self) -> None:
        """Fail the flights whose timeout is over."""
        self._watch, now_s = None, self._loop.time()
        for flight in self._flights:
            if flight.ends_at_s > now_s:
                self._watch = self._loop.call_at(flight.ends_at_s, self._check_timeouts)
                return
            for call in flight.calls:
                if call not in self._resends:
                    self._time_out(call, is_executed=len(flight.replies) >= len(flight.calls))

    def _time_out(self, call: Call, *, is_executed: bool = False) -> None:
        call.is_awaited = False
        if is_executed and self._wire.confirmation is not None:
            call.fail(Event.UNCONFIRMED, self._wire.confirmation.problem)
        else:
            call.fail(Event.TIMED_OUT, f"Redis did not answer within {self._timeout_s:.3f} s")

    def _end(self, flight: Flight) -> None:
        if flight in self._flights:
            del self._flights[flight]
            self.spends_count -= flight.spends_count
        self.on_reply(flight.spends_count)

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
        if not self._flights or any(flight.is_awaited for flight in self._flights):
            return False
        return self._wire.silence_s >= STUCK_TIMEOUTS * self._timeout_s

    async def aclose(self) -> None:
        """Fail all waiting attempts: they may have been executed."""
        await self._resends.aclose()
        for flight in list(self._flights):
            for call in flight.calls:
                call.fail(Event.LOST, "the ledger was closed")
            self._end(flight)
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
