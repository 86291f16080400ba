"""Rebuild: creates a ledger in an empty Redis, from the rows.

A new epoch begins in Postgres, and is written to each shard, then the identity; from then on gates
serve. Each user
is installed from its rows at its first request, or by `install_all`: credits, sequence, the rest of
the allowance and the start of its period.

Records that were not drained are lost with their Redis. Their sequences are used again, and their
amounts are neither charged nor given back.
"""

from collections.abc import Callable
from dataclasses import dataclass

from faregate.domain.errors import ConfigurationError
from faregate.domain.identity import LedgerIdentity
from faregate.ports import Audit, Installer, LedgerAdmin, LiveBalances

#: How many users are installed at once.
PAGE_SIZE_MAX = 2_000

#: Receives the number of installed users, and an estimate of all.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The progress of an installation."""

    #: Users that were checked, and those that were missing.
    users: int = 0
    installed: int = 0


def rebuild(
    found: LiveBalances,
    installer: Installer,
    admin: LedgerAdmin,
    identity: LedgerIdentity,
    shard_count: int,
) -> LedgerIdentity:
    """Begin a new epoch, and create a ledger in an empty Redis.

    If it is killed in between, no Redis serves, and the next rebuild begins another epoch.

    Args:
        found: The new Redis.
        installer: Its installer.
        admin: The store of the epoch, in the role of the owner.
        identity: The identity of the ledger, read before Redis, to detect another rebuild in
            between.
        shard_count: The number of shards from now on.

    Raises:
        ConfigurationError: Redis is not empty, or another rebuild runs at the same time.
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer.
    """
    require_empty(found)
    made = admin.begin_epoch(identity.epoch, shard_count)
    if not installer.create(made):
        raise ConfigurationError(
            "another process has just made a ledger of this Redis: empty it, and rebuild again"
        )
    return made


def require_empty(found: LiveBalances) -> None:
    """Check that a Redis holds no ledger, and no remains of one.

    Raises:
        ConfigurationError: Redis is not empty; the message names the next step.
    """
    epochs = found.epochs()
    installed = [epoch for epoch in epochs if epoch is not None]
    fields = found.identity_fields()
    # Without identity and records it is what a rebuild left that was killed in between.
    if installed and (fields or found.made_count()):
        raise ConfigurationError(
            f"Redis is not lost: {len(installed)} of its {len(epochs)} shards hold epoch"
            f" {max(installed)}."
            " If it is to be given up, name it by --from, and name an empty Redis in the settings"
        )
    if fields or found.left_count():
        raise ConfigurationError(
            "Redis is not empty: it keeps what is left of an earlier ledger: empty it, then rebuild"
        )


def is_rebuilt(found: LiveBalances, identity: LedgerIdentity) -> bool:
    """Return whether Redis has the current epoch."""
    return set(found.epochs()) == {identity.epoch} and not identity.mismatch(
        found.identity_fields()
    )


def install_all(
    balances: LiveBalances,
    installer: Installer,
    audit: Audit,
    admin: LedgerAdmin,
    on_progress: Progress | None = None,
) -> Installed:
    """Install every user that Redis does not know yet. Gates may serve meanwhile.

    After a kill run it again: installed users are skipped.

    Args:
        balances: The live balances, to find installed users.
        installer: The installer of the same Redis.
        audit: The list of users.
        admin: The durable balances, in the role of the owner.
        on_progress: Called with the progress.

    Raises:
        LedgerError, ArchiveUnavailableError: A server does not answer, or Redis was lost again.
    """
    estimate = audit.users_estimate()
    users = installed = 0
    after = None
    while page := audit.users(after, PAGE_SIZE_MAX):
        after = page[-1]
        known = balances.read_many(page)
        opened = admin.open([user_id for user_id in page if user_id not in known])
        installed += installer.install(opened)
        users += len(page)
        if on_progress is not None:
            on_progress(users, estimate)
    return Installed(users=users, installed=installed)
