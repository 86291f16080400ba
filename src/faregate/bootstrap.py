"""Builds everything from settings. Nothing connects before its first use."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

from faregate.adapters.journal.writer import FileJournal
from faregate.adapters.postgres import access as postgres_access
from faregate.adapters.postgres.accounts import PostgresAccounts
from faregate.adapters.postgres.admin import PostgresAdmin
from faregate.adapters.postgres.api_keys import PostgresApiKeyAdmin, PostgresApiKeys
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.erasures import PostgresErasures
from faregate.adapters.postgres.forks import PostgresForks
from faregate.adapters.postgres.history import PostgresHistory
from faregate.adapters.postgres.letters import PostgresLetters
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.orders import PostgresOrders
from faregate.adapters.postgres.reconciliations import PostgresReconciliations
from faregate.adapters.postgres.repairs import PostgresRepairs
from faregate.adapters.postgres.reports import PostgresReports
from faregate.adapters.postgres.server import PostgresServer
from faregate.adapters.postgres.snapshots import PostgresSnapshots
from faregate.adapters.redis import rights as redis_rights
from faregate.adapters.redis.alignments import RedisAccounts
from faregate.adapters.redis.credits import RedisCredits
from faregate.adapters.redis.installer import RedisInstaller
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.records import read_alone
from faregate.adapters.redis.requests import RedisRequests
from faregate.adapters.redis.server import RedisServer
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.sweeper import RedisSweeper
from faregate.adapters.redis.urls import QUEUE_SETTING
from faregate.config import QUEUE_NAME, Settings, read_settings
from faregate.domain.errors import ArchiveUnavailableError, LedgerUnavailableError
from faregate.domain.policy import BreakerOptions, CreditPolicy, GateOptions, PolicySet
from faregate.domain.server import Queue
from faregate.gate import Gate, TierOf
from faregate.ops import doctor
from faregate.ops.doctor import Probe
from faregate.ports import ApiKeys
from faregate.sync import SyncGate


def build_gate(
    settings: Settings,
    policies: CreditPolicy | PolicySet | None = None,
    tier_of: TierOf | None = None,
) -> Gate:
    """Build a gate; `Gate.aclose` closes its connections.

    Args:
        settings: The addresses of the servers, and the bounds.
        policies: One policy, or one for each tier; None for the policy of the settings.
        tier_of: Returns the tier of a user, if there are several.

    Raises:
        ConfigurationError: Settings contradict each other, or the folder of the journal is missing.
    """
    ledger = RedisLedger.from_url(
        settings.redis_url,
        shard_count=settings.shard_count,
        pending_max=settings.pending_max,
        decision_timeout_ms=settings.decision_timeout_ms,
    )
    policies = policies or CreditPolicy(
        starting_credits=settings.starting_credits, request_cost=settings.request_cost
    )
    return Gate(
        ledger,
        PostgresAccounts(settings.postgres_url),
        policies,
        _options(settings),
        tier_of,
        history=PostgresHistory(settings.postgres_url),
        journal=_journal(settings),
    )


def build_sync_gate(
    settings: Settings | None = None,
    policies: CreditPolicy | PolicySet | None = None,
    tier_of: TierOf | None = None,
) -> SyncGate:
    """Build a gate for threads, one in each process; see `build_gate` and `SyncGate`.

    Without settings, those of the environment are read at the first use.
    """
    return SyncGate(lambda: build_gate(settings or read_settings(), policies, tier_of))


def _options(settings: Settings) -> GateOptions:
    return GateOptions(
        decision_timeout_ms=settings.decision_timeout_ms,
        end_timeout_ms=settings.end_timeout_ms,
        open_rate_max=settings.open_rate_max,
        breaker=BreakerOptions(
            failures_max=settings.breaker_failures_max,
            span_ms=settings.breaker_span_ms,
            delay_ms_min=settings.breaker_delay_ms_min,
            delay_ms_max=settings.breaker_delay_ms_max,
        ),
        provision_users=settings.provision_users,
        idempotency_lifetime_ms=settings.idempotency_lifetime_ms,
        idempotency_lease_ms=settings.idempotency_lease_ms,
        idempotency_keys_max=settings.idempotency_keys_max,
    )


def _journal(settings: Settings) -> FileJournal | None:
    if not settings.journal_dir:
        return None
    return FileJournal(Path(settings.journal_dir), bytes_max=settings.journal_bytes_max)


def build_api_keys(settings: Settings) -> ApiKeys:
    """Build the lookup of API keys; the caller closes it."""
    return PostgresApiKeys(settings.postgres_url)


@asynccontextmanager
async def open_gate(settings: Settings | None = None) -> AsyncIterator[Gate]:
    """Open a gate for the block; without settings, those of the environment are read."""
    gate = build_gate(settings or read_settings())
    try:
        await gate.start()
        yield gate
    finally:
        await gate.aclose()


def migrate(settings: Settings) -> None:
    """Bring Postgres to the schema of this version, as `faregate migrate` does.

    Raises:
        ArchiveUnavailableError: Postgres cannot be reached.
        UnfitDatabaseError: The database does not fit; `obstacles` has the reasons.
        MigrationError: A migration cannot be applied.
    """
    Migrator(settings.postgres_url).apply(
        shard_count=settings.shard_count, starting_credits=settings.starting_credits
    )


def check_worker_rights(settings: Settings) -> None:
    """Check that a worker has its rights. A server that does not answer is skipped.

    Raises:
        ConfigurationError: A right is missing; the message says which one, and how to grant it.
    """
    with suppress(LedgerUnavailableError):
        redis_rights.check_worker(settings.redis_url, settings.rq_url)
    with suppress(ArchiveUnavailableError):
        postgres_access.check_worker(settings.postgres_url)


def check_repairer_rights(settings: Settings) -> None:
    """Check that an operator may correct live balances; raises as `check_worker_rights` does.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    redis_rights.check_repairer(settings.redis_url)


def open_stream(settings: Settings) -> closing[RedisStream]:
    """Open the stream for a worker or an operator, to be closed by `with`."""
    return closing(
        RedisStream.from_url(settings.redis_url, settings.shard_count, stored_ms=settings.stored_ms)
    )


def open_installer(settings: Settings) -> closing[RedisInstaller]:
    """Open Redis for a rebuild."""
    return closing(RedisInstaller.from_url(settings.redis_url, settings.shard_count))


def open_sweeper(settings: Settings) -> closing[RedisSweeper]:
    """Open the sweeper of expired holds for a worker."""
    return closing(RedisSweeper.from_url(settings.redis_url, settings.shard_count))


def open_accounts(settings: Settings) -> closing[RedisAccounts]:
    """Open live accounts for an operator who compares and corrects them."""
    return closing(RedisAccounts.from_url(settings.redis_url, settings.shard_count))


def open_archive(settings: Settings) -> closing[PostgresArchive]:
    """Open the archive for a worker."""
    return closing(PostgresArchive(settings.postgres_url))


def open_orders(settings: Settings) -> closing[PostgresOrders]:
    """Open the orders of credits."""
    return closing(PostgresOrders(settings.postgres_url))


def open_credits(settings: Settings) -> closing[RedisCredits]:
    """Open Redis to add credits, for a worker."""
    return closing(RedisCredits.from_url(settings.redis_url, settings.shard_count))


def open_forks(settings: Settings) -> closing[PostgresForks]:
    """Open the forks and their records, for a worker."""
    return closing(PostgresForks(settings.postgres_url))


def open_audit(settings: Settings) -> closing[PostgresAudit]:
    """Open Postgres for an operator."""
    return closing(PostgresAudit(settings.postgres_url))


def open_snapshots(settings: Settings) -> closing[PostgresSnapshots]:
    """Open snapshots of Postgres, to be compared with live accounts."""
    return closing(PostgresSnapshots(PostgresAudit(settings.postgres_url)))


def open_reconciliations(settings: Settings) -> closing[PostgresReconciliations]:
    """Open the saved reconciliations."""
    return closing(PostgresReconciliations(settings.postgres_url))


def open_reports(settings: Settings) -> closing[PostgresReports]:
    """Open Postgres to list rows and dead letters."""
    return closing(PostgresReports(PostgresAudit(settings.postgres_url)))


def open_repairs(settings: Settings) -> closing[PostgresRepairs]:
    """Open Postgres for the owner to repair rows and profiles."""
    return closing(PostgresRepairs(settings.postgres_url))


def open_letters(settings: Settings) -> closing[PostgresLetters]:
    """Open the dead letters for the owner of the ledger."""
    return closing(PostgresLetters(settings.postgres_url, read_alone))


def open_erasures(settings: Settings) -> closing[PostgresErasures]:
    """Open Postgres to erase users, for the owner of the ledger."""
    return closing(PostgresErasures(settings.postgres_url))


def open_requests(settings: Settings) -> closing[RedisRequests]:
    """Open the requests and keys of users in Redis, for an operator."""
    return closing(RedisRequests.from_url(settings.redis_url, settings.shard_count))


def open_admin(settings: Settings) -> closing[PostgresAdmin]:
    """Open Postgres for the owner of the ledger."""
    return closing(PostgresAdmin(settings.postgres_url))


@contextmanager
def open_servers(settings: Settings) -> Iterator[dict[str, Probe]]:
    """Open the probes of both servers."""
    redis = RedisServer.from_url(settings.redis_url, shard_count=settings.shard_count)
    with closing(redis), closing(PostgresServer(settings.postgres_url)) as postgres:
        yield {"redis": redis.inspect, "postgres": postgres.inspect}


@contextmanager
def open_probes(settings: Settings) -> Iterator[dict[str, Probe]]:
    """Open all probes of the doctor, for an operator."""
    with (
        open_servers(settings) as probes,
        open_stream(settings) as stream,
        open_reports(settings) as reports,
        open_orders(settings) as orders,
    ):
        yield probes | {
            "queue": lambda: _inspect_queue(settings),
            "ledger": lambda: doctor.ledger(stream, stream, reports.audit),
            "records": lambda: doctor.backlog(stream, reports.audit),
            "orders": orders.counts,
            "dead_letters": reports.audit.dead_letter_counts,
            "forks": reports.recent_forks,
            "reconciliation": reports.last_reconciliation,
        }


def _inspect_queue(settings: Settings) -> Queue:
    # Opened here, so that a queue without a possible URL is a symptom and hides no other.
    with closing(RedisServer.from_url(settings.rq_url, QUEUE_SETTING)) as queue:
        return queue.inspect_queue(QUEUE_NAME)


def open_api_key_admin(settings: Settings) -> closing[PostgresApiKeyAdmin]:
    """Open Postgres to make and revoke API keys."""
    return closing(PostgresApiKeyAdmin(settings.postgres_url))
