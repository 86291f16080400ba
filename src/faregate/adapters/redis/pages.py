"""How many entries of a stream to read for a number of records."""

#: The most records of one entry: a call holds 128 spends, each with the start of a period.
RECORDS_MAX = 256
#: The largest growth from one page to the next.
_GROWTH = 8


class PageSizes:
    """Estimates how many records the entries of a shard hold.

    An entry holds the records of one call, from one to hundreds. So the first page is small, and
    the size of the next ones follows from the entries before.
    """

    def __init__(self) -> None:
        self._largest: dict[int, int] = {}

    def next(self, shard: int, records_count: int) -> int:
        """Return how many entries to read for about `count_max` records."""
        return max(1, records_count // self._largest.get(shard, RECORDS_MAX))

    def note(self, shard: int, largest: int) -> None:
        """Note the number of records in the largest entry of a page."""
        self._largest[shard] = max(largest, self._largest.get(shard, RECORDS_MAX) // _GROWTH, 1)
