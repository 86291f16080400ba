"""Which shards a job drains, and how far each is: those that no other drain works on."""

from collections.abc import Callable, Mapping, Sequence

from faregate.ports import Cursor

#: For how long a shard is left to a drain that was faster, in seconds. Then it is free again, if
#: its cursor has not moved meanwhile.
YIELD_S = 2.0
#: For how long a shard rests that cannot be stored, in seconds: at first, and at most.
PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 15.0


class ShardCursors:
    """The cursors that a job knows. Nobody claims a shard: who stores a batch of it has it.

    A job that comes too late leaves the shard alone for a while. So several jobs part the shards
    among themselves, and those of a job that died are taken over.
    """

    def __init__(self, shard_count: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shards = range(shard_count)
        self._cursors: dict[int, Cursor] = {}
        #: Until when a shard is left to another drain.
        self._paused_until: dict[int, float] = {}
        #: For how long a shard was left alone last that cannot be stored.
        self._pauses: dict[int, float] = {}

    def update(self, cursors: Mapping[int, Cursor]) -> None:
        """Take over the newest cursors. A shard that was left is free if its own has not moved."""
        now = self._clock()
        for shard, until in list(self._paused_until.items()):
            if cursors.get(shard) != self._cursors.get(shard):
                self._paused_until[shard] = now + YIELD_S
            elif until <= now:
                del self._paused_until[shard]
        self._cursors = dict(cursors)

    def note_stored(self, shard: int, cursor: Cursor | None) -> None:
        """Note how far a shard is, by a batch of this job."""
        self._pauses.pop(shard, None)
        if cursor is not None:
            self._cursors[shard] = cursor

    def yield_to_other(self, shard: int, cursor: Cursor | None) -> None:
        """Leave a shard to another drain, which is at this cursor."""
        self.note_stored(shard, cursor)
        self._paused_until[shard] = self._clock() + YIELD_S

    def pause(self, shard: int) -> bool:
        """Leave a shard alone that cannot be stored now, for longer each time.

        Returns:
            Whether it could be stored before.
        """
        is_first = shard not in self._pauses
        self._pauses[shard] = min(2 * self._pauses.get(shard, PAUSE_S_MIN / 2), PAUSE_S_MAX)
        self._paused_until[shard] = self._clock() + self._pauses[shard]
        return is_first

    def cursor(self, shard: int) -> Cursor | None:
        """Return how far a shard is; None where nothing is stored of it."""
        return self._cursors.get(shard)

    @property
    def free(self) -> Sequence[int]:
        """The shards that are not left to others."""
        return [shard for shard in self._shards if shard not in self._paused_until]

    @property
    def is_update_due(self) -> bool:
        """Whether a shard has been left for long enough to look after it."""
        return any(until <= self._clock() for until in self._paused_until.values())
