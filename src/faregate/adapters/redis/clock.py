"""The clocks of the ledger, as a client knows them from replies.

A server has one clock. A shard has a time of its own: the clock, or the time of its last record if
the clock was set back. Ids and deadlines carry the time of their shard.
"""

import time
from collections.abc import Callable, Iterable

#: An unknown offset: it makes every time earlier than the first one.
_UNKNOWN_US = -(1 << 62)
#: How long a reply counts. Two spans are stored, so that one is always complete.
_SPAN_US = 5_000_000

#: A monotonic clock in microseconds.
LocalClock = Callable[[], int]


def local_us() -> int:
    """Return the monotonic time of this machine, in microseconds."""
    return time.monotonic_ns() // 1_000


class ServerClock:
    """Computes from replies a time that the clock of Redis has certainly reached.

    A reply carries the server's time of its script, which is past when the reply arrives. So
    `server time - local time of receipt` never exceeds the true offset, and the largest of recent
    values is the closest. A deadline that is computed from it is never too late, so a charge before
    the deadline was made while the client still waited.
    """

    def __init__(self, local: LocalClock = local_us) -> None:
        self._local = local
        self.reset()

    def reset(self) -> None:
        """Forget all replies: the clock of Redis was set back."""
        self._span_start_us = self._local()
        self._offset_us = self._offset_before_us = _UNKNOWN_US
        self._best_us = _UNKNOWN_US

    def observe(self, server_us: int) -> None:
        """Update the offset by a reply that has just arrived."""
        now_us = self._local()
        if now_us - self._span_start_us > _SPAN_US:
            self._span_start_us = now_us
            self._offset_before_us, self._offset_us = self._offset_us, _UNKNOWN_US
        self._offset_us = max(self._offset_us, server_us - now_us)
        self._best_us = max(self._offset_us, self._offset_before_us)

    def now_us(self) -> int:
        """Return a Unix time that the clock has reached, in microseconds; 0 if none is known."""
        return max(self._local() + self._best_us, 0)


class ShardClocks:
    """The times of shards, from replies of one server."""

    def __init__(
        self,
        shard_count: int,
        local: LocalClock = local_us,
        elsewhere_us: Callable[[], int] = lambda: 0,
    ) -> None:
        """Know no time.

        Args:
            shard_count: The number of all shards of the ledger.
            local: The clock of this machine.
            elsewhere_us: Returns the time of other servers, which counts until this one has
                answered; 0 if none is known. If it is wrong, the server refuses and tells its own.
        """
        self._server = ServerClock(local)
        self._elsewhere_us = elsewhere_us
        self._last_us = [0] * shard_count

    def start(self, server_us: int, last_us: Iterable[int]) -> None:
        """Begin with the time of the server, and the time of the last record of each shard."""
        self._server.reset()
        self._server.observe(server_us)
        self._last_us = list(last_us)

    def now_ms(self) -> int:
        """Return a time that has certainly passed, in Unix milliseconds; 0 if none is known."""
        return (self._server.now_us() or max(self._last_us)) // 1_000

    def times_ms(self, shards: Iterable[int]) -> list[int]:
        """Return a time that each of some shards has certainly reached, in Unix milliseconds."""
        server_us = self._server.now_us() or self._elsewhere_us()
        last_us = self._last_us
        return [max(server_us, last_us[shard]) // 1_000 for shard in shards]

    def observe(self, seen: Iterable[tuple[int, int, int]]) -> None:
        """Update the times by the reply of one script.

        Args:
            seen: For each shard in it: its number, its assumed time when the call was sent, in
                milliseconds (0 if unknown), and its time in the reply, in microseconds.
        """
        moved_us = []
        for shard, assumed_ms, now_us in seen:
            if now_us < assumed_ms * 1_000:
                self._server.reset()
            # A time that does not change is that of the last record: the server's clock is behind
            # it.
            if now_us != self._last_us[shard]:
                self._last_us[shard] = now_us
                moved_us.append(now_us)
        # A script has one time, but a shard may be ahead of it.
        if moved_us:
            self._server.observe(min(moved_us))
