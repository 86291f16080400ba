"""Aligns live balances with kept records after a fork: with rows of records that Redis has lost.

Charges go on meanwhile. Any number of workers may do this at once, and each may be killed at any
time. An alignment is noted before it is sent, and sent again under its id if its answer was lost.
Redis makes it once. Of two alignments of one user that were measured at once, it makes one.

A failover may lose an alignment, which has no record. So each balance is measured once more a
minute later.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from uuid import UUID

from faregate.domain.alignment import Aligned, Alignment, LiveDrift
from faregate.domain.errors import (
    AmountError,
    LedgerCorruptError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    TransactionConflictError,
)
from faregate.ops.drift import measure
from faregate.ports import DueUser, Forks, LiveAccounts, Snapshots, TransactionStream

#: The most users that are measured at once, and alignments that are sent again.
COUNT_MAX = 200
#: The pause after an alignment was refused, in seconds. Such a balance needs an operator, and each
#: try leaves a row.
REFUSED_PAUSE_S = 600.0

_REFUSED = (AmountError, LedgerCorruptError, TransactionConflictError)

_logger = logging.getLogger(__name__)


class Aligning:
    """Aligns the balances of users with kept records, a page in each step."""

    def __init__(
        self,
        forks: Forks,
        accounts: LiveAccounts,
        stream: TransactionStream,
        snapshots: Snapshots,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Align nothing yet. `clock` is a monotonic clock in seconds."""
        self._forks = forks
        self._accounts = accounts
        self._stream = stream
        self._snapshots = snapshots
        #: The last user of the last page. A balance that cannot be aligned now delays no other.
        self._after: DueUser | None = None
        self._clock = clock
        #: Until when a user is left alone whose alignment was refused.
        self._refused_until: dict[UUID, float] = {}

    def step(self) -> bool:
        """Compare and align the next users; return whether there may be more.

        Raises:
            ArchiveUnavailableError, LedgerError: A server does not answer. Users of shards that do
                are aligned.
        """
        failure: LedgerUnavailableError | None = None
        for alignment in self._forks.unanswered(COUNT_MAX):
            try:
                self._send(alignment)
            except LedgerUnavailableError as error:
                failure = error
        is_naming = self._forks.name_more()
        due = self._forks.due(self._after, COUNT_MAX)
        self._after = due[-1] if len(due) == COUNT_MAX else None
        for _, users in groupby(sorted(due, key=_shard), key=_shard):
            try:
                self._correct(list(users))
            except LedgerUnavailableError as error:
                failure = error
        if failure is not None:
            raise failure
        return is_naming or self._after is not None

    def _correct(self, users: Sequence[DueUser]) -> None:
        """Measure the balances of users of one shard, and align those that are wrong."""
        by_id: dict[UUID, list[DueUser]] = {}
        for user in users:
            by_id.setdefault(user.user_id, []).append(user)
        drifts = measure(list(by_id), self._accounts, self._stream, self._snapshots)
        right = [user for user in users if _is_right(user, drifts)]
        self._forks.note_aligned([(user, True) for user in right])
        aligned = 0
        for user_id, drift in drifts.items():
            alignment = Alignment.of(drift)
            # A deleted user is erased, and has no balance to align.
            if (
                not drift.is_zero
                and self._refused_until.get(user_id, 0.0) <= self._clock()
                and self._forks.begin(by_id[user_id][-1], alignment)
                and self._send(alignment)
            ):
                # Of all forks: the drift does not tell them apart.
                self._forks.note_aligned([(user, False) for user in by_id[user_id]])
                aligned += 1
        if aligned:
            _logger.warning(
                "balances aligned after a fork: shard=%d users=%d", users[0].shard, aligned
            )

    def _send(self, alignment: Alignment) -> bool:
        """Send an alignment, and note the answer; return whether it was made."""
        done: Aligned | None = None
        try:
            done = self._accounts.align(alignment)
        except LedgerUninitialisedError:
            # Redis was rebuilt from the rows, so nothing is left to align.
            _logger.info("alignment ended by a new epoch: user=%s", alignment.drift.user_id)
        except _REFUSED as error:
            self._refused_until[alignment.drift.user_id] = self._clock() + REFUSED_PAUSE_S
            _logger.warning("balance not aligned: user=%s: %s", alignment.drift.user_id, error)
        is_done = done is not None and done.is_done
        self._forks.end(alignment, done if is_done else None)
        return is_done


def _shard(user: DueUser) -> int:
    return user.shard


def _is_right(user: DueUser, drifts: Mapping[UUID, LiveDrift]) -> bool:
    """Return whether the balance of a user was found right."""
    drift = drifts.get(user.user_id)
    return drift is not None and drift.is_zero
