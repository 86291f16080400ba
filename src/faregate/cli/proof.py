"""The proof after a run: waits for the worker, reconciles, and reads numbers back.

It does not drain. Records that the worker has not stored make the proof fail.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from faregate.adapters.postgres.connection import Bounds, Connector, unavailable
from faregate.adapters.redis.stream import RedisStream
from faregate.bootstrap import open_audit, open_stream, open_sweeper
from faregate.config import Settings
from faregate.domain.errors import LedgerUnavailableError
from faregate.ops.reconcile import reconcile, verify

#: How long the worker may need for pending records after the last response, in seconds.
DRAIN_S_MAX = 120.0
DRAIN_CHECK_S = 0.2
#: The number of balances that are read at once.
PAGE_SIZE_MAX = 5_000

_BOUNDS = Bounds(statement_ms_max=60_000, lock_ms_max=5_000)

#: The purposes of rows, by type and description.
_COUNT_ROWS = """
with named as (
    select *, case
        when description = 'settlement of a hold' then 'settlement'
        when description = 'the hold expired' then 'expiry'
        when description like 'void:%%' then 'void'
        else ''
    end as purpose
    from public.credit_transactions
    where %(user_ids)s::uuid[] is null or user_id = any (%(user_ids)s::uuid[])
)
select
    count(*) as count,
    count(distinct user_id) as users,
    count(*) filter (where type = 'deduct' and purpose = '') as deducts,
    count(*) filter (where type = 'deduct' and purpose = 'settlement') as beyond_estimate,
    count(*) filter (where type = 'refund' and purpose = 'settlement') as below_estimate,
    count(*) filter (where type = 'refund' and purpose = 'expiry') as given_back,
    count(*) filter (where type = 'refund' and purpose = 'void') as voided,
    count(*) filter (where type = 'refund' and purpose = '') as refunded,
    coalesce(-sum(amount) filter (where type in ('deduct', 'refund')), 0)::bigint as spent,
    coalesce(sum(amount), 0)::bigint as credits
from named
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """Counts of rows."""

    #: Rows of all types.
    count: int
    users: int
    #: Charges and holds.
    deducts: int
    #: Deducts of settlements above the estimate.
    beyond_estimate: int
    #: Refunds of settlements below the estimate.
    below_estimate: int
    #: Refunds of expired holds.
    given_back: int
    #: Refunds of voids.
    voided: int
    #: Refunds of requests that failed.
    refunded: int
    #: The sum of all deducts and refunds, in credits.
    spent: int
    #: The sum of all amounts.
    credits: int

    @property
    def allowed(self) -> int:
        """Charges and settled holds: those of requests that the app answered."""
        return self.deducts - self.voided - self.given_back


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The numbers of Redis and Postgres at the end."""

    rows: RowCounts
    #: Users that have a profile or a row.
    users: int
    #: The sum of all live balances.
    live_credits: int
    #: Open holds.
    holds_open: int
    pending: int
    dead_letters: int
    drift_users: int
    #: A sentence for each disagreement.
    problems: Sequence[str]


def wait_until_drained(
    settings: Settings, check: Callable[[], None], on_left: Callable[[int], None]
) -> bool:
    """Wait until the worker has ended every hold and stored every record.

    `check` is called repeatedly, and raises an error if waiting is pointless. `on_left` is called
    with the number of holds and records that are left.

    Returns:
        Whether that happened in time.
    """
    until_s = time.monotonic() + DRAIN_S_MAX
    with open_stream(settings) as stream, open_sweeper(settings) as sweeper:
        while time.monotonic() < until_s:
            check()
            try:
                # Holds first, since the end of a hold makes a record.
                left = len(sweeper.open_holds()) + stream.pending_count()
            except LedgerUnavailableError:
                # The server is being restarted; `check` raises if it does not come back.
                time.sleep(DRAIN_CHECK_S)
                continue
            on_left(left)
            if not left:
                return True
            time.sleep(DRAIN_CHECK_S)
    return False


def prove(settings: Settings) -> Proof:
    """Reconcile, verify, and read back. There must be no traffic meanwhile.

    Raises:
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer.
    """
    with open_stream(settings) as stream, open_audit(settings) as audit:
        result = reconcile(stream, stream, audit)
        findings = [*result.findings, *verify(stream, stream, audit)]
        rows = count_rows(settings)
        live_users, live_credits = _live(stream, audit.users)
    with open_sweeper(settings) as sweeper:
        holds_open = len(sweeper.open_holds())
    problems = [finding.detail for finding in findings]
    problems += _unequal("pending records", result.pending_count, 0)
    problems += _unequal("open holds", holds_open, 0)
    problems += _unequal("dead letters", result.dead_letter_count, 0)
    problems += _unequal("users with a live balance", live_users, result.users_count)
    problems += _unequal("live credits of all users", live_credits, rows.credits)
    return Proof(
        rows=rows,
        users=result.users_count,
        live_credits=live_credits,
        holds_open=holds_open,
        pending=result.pending_count,
        dead_letters=result.dead_letter_count,
        drift_users=len({finding.user_id for finding in findings if finding.user_id}),
        problems=problems,
    )


def _unequal(what: str, found: int, expected: int) -> list[str]:
    return [] if found == expected else [f"{what}: {found}, but should be {expected}"]


def count_rows(settings: Settings, user_ids: Sequence[UUID] | None = None) -> RowCounts:
    """Count the rows of some users, or of all."""
    connector = Connector(settings.postgres_url, "faregate proof", _BOUNDS)
    parameters = {"user_ids": None if user_ids is None else list(user_ids)}
    with closing(connector), unavailable("count rows"), connector.transaction() as connection:
        cursor = connection.cursor(row_factory=class_row(RowCounts))
        return cursor.execute(_COUNT_ROWS, parameters).fetchall()[0]


def _live(
    stream: RedisStream, users_after: Callable[[UUID | None, int], Sequence[UUID]]
) -> tuple[int, int]:
    """Return how many users of Postgres are live, and their credits."""
    count, credits_sum, after = 0, 0, None
    while page := users_after(after, PAGE_SIZE_MAX):
        live = stream.read_many(page)
        count += len(live)
        credits_sum += sum(user.credits for user in live.values())
        after = page[-1]
    return count, credits_sum
