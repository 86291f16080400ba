"""Erasure: what Redis holds of users who were deleted goes, without another request of theirs.

Postgres tells who was deleted, in the transaction that deletes. Their accounts are deleted when
that is first seen, so that they are charged no more. All other keys are looked through somewhat
later, when nobody can be about to install such a user any more; then Postgres forgets the ids, too.
Nothing else is remembered, so an erasure that is killed begins again.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

from faregate.ports import Deletions, UserKeys

#: How many users are erased together at most: each is looked for in every key.
USERS_MAX = 1_000
#: How often Postgres is asked, in seconds.
LOOK_INTERVAL_S = 1.0
#: How long after the first look the keys are looked through, in seconds. It covers the longest time
#: from an answer of Postgres to a gate until the gate has installed the user in Redis.
GRACE_S = 10.0
#: How long one step takes, about, in seconds.
STEP_S = 0.05

_logger = logging.getLogger(__name__)


class Erasure:
    """Erases users a step at a time, beside other work."""

    def __init__(
        self, keys: UserKeys, deletions: Deletions, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take over where keys and deletions are; nothing is asked yet."""
        self._keys = keys
        self._deletions = deletions
        self._clock = clock
        self._look_at = clock()
        #: When each user was seen first who is to be erased.
        self._seen_at: dict[UUID, float] = {}
        self._users: Sequence[UUID] = ()
        self._steps: Iterator[int] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether there is somebody to erase."""
        return bool(self._seen_at)

    @property
    def is_under_way(self) -> bool:
        """Whether keys are being looked through: the next step is due at once."""
        return self._steps is not None

    def step(self) -> int:
        """Do a part of what there is to do; return how many users are erased by it.

        Raises:
            ArchiveUnavailableError, LedgerError: A server does not answer; it begins again.
        """
        if self._steps is None:
            self._look()
        if self._steps is None:
            return 0
        ends_at = self._clock() + STEP_S
        try:
            for _ in self._steps:
                if self._clock() >= ends_at:
                    return 0
            self._deletions.note_erased(self._users)
        except BaseException:
            self._steps = None
            raise
        _logger.info("erased users=%d", len(self._users))
        self._steps, self._look_at = None, self._clock()
        for user_id in self._users:
            del self._seen_at[user_id]
        return len(self._users)

    def _look(self) -> None:
        """Ask who was deleted, and begin with those who were seen long enough ago."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_INTERVAL_S
        users = self._deletions.users_to_erase(USERS_MAX)
        self._keys.forget([user_id for user_id in users if user_id not in self._seen_at])
        self._seen_at = {user_id: self._seen_at.get(user_id, now) for user_id in users}
        self._users = [user_id for user_id, at in self._seen_at.items() if now - at >= GRACE_S]
        if self._users:
            self._steps = self._keys.erase(self._users)
