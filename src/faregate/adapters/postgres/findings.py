"""Findings of a verification, as sentences for an operator."""

from collections.abc import Callable, Iterable, Mapping

from psycopg.rows import DictRow

from faregate.adapters.postgres.schema import SchemaDifference
from faregate.domain.finding import Acknowledgement, DriftKind, Finding
from faregate.domain.fork import ALIGNER


def _gap(row: DictRow) -> Finding:
    first, last = row["place"], row["last_missing"]
    missing = f"transaction {first}" if first == last else f"transactions {first} to {last}"
    detail = f"User {row['user_id']} lacks {missing}: lost."
    return _finding(DriftKind.GAP, row, detail, (None, None), str(last))


def _fork(row: DictRow) -> Finding:
    count, place = row["entry_count"], row["place"]
    ids = ", ".join(map(str, row["ids"]))
    detail = f"User {row['user_id']} has {count} different transactions numbered {place}: {ids}."
    if row["is_explained"]:
        detail += f" Fork {row['fork_id']} of shard {row['shard']} explains it."
    return _finding(DriftKind.FORK, row, detail, (1, count))


def explanations(rows: Iterable[DictRow]) -> dict[str, Acknowledgement]:
    """Return the acceptance of each pair of equal sequences that a fork explains, by finding id."""
    return {
        _fork(row).id: Acknowledgement(
            actor=ALIGNER,
            reason=f"fork {row['fork_id']} of shard {row['shard']}: both count",
            acknowledged_at=row["noticed_at"],
        )
        for row in rows
        if row["is_explained"]
    }


def _break(row: DictRow) -> Finding:
    expected, found = int(row["expected"]), row["found"]
    detail = (
        f"Transaction {row['place']} of user {row['user_id']} has the balance {found} after it,"
        f" but the previous balance and its amount make {expected}."
    )
    return _finding(DriftKind.CHAIN, row, detail, (expected, found))


def _allowance_break(row: DictRow) -> Finding:
    expected, found = int(row["expected"]), row["found"]
    detail = (
        f"Transaction {row['place']} of user {row['user_id']} has the allowance {found} after it,"
        f" but the previous allowance and its own part make {expected}."
    )
    return _finding(DriftKind.CHAIN, row, detail, (expected, found), "allowance")


def _refund(row: DictRow) -> Finding:
    expected, found = int(row["expected"]), int(row["found"])
    deduct = f"deduct {row['refund_of']}" if row["refund_of"] else "no deduct"
    detail = f"User {row['user_id']} was refunded {found} for {deduct}, which took {expected}."
    return _finding(
        DriftKind.REFUND, row, detail, (expected, found), row["refund_of"] and str(row["refund_of"])
    )


def _forged(row: DictRow) -> Finding:
    detail = (
        f"Transaction {row['place']} of user {row['user_id']} was changed,"
        " or the worker did not write it."
    )
    # The leaf is part of the id, so a second change of the same row is another finding.
    return _finding(DriftKind.FORGED, row, detail, (None, None), f"{row['id']} {row['leaf'].hex()}")


def _broken_batch(row: DictRow) -> Finding:
    detail = (
        f"Batch {row['place']} of shard {row['shard']} does not follow from the previous batch:"
        " batches were changed or are missing."
    )
    # By its content, too.
    subject = f"batch {row['place']} of shard {row['shard']} {row['leaf'].hex()}"
    return _finding(DriftKind.FORGED, row, detail, (None, None), subject)


def _stale(row: DictRow) -> Finding:
    expected, found = row["expected"], row["found"]
    detail = (
        f"The profile of user {row['user_id']} has reached transaction {found},"
        f" but its rows have reached {expected}."
    )
    return _finding(DriftKind.PROJECTION, row, detail, (expected, found), "sequence")


def guard(difference: SchemaDifference) -> Finding:
    """Return the finding of a schema that has been changed; another change is another finding."""
    subject = f"{difference.subject}: {difference.detail}"
    return Finding(
        kind=DriftKind.GUARD,
        user_id=None,
        expected=None,
        found=None,
        subject=subject,
        detail=f"The schema has been changed: {subject}.",
    )


def _finding(
    kind: DriftKind,
    row: DictRow,
    detail: str,
    numbers: tuple[int | None, int | None],
    subject: str | None = None,
) -> Finding:
    expected, found = numbers
    return Finding(
        kind=kind,
        user_id=row["user_id"],
        # For a batch it is a number in its shard.
        sequence=row.get("place") if row["user_id"] else None,
        expected=expected,
        found=found,
        detail=detail,
        subject=subject,
    )


#: The checks of a verification: the name of a statement, and the finding for each of its rows.
CHECKS: Mapping[str, Callable[[DictRow], Finding]] = {
    "find_gaps": _gap,
    "find_forks": _fork,
    "find_breaks": _break,
    "find_allowance_breaks": _allowance_break,
    "find_refunds": _refund,
    "find_forged": _forged,
    "find_broken_batches": _broken_batch,
    "find_stale_profiles": _stale,
}
