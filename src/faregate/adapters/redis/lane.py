"""The lane: attempts of the same time leave in one write.

    decide ──> queue ──> flights of up to 128 spends, a few at once ──> decisions

There is a lane for each server and durability. Outside of a cluster a flight is one call; in a
cluster each shard has a call of its own.

With T the decision timeout, an attempt waits at most T/2 in the queue, and then at most T for its
answer. An attempt that could not be decided in time is refused at once.
"""

import asyncio
from time import monotonic

from faregate.adapters.redis.encoding import SpendPacker
from faregate.adapters.redis.flights import FLIGHTS_MAX, Flights
from faregate.adapters.redis.keys import Shard
from faregate.adapters.redis.layouts import ID_BYTES
from faregate.adapters.redis.link import Link
from faregate.adapters.redis.queue import FairQueue, Waiting
from faregate.adapters.redis.throughput import QueueLimit
from faregate.adapters.redis.wire import Wire
from faregate.domain.attempt import Attempt, AttemptError, Event
from faregate.domain.decision import Decision
from faregate.domain.errors import FaregateError, LedgerUnavailableError
from faregate.domain.transaction import CREDITS_MAX, check_whole

#: The most spends in a flight.
CALL_SIZE_MAX = 128
#: A smaller flight costs nearly as much as one of this size.
CALL_SIZE_MIN = 32


class Lane:
    """Queues attempts for one server, and sends them in flights, on the loop that made it."""

    def __init__(
        self,
        name: str,
        wire: Wire,
        flights: Flights,
        shards: tuple[Shard, ...],
        *,
        timeout_s: float,
    ) -> None:
        #: The address of its server; see the port.
        self.name = name
        self._wire = wire
        self._flights = flights
        self._shards = shards
        self._wait_s_max = timeout_s / 2
        self._loop = asyncio.get_running_loop()
        self._packer = SpendPacker()
        self._queue = FairQueue()
        self._limit = QueueLimit(timeout_s)
        self._flushing: asyncio.Handle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._ageing: asyncio.TimerHandle | None = None
        self._is_closed = False
        #: Whether the last flight held one spend, as with one caller at a time.
        self._is_alone = False
        flights.on_reply = self._note_reply

    @property
    def is_full(self) -> bool:
        """Whether no more attempts can be decided in time."""
        return len(self._queue) >= self._limit.count

    def decide(self, attempt: Attempt) -> asyncio.Future[Decision]:
        """Queue an attempt, and wait for its decision; see the port."""
        waiting = self._pack(attempt)
        if self._is_closed:
            raise AttemptError(Event.NOT_SENT, "the ledger is closed")
        if not self._queue.add(waiting, self._limit.count):
            raise AttemptError(Event.SHED, "more requests wait than can be decided in time")
        waiting.future = self._loop.create_future()
        waiting.since_s = monotonic()
        if self._ageing is None:
            self._ageing = self._loop.call_later(self._wait_s_max, self._drop_old)
        if self._is_alone and not self._flights.spends_count:
            # There is no other caller, so waiting for a turn of the loop would gain nothing.
            self._flush()
        elif self._flushing is None:
            self._flush_soon()
        return waiting.future

    def _pack(self, attempt: Attempt) -> Waiting:
        """Pack an attempt before it joins a call, so that an ill-formed one fails alone."""
        spend = attempt.spend
        cost, user = spend.cost, spend.user_id.int
        if type(cost) is not int or not 0 <= cost <= CREDITS_MAX:
            check_whole("a cost", cost, 0)
        packed = self._packer.pack(attempt)
        shard = self._shards[(user & 0xFFFF) % len(self._shards)]
        account = shard.accounts + user.to_bytes(ID_BYTES)
        if packed[0].shadow_digest:
            account = shard.shadow(packed[0].shadow_digest, spend.user_id.bytes)
        return Waiting(attempt, shard, account, packed)

    def _flush_soon(self) -> None:
        """Send the queue in the next turn of the loop, with the attempts of this turn."""
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send the queue, as far as there may be flights."""
        self._flushing = None
        self._flights.drop_stuck_link()
        while self._queue and self._flights.has_room:
            link = self._wire.open_link
            if link is None:
                self._connect()
                return
            waiting = self._queue.take(self._flight_size())
            if not self._queue:
                self._limit.note_empty()
            if waiting:
                self._send(link, waiting)

    def _send(self, link: Link, waiting: list[Waiting]) -> None:
        """Send a flight. An unexpected error fails its attempts alone."""
        try:
            self._flights.send(link, waiting)
        except Exception as error:
            for one in waiting:
                one.fail(error)

    def _connect(self) -> None:
        """Connect, then send the queue."""
        if self._connecting is None and not self._is_closed:
            self._connecting = asyncio.create_task(self._connect_and_flush())

    async def _connect_and_flush(self) -> None:
        try:
            await self._wire.link()
        except LedgerUnavailableError as error:
            self._queue.drop_all(AttemptError(Event.NOT_SENT, str(error)))
        except FaregateError as error:
            self._queue.drop_all(error)
        self._connecting = None
        self._flush_soon()

    def _flight_size(self) -> int:
        """Return the size of the next flight; the queue is spread over the flights.

        While Redis runs one, the next is packed and the last one is read, which is faster.
        """
        open_count = len(self._queue) + self._flights.spends_count
        return max(CALL_SIZE_MIN, min(CALL_SIZE_MAX, -(-open_count // FLIGHTS_MAX)))

    def _note_reply(self, count: int) -> None:
        """Send more after a flight was answered."""
        self._is_alone = count == 1
        self._limit.note_decided(count, monotonic())
        if self._queue:
            self._flush_soon()

    def _drop_old(self) -> None:
        """Fail attempts that have waited in the queue for too long."""
        self._ageing = None
        if self._wire.open_link is not None:
            event, message = Event.SHED, "more requests waited than could be decided in time"
        else:
            event, message = Event.NOT_SENT, "there was no connection to Redis in time"
        now_s = monotonic()
        self._queue.drop_older(now_s - self._wait_s_max, event, message)
        self._flights.drop_stuck_link()
        since_s = self._queue.since_s()
        if since_s is not None:
            left_s = since_s + self._wait_s_max - now_s
            self._ageing = self._loop.call_later(left_s, self._drop_old)

    async def aclose(self) -> None:
        """Fail all waiting attempts: queued ones as `NOT_SENT`, sent ones as `LOST`."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        for handle in (self._flushing, self._ageing):
            if handle is not None:
                handle.cancel()
        self._queue.drop_all(AttemptError(Event.NOT_SENT, "the ledger was closed"))
        await self._flights.aclose()
