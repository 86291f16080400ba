"""Facts from the servers about the findings of some users."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from faregate.domain.alignment import LiveDrift
from faregate.domain.finding import DriftKind, Finding
from faregate.domain.repair import Row, RowContext
from faregate.domain.transaction import CreditTransaction
from faregate.domain.user import User
from faregate.ops.drift import measure
from faregate.ops.repair.candidates import candidates
from faregate.ports import LiveAccounts, LiveBalances, Snapshots, TransactionStream
from faregate.ports.repairs import Repairs

#: How many records are decoded at a time.
_BATCH_SIZE = 1_000
#: Kinds that need records of the stream, which stay there for a while after they are rows.
_OF_RECORDS = frozenset({DriftKind.GAP, DriftKind.FORGED})
#: Kinds that need the exact drift of live balances.
_OF_DRIFT = frozenset({DriftKind.LIVE, DriftKind.BEHIND, DriftKind.FORK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts by the ids of findings, unless noted otherwise."""

    #: Live balances by user, read before the records.
    live: Mapping[UUID, User]
    #: The drift of live balances by user, if it could be measured.
    drifts: Mapping[UUID, LiveDrift]
    #: The records of the stream by user, in the order of their sequences.
    records: Mapping[UUID, Sequence[CreditTransaction]]
    #: The surroundings of gaps, of forged rows, and of the newest number of accounts.
    row_context: Mapping[str, RowContext]
    #: Forged rows as they are now.
    rows: Mapping[str, Row]
    #: Their originals, which a batch wrote, if they could be found.
    originals: Mapping[str, Row]
    #: The ids of records that a batch wrote unchanged.
    proven: frozenset[UUID]


@dataclass(slots=True)
class Sources:
    """The sources of facts."""

    stream: TransactionStream
    balances: LiveBalances
    accounts: LiveAccounts
    snapshots: Snapshots
    repairs: Repairs


def gather(findings: Sequence[Finding], sources: Sources) -> Facts:
    """Read the facts for a plan. Writes nothing."""
    repairs = sources.repairs
    asked = [one for one in findings if one.kind in _OF_RECORDS and one.user_id]
    users = sorted({one.user_id for one in asked if one.user_id})
    live = sources.balances.read_many(_users(findings))
    drifts = _drifts(findings, sources)
    rows = {
        one.id: row
        for one in asked
        if one.kind is DriftKind.FORGED and (row := repairs.row(row_id_of(one)))
    }
    records = _records(sources.stream, users, {UUID(str(row["id"])) for row in rows.values()})
    row_context = {
        one.id: repairs.row_context(one.user_id, *numbers)
        for one in findings
        if one.user_id and (numbers := _numbers(one, drifts))
    }
    listed = [one for several in records.values() for one in several]
    known = repairs.proven([row_of(one) for one in listed])
    return Facts(
        live=live,
        drifts=drifts,
        records=records,
        row_context=row_context,
        rows=rows,
        originals=_originals(findings, rows, row_context, listed, repairs),
        proven=frozenset(
            one.id.value for one, is_proven in zip(listed, known, strict=True) if is_proven
        ),
    )


def _users(findings: Sequence[Finding]) -> list[UUID]:
    return sorted({one.user_id for one in findings if one.user_id})


def _drifts(findings: Sequence[Finding], sources: Sources) -> Mapping[UUID, LiveDrift]:
    users = _users([one for one in findings if one.kind in _OF_DRIFT])
    if not users:
        return {}
    return measure(users, sources.accounts, sources.stream, sources.snapshots)


def row_id_of(finding: Finding) -> UUID:
    """Return the id of the row of a finding."""
    return UUID((finding.subject or "").partition(" ")[0])


def row_of(made: CreditTransaction) -> Row:
    """Return the row of a record."""
    return {
        "id": str(made.id),
        "user_id": str(made.user_id),
        "amount": made.amount,
        "type": made.type.value,
        "description": made.description,
        "metadata": None if made.metadata is None else dict(made.metadata),
        "timestamp": made.timestamp.isoformat(),
        "sequence": made.sequence,
        "balance_after": made.balance_after,
        "epoch": made.epoch,
        "refund_of": None if made.refund_of is None else str(made.refund_of),
        "allowance_amount": made.allowance_amount,
        "allowance_after": made.allowance_after,
        "period_start": made.period_start and made.period_start.isoformat(),
    }


def last_of(finding: Finding) -> int:
    """Return the last sequence of a gap."""
    return int(finding.subject or finding.sequence or 0)


def _numbers(finding: Finding, drifts: Mapping[UUID, LiveDrift]) -> tuple[int, int] | None:
    """Return the first and the last sequence whose neighbours the plan needs."""
    if finding.kind in _OF_RECORDS:
        first = finding.sequence or 0
        return first, last_of(finding) if finding.kind is DriftKind.GAP else first
    drift = drifts.get(finding.user_id) if finding.user_id else None
    if finding.kind is not DriftKind.LIVE or drift is None or drift.account.user is None:
        return None
    return drift.account.user.sequence, drift.account.user.sequence


def _records(
    stream: TransactionStream, users: Iterable[UUID], ids: set[UUID]
) -> Mapping[UUID, list[CreditTransaction]]:
    """Read the streams from their beginning, including stored records."""
    found: dict[UUID, list[CreditTransaction]] = {user_id: [] for user_id in users}
    if not found:
        return found
    for shard in range(stream.shard_count):
        place = None
        while batch := stream.read(shard, place, _BATCH_SIZE):
            for entry in batch.records():
                made = entry.transaction
                if made and (made.user_id in found or made.id.value in ids):
                    found.setdefault(made.user_id, []).append(made)
            place = batch.end
            if batch.count < _BATCH_SIZE:
                break
    return {
        user_id: sorted(several, key=lambda one: (one.sequence, one.epoch))
        for user_id, several in found.items()
    }


def _originals(
    findings: Sequence[Finding],
    rows: Mapping[str, Row],
    row_context: Mapping[str, RowContext],
    records: Sequence[CreditTransaction],
    repairs: Repairs,
) -> Mapping[str, Row]:
    """Find the originals of forged rows among their possible contents."""
    gaps = [one for one in findings if one.kind is DriftKind.GAP]
    asked: list[tuple[str, Row]] = []
    for finding_id, row in rows.items():
        missing = [gap for gap in gaps if str(gap.user_id) == row["user_id"]]
        # A changed sequence may leave a gap of any length, so gaps are not listed.
        numbers = (n for gap in missing for n in range(gap.sequence or 0, last_of(gap) + 1))
        known_by_id = [row_of(one) for one in records if str(one.id) == row["id"]]
        # The id may have been changed: then a record with this sequence has no row.
        lost = [
            row_of(one)
            for one in records
            if (str(one.user_id), one.sequence) == (row["user_id"], row["sequence"])
            and repairs.row(one.id.value) is None
        ]
        possible = [*known_by_id, *candidates(row, row_context[finding_id], numbers), *lost]
        asked += [(finding_id, one) for one in possible]
    known = repairs.proven([row for _, row in asked])
    found: dict[str, Row] = {}
    for (finding_id, row), is_proven in zip(asked, known, strict=True):
        if is_proven:
            found.setdefault(finding_id, row)
    return found
