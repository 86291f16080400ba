"""The cursors of shards, and which shards a job drains."""

from collections.abc import Callable, Mapping, Sequence

from faregate.ports import Cursor

#: How long a shard is left to a drain that was faster, in seconds. Then it is free again if its
#: cursor has not moved.
YIELD_S = 2.0
#: The first and the longest pause of a blocked shard, in seconds.
PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 15.0


class ShardCursors:
    """The cursors that a job knows. No job claims a shard; the job that stores a batch drains it.

    A job that comes too late leaves the shard to the other one for a while. So several jobs share
    the shards, and the shards of a dead job become free.
    """

    def __init__(self, shard_count: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shards = range(shard_count)
        self._cursors: dict[int, Cursor] = {}
        #: By shard: the time until which it is left to another drain or paused.
        self._paused_until: dict[int, float] = {}
        #: By shard: the length of its last pause.
        self._pauses: dict[int, float] = {}

    def update(self, cursors: Mapping[int, Cursor]) -> None:
        """Set the newest cursors.

        A shard that was left to another drain is free if its cursor has not moved.
        """
        now = self._clock()
        for shard, until in list(self._paused_until.items()):
            if cursors.get(shard) != self._cursors.get(shard):
                self._paused_until[shard] = now + YIELD_S
            elif until <= now:
                del self._paused_until[shard]
        self._cursors = dict(cursors)

    def note_stored(self, shard: int, cursor: Cursor | None) -> None:
        """Note the cursor of a shard after a batch of this job."""
        self._pauses.pop(shard, None)
        if cursor is not None:
            self._cursors[shard] = cursor

    def note_empty(self, shard: int) -> None:
        """Note that a shard has no pending records, so that nothing blocks it any more."""
        self._pauses.pop(shard, None)

    def yield_to_other(self, shard: int, cursor: Cursor | None) -> None:
        """Leave a shard to another drain, which has reached this cursor."""
        self.note_stored(shard, cursor)
        self._paused_until[shard] = self._clock() + YIELD_S

    def pause(self, shard: int) -> bool:
        """Pause a blocked shard, for longer each time.

        Returns:
            Whether it was not paused before.
        """
        is_first = shard not in self._pauses
        self._pauses[shard] = min(2 * self._pauses.get(shard, PAUSE_S_MIN / 2), PAUSE_S_MAX)
        self._paused_until[shard] = self._clock() + self._pauses[shard]
        return is_first

    def cursor(self, shard: int) -> Cursor | None:
        """Return the cursor of a shard; None if nothing of it is stored."""
        return self._cursors.get(shard)

    @property
    def free(self) -> Sequence[int]:
        """The shards that this job may drain."""
        return [shard for shard in self._shards if shard not in self._paused_until]

    @property
    def is_update_due(self) -> bool:
        """Whether the time of a shard that is not free is over."""
        return any(until <= self._clock() for until in self._paused_until.values())
