"""The sizes of batches, which grow while a shard has a backlog."""

#: The size of the first batch of a backlog.
BATCH_SIZE_MIN = 2_000
_GROWTH = 4


class BatchSizes:
    """Doubles the size of batches while they are full, up to a bound."""

    def __init__(self, size_max: int) -> None:
        self._size_min = min(BATCH_SIZE_MIN, size_max)
        self._size_max = size_max
        self._sizes: dict[int, int] = {}

    def of(self, shard: int) -> int:
        """Return the approximate size of the next batch of a shard."""
        return self._sizes.get(shard, self._size_min)

    def note(self, shard: int, count: int) -> bool:
        """Note the size of the last batch; return whether it was full."""
        size = self.of(shard)
        if count < size:
            self._sizes.pop(shard, None)
            return False
        self._sizes[shard] = min(_GROWTH * size, self._size_max)
        return True
