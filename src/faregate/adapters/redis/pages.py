"""How many entries of a stream to read for about so many records."""

#: The most records of one entry: a call holds 128 spends, each with the start of a period.
RECORDS_MAX = 256
#: How much faster than known the next page may grow.
_GROWTH = 8


class PageSizes:
    """Learns how many records the entries of a shard hold.

    An entry holds as many as one call decided on, from one to hundreds. So the first page is small,
    and the next ones are as large as the entries before allow.
    """

    def __init__(self) -> None:
        self._largest: dict[int, int] = {}

    def next(self, shard: int, records_count: int) -> int:
        """Return how many entries to read for at most about so many records."""
        return max(1, records_count // self._largest.get(shard, RECORDS_MAX))

    def note(self, shard: int, largest: int) -> None:
        """Note how many records the largest entry of a page had."""
        self._largest[shard] = max(largest, self._largest.get(shard, RECORDS_MAX) // _GROWTH, 1)
