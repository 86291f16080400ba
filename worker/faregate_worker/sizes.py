"""How many records a batch has: few while few wait, and more the longer a shard has many."""

#: With how many records the first batch of a backlog is read.
BATCH_SIZE_MIN = 2_000
_GROWTH = 4


class BatchSizes:
    """Lets the batches of a shard grow while they are full, up to a bound."""

    def __init__(self, size_max: int) -> None:
        self._size_min = min(BATCH_SIZE_MIN, size_max)
        self._size_max = size_max
        self._sizes: dict[int, int] = {}

    def of(self, shard: int) -> int:
        """Return about how many records the next batch of a shard may have."""
        return self._sizes.get(shard, self._size_min)

    def note(self, shard: int, count: int) -> bool:
        """Note how many the last one had; return whether it was full, so that more may wait."""
        size = self.of(shard)
        if count < size:
            self._sizes.pop(shard, None)
            return False
        self._sizes[shard] = min(_GROWTH * size, self._size_max)
        return True
