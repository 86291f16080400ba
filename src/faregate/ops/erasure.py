"""Erasure: deletes from Redis all that it holds of users who were deleted.

The transaction in Postgres that deletes a user notes the id. The first look at that note deletes
the account, so that the user is charged no more. All other keys are looked through somewhat later,
when no gate can be about to install the user any more. When all records of the user have been read,
too, Postgres forgets the id: a user that is made again with it would get those records as rows.
Nothing else is remembered, so an erasure that is killed begins again.
"""

import logging
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from faregate.ports import Deletions, ShardRecords, UserKeys

#: How many users are erased together at most: each is looked for in every key.
USERS_MAX = 1_000
#: How often Postgres is asked, in seconds.
DELETIONS_INTERVAL_S = 1.0
#: How long after the first look the keys are looked through, in seconds. It covers the longest time
#: from an answer of Postgres to a gate until the gate has installed the user in Redis.
GRACE_S = 10.0
#: How long Redis is left to others after each part of the keys, in seconds: about as long as a part
#: takes.
PAUSE_S = 0.001

_logger = logging.getLogger(__name__)


class Erasure:
    """Erases users. It must be kept: one that is made anew waits for `GRACE_S` again."""

    def __init__(
        self, keys: UserKeys, deletions: Deletions, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take over where keys and deletions are; nothing is asked yet."""
        self._keys = keys
        self._deletions = deletions
        self._clock = clock
        #: When each user was seen first who is to be erased.
        self._seen_at: dict[UUID, float] = {}
        #: How many records there were when the keys of a user were gone.
        self._records: dict[UUID, ShardRecords] = {}

    def check_deletions(self) -> int:
        """Ask who was deleted, and erase those who were seen long enough ago; return how many.

        Raises:
            ArchiveUnavailableError, LedgerError: A server does not answer; the next look begins
                again.
        """
        users = self._deletions.users_to_erase(USERS_MAX)
        self._keys.forget([user_id for user_id in users if user_id not in self._seen_at])
        now = self._clock()
        self._seen_at = {user_id: self._seen_at.get(user_id, now) for user_id in users}
        due = [user_id for user_id, at in self._seen_at.items() if now - at >= GRACE_S]
        if new := [user_id for user_id in due if user_id not in self._records]:
            for _ in self._keys.erase(new):
                time.sleep(PAUSE_S)
            self._records |= self._keys.records(new)
        return self._note(due)

    def _note(self, due: Sequence[UUID]) -> int:
        """Note the users of whom nothing is left, neither a key nor a record that is no row."""
        records = self._keys.records(due) if due else {}
        done = [one for one in due if records[one].are_rows_of(self._records[one])]
        if done:
            self._deletions.note_erased(done)
            _logger.info("deleted users erased: users=%d", len(done))
        self._records = {one: self._records[one] for one in due if one not in done}
        return len(done)
