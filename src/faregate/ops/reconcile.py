"""Reconciliation: for every user, live credits = durable credits + pending amounts.

It is exact while traffic flows, because of the order in which it reads.

1. How far each shard is stored, by its cursor, and how far the rows of a user go. Redis never knows
   less than that; if it does, it has lost history.
2. The live balance, with the user's sequence.
3. The records that follow the cursor in the stream.
4. Rows and dead letters, in one snapshot.

Whatever made up the balance, up to that sequence, is in 3 or in 4: what the cursor has passed is
stored. What came later has a higher sequence and is left out; what is in both is known by its id.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from faregate.domain.errors import ConfigurationError
from faregate.domain.finding import DriftKind, Finding
from faregate.domain.identity import LedgerIdentity
from faregate.domain.user import User
from faregate.ports import Audit, Cursor, LiveBalances, StreamEntry, TransactionStream

#: How many users are compared at a time. The pending records are read once for each page.
PAGE_SIZE_MAX = 10_000

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What a reconciliation found."""

    #: How many users were compared.
    users_count: int
    #: Where the numbers differ, in the order of user ids.
    findings: Sequence[Finding]
    #: How many records were not known to be rows at the end.
    pending_count: int
    #: How many dead letters wait for an operator.
    dead_letter_count: int

    @property
    def drift_users_count(self) -> int:
        """How many users have drift."""
        return len({finding.user_id for finding in self.findings if finding.user_id})

    @property
    def is_exact(self) -> bool:
        """Whether every number agrees."""
        return not self.findings


def reconcile(
    stream: TransactionStream,
    balances: LiveBalances,
    audit: Audit,
    on_progress: Progress | None = None,
    *,
    page_size_max: int = PAGE_SIZE_MAX,
) -> Reconciliation:
    """Compare every user's live balance with its rows and pending records. Writes nothing.

    Args:
        stream: Where pending records lie.
        balances: Where live credits lie.
        audit: Where rows and dead letters lie.
        on_progress: Is told how many users have been compared.
        page_size_max: How many users are compared at a time.

    Raises:
        ConfigurationError: The stream has another shard count than the ledger.
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer.
    """
    identity = audit.identity()
    if identity.shard_count != stream.shard_count:
        raise ConfigurationError(
            f"the ledger has {identity.shard_count} shards, the settings say {stream.shard_count}"
        )
    findings = _identity_findings(stream, balances, identity)
    users_count = 0
    for users in _pages(audit, page_size_max):
        cursors = audit.cursors()
        reached = audit.reached(users)
        live = balances.read_many(users)
        copies = _copies(stream, cursors, frozenset(users))
        findings += _behind(users, live, reached, identity.epoch)
        findings += _lost(balances, live, copies)
        findings += audit.compare(users, live, [c for c in copies if c.transaction])
        users_count += len(users)
        if on_progress:
            on_progress(users_count)
    return Reconciliation(
        users_count=users_count,
        findings=findings,
        pending_count=stream.pending_count(),
        dead_letter_count=audit.dead_letter_count(),
    )


def _behind(
    users: Sequence[UUID],
    live: Mapping[UUID, User],
    reached: Mapping[UUID, User],
    epoch: int,
) -> Iterator[Finding]:
    """Find users of whom Redis knows less than their rows, or nothing where it must."""
    for user_id in users:
        row = reached.get(user_id)
        if row is None or (user_id not in live and row.epoch != epoch):
            continue
        found = live[user_id].sequence if user_id in live else None
        if found is None or found < row.sequence:
            place = "unknown to" if found is None else f"at transaction {found} in"
            detail = f"User {user_id} is {place} Redis, but its rows go on to {row.sequence}."
            yield _lost_history(user_id, row.sequence, found, detail)


def _lost(
    balances: LiveBalances, live: Mapping[UUID, User], copies: Sequence[StreamEntry]
) -> Iterator[Finding]:
    """Find users with records in the stream and no balance, and look twice: they may be new."""
    unknown = {
        copy.transaction.user_id: copy.transaction.sequence
        for copy in copies
        if copy.transaction and copy.transaction.user_id not in live
    }
    known = balances.read_many(list(unknown))
    for user_id, sequence in unknown.items():
        if user_id not in known:
            detail = f"User {user_id} is unknown to Redis, but transaction {sequence} is pending."
            yield _lost_history(user_id, sequence, None, detail)


def _lost_history(user_id: UUID, expected: int, found: int | None, detail: str) -> Finding:
    return Finding(
        kind=DriftKind.BEHIND, user_id=user_id, expected=expected, found=found, detail=detail
    )


def _pages(audit: Audit, page_size_max: int) -> Iterator[Sequence[UUID]]:
    after = None
    while users := audit.users(after, page_size_max):
        yield users
        after = users[-1]


def _copies(
    stream: TransactionStream, cursors: Mapping[int, Cursor], users: frozenset[UUID]
) -> list[StreamEntry]:
    return [
        entry
        for shard in range(stream.shard_count)
        for entry in stream.pending(shard, cursors.get(shard))
        if entry.transaction and entry.transaction.user_id in users
    ]


def verify(stream: TransactionStream, balances: LiveBalances, audit: Audit) -> Sequence[Finding]:
    """Check what rows, dead letters, schema and identity alone can prove. Writes nothing."""
    return [*audit.verify(), *_identity_findings(stream, balances, audit.identity())]


def _identity_findings(
    stream: TransactionStream, balances: LiveBalances, identity: LedgerIdentity
) -> list[Finding]:
    """Find a Redis that was wiped in part or whole, or belongs to another ledger."""
    if not identity.installed:
        return []
    findings = [
        _wrong_epoch(shard, identity.epoch, epoch)
        for shard, epoch in enumerate(balances.epochs())
        if epoch != identity.epoch
    ]
    problem = identity.mismatch(stream.marks())
    if problem:
        detail = f"Redis and Postgres do not belong together: {problem}."
        findings.append(
            Finding(kind=DriftKind.EPOCH, user_id=None, expected=None, found=None, detail=detail)
        )
    return findings


def _wrong_epoch(shard: int, expected: int, found: int | None) -> Finding:
    holds = "holds no epoch: it was wiped" if found is None else f"is of epoch {found}"
    return Finding(
        kind=DriftKind.EPOCH,
        user_id=None,
        expected=expected,
        found=found,
        detail=f"Shard {shard} of Redis {holds}, where Postgres expects {expected}.",
    )
