"""The clocks of the ledger, as far as a client can know them.

A server has one clock. A shard has a time of its own: that clock, or the time of its last record
where the clock has been set back. Ids and deadlines carry the time of their shard.
"""

import time
from collections.abc import Callable, Iterable

#: Stands for an offset that is not known: with it, every time lies before the first one.
_UNKNOWN_US = -(1 << 62)
#: How long a reply counts. Two spans are kept, so that there is always one that is full.
_SPAN_US = 5_000_000

#: Returns microseconds that never go back.
LocalClock = Callable[[], int]


def local_us() -> int:
    """Return the microseconds of this machine."""
    return time.monotonic_ns() // 1_000


class ServerClock:
    """Learns from replies how far the clock of Redis has gone for certain.

    A reply carries the server's time when the script ran, and that is over when the reply is here.
    So `server time - local time of receipt` never exceeds the true offset, and the largest of
    recent values is the closest. A deadline computed from it is never later than it was meant, so
    what is charged before the deadline was charged while the client still waited.
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
        """Learn from a reply that has just come in."""
        now_us = self._local()
        if now_us - self._span_start_us > _SPAN_US:
            self._span_start_us = now_us
            self._offset_before_us, self._offset_us = self._offset_us, _UNKNOWN_US
        self._offset_us = max(self._offset_us, server_us - now_us)
        self._best_us = max(self._offset_us, self._offset_before_us)

    def now_us(self) -> int:
        """Return a Unix time in microseconds that the clock has reached; 0 if none is known."""
        return max(self._local() + self._best_us, 0)


class ShardClocks:
    """Learns the times of all shards."""

    def __init__(self, shard_count: int, local: LocalClock = local_us) -> None:
        self._server = ServerClock(local)
        self._last_us = [0] * shard_count

    def start(self, server_us: int, last_us: Iterable[int]) -> None:
        """Begin with the time of the server, and the time of the last record of each shard."""
        self._server.reset()
        self._server.observe(server_us)
        self._last_us = list(last_us)

    def now_ms(self) -> int:
        """Return a time in Unix milliseconds that has passed for certain; 0 if none is known."""
        return (self._server.now_us() or max(self._last_us)) // 1_000

    def times_ms(self, shards: Iterable[int]) -> list[int]:
        """Return for each of some shards a time that it has reached."""
        server_us = self._server.now_us()
        last_us = self._last_us
        return [max(server_us, last_us[shard]) // 1_000 for shard in shards]

    def observe(self, seen: Iterable[tuple[int, int, int]]) -> None:
        """Learn from the reply of one script.

        Args:
            seen: For each shard in it: its number, the time in milliseconds that it was thought
                to have reached when it was asked (0 if that is not known), and its time in
                microseconds when it answered.
        """
        moved_us = []
        for shard, assumed_ms, now_us in seen:
            if now_us < assumed_ms * 1_000:
                self._server.reset()
            # The same time twice is that of the last record: the server's clock is behind it.
            if now_us != self._last_us[shard]:
                self._last_us[shard] = now_us
                moved_us.append(now_us)
        # One script has one time, but a shard may be ahead of it.
        if moved_us:
            self._server.observe(min(moved_us))
