"""Reconciliation: for every user, live credits = durable credits + pending amounts.

It is exact under traffic, because of the order of reading, for a page of users at a time:

1. The cursor of each shard, and the last sequence in the rows of each user. If Redis knows less
   than that, it has lost history.
2. The live balance, with its sequence. 3. The records after the cursor: first all of them, later
only new ones. 4. Rows and dead letters, in one snapshot.

Each change up to the sequence of step 2 is in step 3 or step 4, since records before the cursor are
stored. A later change has a higher sequence and is left out. A change in both is counted once, by
its id.

Users whose numbers do not agree are compared again at the end, with a new reading of the streams.
So an event such as a failover in between makes no finding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from faregate.domain.finding import DriftKind, Finding, Reconciliation, Verification
from faregate.domain.identity import LedgerIdentity
from faregate.domain.user import User
from faregate.ops.pending import PendingRecords
from faregate.ports import Audit, Copy, LiveBalances, TransactionStream

#: How many users are compared at a time.
PAGE_SIZE_MAX = 2_000
#: The largest difference between the clocks of Redis, Postgres and this process.
CLOCKS_APART_MAX = timedelta(minutes=5)

#: Called with the number of compared users, and an estimate of all, or None.
Progress = Callable[[int, int | None], None]
_Seen: TypeAlias = tuple[DriftKind, UUID | None]


def reconcile(
    stream: TransactionStream,
    balances: LiveBalances,
    audit: Audit,
    on_progress: Progress | None = None,
    *,
    since: datetime | None = None,
    page_size_max: int = PAGE_SIZE_MAX,
) -> Reconciliation:
    """Compare live balances of users with their rows and pending records. Writes nothing.

    Memory grows with pending records and with findings, and not with users.

    Args:
        stream: The stream of records.
        balances: The live balances.
        audit: The rows and dead letters.
        on_progress: Called with the progress.
        since: `next_since` of an earlier reconciliation, to compare only users with newer rows.
        page_size_max: The size of a page of users.

    Raises:
        ConfigurationError: The stream has another shard count than the ledger.
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer.
    """
    began_at, identity = datetime.now(UTC), _identity(stream, audit)
    findings = identity_findings(stream, balances, identity)
    first, second = (_Comparison(stream, balances, audit, identity.epoch) for _ in range(2))
    users_count, seen = 0, set[_Seen]()
    estimate = None if since else audit.users_estimate()
    for users in () if findings and _is_empty(balances) else _pages(audit, since, page_size_max):
        seen.update((finding.kind, finding.user_id) for finding in first.at(users))
        users_count += len(users)
        if on_progress:
            on_progress(users_count, estimate)
    findings += _seen_again(second, seen, page_size_max)
    parted = Verification.of(findings, audit.acknowledgements())
    return Reconciliation(
        began_at=began_at,
        ended_at=datetime.now(UTC),
        since=since,
        # After findings the next one compares the same users again.
        next_since=since if parted.findings else first.complete_until(began_at) - CLOCKS_APART_MAX,
        users_count=users_count,
        findings=parted.findings,
        acknowledged=parted.acknowledged,
        pending_count=stream.pending_count(),
        dead_letter_count=audit.dead_letter_count(),
    )


def differences(
    stream: TransactionStream, balances: LiveBalances, audit: Audit, users: Sequence[UUID]
) -> Sequence[Finding]:
    """Compare some users, and return findings that two comparisons agree on."""
    epoch = _identity(stream, audit).epoch
    first, second = (_Comparison(stream, balances, audit, epoch) for _ in range(2))
    seen, asked = set[_Seen](), sorted(users)
    for start in range(0, len(asked), PAGE_SIZE_MAX):
        page = asked[start : start + PAGE_SIZE_MAX]
        seen.update((finding.kind, finding.user_id) for finding in first.at(page))
    return list(_seen_again(second, seen, PAGE_SIZE_MAX))


@dataclass(slots=True)
class _Comparison:
    """One pass over users by id."""

    stream: TransactionStream
    balances: LiveBalances
    audit: Audit
    epoch: int
    pending: PendingRecords = field(init=False)

    def __post_init__(self) -> None:
        self.pending = PendingRecords(self.stream)

    def at(self, users: Sequence[UUID]) -> list[Finding]:
        """Compare the next page of users by id."""
        cursors = self.audit.cursors()
        reached = self.audit.reached(users)
        live = self.balances.read_many(users)
        self.pending.read(cursors)
        asked = frozenset(users)
        copies = [copy for copy in self.pending.take(users[-1]) if copy.user_id in asked]
        findings = [
            *_behind(users, live, reached, self.epoch),
            *_lost(self.balances, live, copies),
            *self.audit.compare(users, live, copies),
        ]
        return sorted(findings, key=lambda finding: str(finding.user_id))

    def complete_until(self, began_at: datetime) -> datetime:
        """Return the time from which records may have been pending at the start."""
        oldest = self.pending.oldest
        return min(began_at, oldest) if oldest else began_at


def _seen_again(comparison: _Comparison, seen: set[_Seen], page_size_max: int) -> Iterator[Finding]:
    """Compare users with findings again, and return findings that two comparisons agree on."""
    users = sorted({user_id for _, user_id in seen if user_id})
    for start in range(0, len(users), page_size_max):
        for finding in comparison.at(users[start : start + page_size_max]):
            if (finding.kind, finding.user_id) in seen:
                yield finding


def _behind(
    users: Sequence[UUID],
    live: Mapping[UUID, User],
    reached: Mapping[UUID, User],
    epoch: int,
) -> Iterator[Finding]:
    """Find users whose live sequence is behind their rows, or missing."""
    for user_id in users:
        row = reached.get(user_id)
        if row is None or (user_id not in live and row.epoch != epoch):
            continue
        found = live[user_id].sequence if user_id in live else None
        if found is None or found < row.sequence:
            place = "unknown to" if found is None else f"at transaction {found} in"
            detail = f"User {user_id} is {place} Redis, but its rows reach {row.sequence}."
            yield _lost_history(user_id, row.sequence, found, detail)


def _lost(
    balances: LiveBalances, live: Mapping[UUID, User], copies: Sequence[Copy]
) -> Iterator[Finding]:
    """Find users with records but without a live balance; check twice, since they may be new."""
    unknown = {copy.user_id: copy.sequence for copy in copies if copy.user_id not in live}
    known = balances.read_many(list(unknown)) if unknown else {}
    for user_id, sequence in unknown.items():
        if user_id not in known:
            detail = f"User {user_id} is unknown to Redis, but transaction {sequence} is pending."
            yield _lost_history(user_id, sequence, None, detail)


def _lost_history(user_id: UUID, expected: int, found: int | None, detail: str) -> Finding:
    return Finding(
        kind=DriftKind.BEHIND,
        user_id=user_id,
        sequence=expected,
        expected=expected,
        found=found,
        detail=detail,
    )


def _identity(stream: TransactionStream, audit: Audit) -> LedgerIdentity:
    identity = audit.identity()
    identity.require_shards(stream.shard_count)
    return identity


def _pages(audit: Audit, since: datetime | None, page_size_max: int) -> Iterator[Sequence[UUID]]:
    after = None
    while users := audit.users(after, page_size_max, since):
        yield users
        after = users[-1]


def verify(stream: TransactionStream, balances: LiveBalances, audit: Audit) -> Sequence[Finding]:
    """Return the findings of `verification` that are not acknowledged."""
    return verification(stream, balances, audit).findings


def verification(stream: TransactionStream, balances: LiveBalances, audit: Audit) -> Verification:
    """Check rows, dead letters, schema and identity. Writes nothing."""
    found = [*audit.verify(), *identity_findings(stream, balances, audit.identity())]
    return Verification.of(found, audit.acknowledgements())


def identity_findings(
    stream: TransactionStream, balances: LiveBalances, identity: LedgerIdentity
) -> list[Finding]:
    """Return findings about a Redis that was wiped, or belongs to another ledger."""
    if not identity.installed:
        return []
    problem = identity.mismatch(stream.identity_fields())
    findings = [
        _wrong_epoch(shard, identity.epoch, epoch)
        for shard, epoch in enumerate(balances.epochs())
        if epoch != identity.epoch
    ]
    if problem:
        if _is_empty(balances):
            findings.clear()
        detail = f"Redis does not match Postgres: {problem}."
        findings.append(
            Finding(
                kind=DriftKind.EPOCH,
                user_id=None,
                expected=None,
                found=None,
                detail=detail,
                subject=problem,
            )
        )
    return findings


def _is_empty(balances: LiveBalances) -> bool:
    """Return whether Redis holds no ledger, which is one finding and not one for each user."""
    return all(epoch is None for epoch in balances.epochs())


def _wrong_epoch(shard: int, expected: int, found: int | None) -> Finding:
    holds = "holds no epoch: it was wiped" if found is None else f"is of epoch {found}"
    return Finding(
        kind=DriftKind.EPOCH,
        user_id=None,
        expected=expected,
        found=found,
        detail=f"Shard {shard} of Redis {holds}, where Postgres expects {expected}.",
        subject=f"shard {shard}",
    )
