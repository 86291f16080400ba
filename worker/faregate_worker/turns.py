"""Which shards a job drains, and how far each is: those that no other drain works on."""

from collections.abc import Callable, Mapping, Sequence

from faregate.ports import Cursor

#: For how long a shard is left to a drain that was faster, in seconds. Then it is free again, if
#: its cursor has not moved meanwhile.
LEFT_S = 2.0
#: For how long a shard rests that cannot be stored, in seconds: at first, and at most.
REST_S_MIN = 1.0
REST_S_MAX = 15.0


class Turns:
    """The cursors that a job knows. Nobody claims a shard: who stores a batch of it has it.

    A job that comes too late leaves the shard alone for a while. So several jobs part the shards
    among themselves, and those of a job that died are taken over.
    """

    def __init__(self, shard_count: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shards = range(shard_count)
        self._cursors: dict[int, Cursor] = {}
        #: Until when a shard is left to another drain.
        self._left: dict[int, float] = {}
        #: For how long a shard was left alone last that cannot be stored.
        self._rests: dict[int, float] = {}

    def learn(self, cursors: Mapping[int, Cursor]) -> None:
        """Take over the newest cursors. A shard that was left is free if its own has not moved."""
        now = self._clock()
        for shard, until in list(self._left.items()):
            if cursors.get(shard) != self._cursors.get(shard):
                self._left[shard] = now + LEFT_S
            elif until <= now:
                del self._left[shard]
        self._cursors = dict(cursors)

    def stored(self, shard: int, cursor: Cursor | None) -> None:
        """Note how far a shard is, by a batch of this job."""
        self._rests.pop(shard, None)
        if cursor is not None:
            self._cursors[shard] = cursor

    def leave(self, shard: int, cursor: Cursor | None) -> None:
        """Leave a shard to another drain, which is at this cursor."""
        self.stored(shard, cursor)
        self._left[shard] = self._clock() + LEFT_S

    def rest(self, shard: int) -> bool:
        """Leave a shard alone that cannot be stored now, for longer each time.

        Returns:
            Whether it could be stored before.
        """
        is_first = shard not in self._rests
        self._rests[shard] = min(2 * self._rests.get(shard, REST_S_MIN / 2), REST_S_MAX)
        self._left[shard] = self._clock() + self._rests[shard]
        return is_first

    def cursor(self, shard: int) -> Cursor | None:
        """Return how far a shard is; None where nothing is stored of it."""
        return self._cursors.get(shard)

    @property
    def free(self) -> Sequence[int]:
        """The shards that are not left to others."""
        return [shard for shard in self._shards if shard not in self._left]

    @property
    def is_to_learn(self) -> bool:
        """Whether a shard has been left for long enough to look after it."""
        return any(until <= self._clock() for until in self._left.values())
