"""The clock of Redis, as far as a client can know it."""

import time
from collections.abc import Callable

#: How long a reply counts. Two spans are kept, so that there is always one that is full.
_SPAN_S = 5.0


def _local_ms() -> float:
    return time.monotonic() * 1000


class ServerClock:
    """Learns from replies how far the clock of Redis has gone for certain.

    A reply carries the server's time when the script ran, and that is over when the reply is here.
    So `server time - local time of receipt` never exceeds the true offset, and the largest of
    recent values is the closest. A deadline computed from it is never later than it was meant, so
    what is charged before the deadline was charged while the client still waited.
    """

    def __init__(self, local_ms: Callable[[], float] = _local_ms) -> None:
        self._local_ms = local_ms
        self.reset()

    def reset(self) -> None:
        """Forget all replies: the clock of Redis has jumped."""
        self._span_start_ms = self._local_ms()
        self._offset_ms: float | None = None
        self._offset_before_ms: float | None = None

    def observe(self, server_ms: int) -> None:
        """Learn from a reply that has just come in."""
        now_ms = self._local_ms()
        if now_ms - self._span_start_ms > _SPAN_S * 1000:
            self._span_start_ms = now_ms
            self._offset_before_ms, self._offset_ms = self._offset_ms, None
        offset_ms = server_ms - now_ms
        if self._offset_ms is None or offset_ms > self._offset_ms:
            self._offset_ms = offset_ms

    @property
    def is_known(self) -> bool:
        """Whether any reply has been seen."""
        return self._offset_ms is not None or self._offset_before_ms is not None

    def now_ms(self) -> int:
        """Return a time in Unix milliseconds that the clock of Redis has reached for certain."""
        known = [ms for ms in (self._offset_ms, self._offset_before_ms) if ms is not None]
        if not known:
            return 0
        return int(self._local_ms() + max(known))
