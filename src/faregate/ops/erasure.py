"""Erasure: deletes the keys of deleted users from Redis.

The transaction in Postgres that deletes a user notes the id. The first check that finds it deletes
the account, so that the user is not charged any more. All other keys are scanned `GRACE_S` later,
when no gate can install the user any more. Postgres forgets the id only after all records of the
user are drained, since otherwise a new user with the same id would get those records as rows. There
is no other state, so an erasure that is killed begins again.
"""

import logging
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from faregate.ports import Deletions, ShardRecords, UserKeys

#: The most users in one scan, since each key is compared with each of them.
USERS_MAX = 1_000
#: The interval between two checks of Postgres, in seconds.
DELETIONS_INTERVAL_S = 1.0
#: The time from the first check that finds a user until the scan, in seconds. It covers the longest
#: time in which a gate can install a user that it read from Postgres.
GRACE_S = 10.0
#: The pause after each part of the scan, in seconds: about as long as a part takes.
PAUSE_S = 0.001

_logger = logging.getLogger(__name__)


class Erasure:
    """Erases users. Use one object for all checks, since a new one waits for `GRACE_S` again."""

    def __init__(
        self, keys: UserKeys, deletions: Deletions, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Connects only when used."""
        self._keys = keys
        self._deletions = deletions
        self._clock = clock
        #: When each deleted user was found first.
        self._seen_at: dict[UUID, float] = {}
        #: The numbers of records when the keys of a user were deleted.
        self._records: dict[UUID, ShardRecords] = {}

    def check_deletions(self) -> int:
        """Read deleted users, and erase those that were found long enough ago; return how many.

        Raises:
            ArchiveUnavailableError, LedgerError: A server does not answer; the next check begins
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
        """Note the users without keys and pending records as erased."""
        records = self._keys.records(due) if due else {}
        done = [one for one in due if records[one].are_rows_of(self._records[one])]
        if done:
            self._deletions.note_erased(done)
            _logger.info("deleted users erased: users=%d", len(done))
        self._records = {one: self._records[one] for one in due if one not in done}
        return len(done)
