"""The limit of the queue: the number of attempts that can be decided in time."""

from collections import deque

#: The limit while no rate is known: four full calls.
COUNT_UNKNOWN = 512
#: The lowest limit: two full calls. With less, calls would be small and slow, and the limit would
#: stay low.
COUNT_MIN = 256
#: The part of the decision timeout that an attempt may wait in a full queue.
_TIMEOUT_PART = 3
_SPAN_S = 0.1
#: The best rate of the last second counts. An average would fall with each refusal, and so refuse
#: more and more.
_SPANS = 10


class QueueLimit:
    """Measures the rate of decisions, and computes the limit of the queue.

    Only spans in which the queue was never empty give a rate. In others Redis could have decided on
    more.
    """

    def __init__(self, timeout_s: float) -> None:
        self._wait_s = timeout_s / _TIMEOUT_PART
        self._rates: deque[float | None] = deque(maxlen=_SPANS)
        self._span_start_s = 0.0
        self._decided = 0
        self._is_saturated = False
        self.count = COUNT_UNKNOWN

    def note_empty(self) -> None:
        """Note that the queue is empty."""
        self._is_saturated = False

    def note_decided(self, count: int, now_s: float) -> None:
        """Note that a call was answered."""
        self._decided += count
        span_s = now_s - self._span_start_s
        if span_s < _SPAN_S:
            return
        # A much longer span had a pause without requests.
        is_known = self._is_saturated and span_s < 2 * _SPAN_S
        self._rates.append(self._decided / span_s if is_known else None)
        self._span_start_s, self._decided, self._is_saturated = now_s, 0, True
        best = max((rate for rate in self._rates if rate is not None), default=None)
        if best is None:
            self.count = COUNT_UNKNOWN
        else:
            self.count = max(COUNT_MIN, int(best * self._wait_s))
