"""Rebuild: makes a ledger of an empty Redis, from the rows.

Rows are enough for it. A new epoch begins in Postgres, and Redis is given it in one step: from then
on gates serve. Each user is installed from its rows when it is seen for the first time, or by
`install_all`, whichever comes first: credits, sequence, what is left of the allowance and when its
period began.

Records that had not been drained are lost with their Redis. Their sequence numbers are given again,
and their amounts are neither charged nor given back.
"""

from collections.abc import Callable
from dataclasses import dataclass

from faregate.domain.errors import ConfigurationError
from faregate.domain.identity import LedgerIdentity
from faregate.ports import Audit, Installer, LedgerAdmin, LiveBalances

#: How many users are installed together.
PAGE_SIZE_MAX = 2_000

#: Receives how many users are done, and an estimate of all.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """How far the users are in Redis."""

    #: Users that were checked, and users that were missing.
    users: int = 0
    installed: int = 0


def rebuild(
    found: LiveBalances,
    installer: Installer,
    admin: LedgerAdmin,
    identity: LedgerIdentity,
    shard_count: int,
) -> LedgerIdentity:
    """Begin a new epoch, and make a ledger of an empty Redis.

    If this is killed in between, no Redis serves, and the next rebuild begins yet another epoch.

    Args:
        found: The Redis that is to serve.
        installer: Writes there.
        admin: Where the epoch is kept, in the role of its owner.
        identity: The ledger, read before Redis is: an epoch that begins in between is another one.
        shard_count: How many shards the ledger has from now on.

    Raises:
        ConfigurationError: Redis is not empty, or somebody else is rebuilding at the same time.
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer.
    """
    require_empty(found)
    made = admin.begin_epoch(identity.epoch, shard_count)
    if not installer.create(made):
        raise ConfigurationError(
            "somebody else has made a ledger of this Redis just now: empty it, and rebuild again"
        )
    return made


def require_empty(found: LiveBalances) -> None:
    """Make sure that a Redis holds no ledger, and no remains of one.

    Raises:
        ConfigurationError: It does. The message says what to do.
    """
    epochs = found.epochs()
    installed = [epoch for epoch in epochs if epoch is not None]
    if installed:
        raise ConfigurationError(
            f"Redis is not lost: {len(installed)} of its {len(epochs)} shards hold epoch"
            f" {max(installed)}."
            " If it is to be given up, name it by --from, and name an empty Redis in the settings"
        )
    if found.identity_fields() or found.left_count():
        raise ConfigurationError(
            "Redis is not empty: it keeps what is left of an earlier ledger: empty it, then rebuild"
        )


def is_rebuilt(found: LiveBalances, identity: LedgerIdentity) -> bool:
    """Say whether Redis has been given the epoch that counts."""
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

    A run that was killed is run again: users that are there are passed over.

    Args:
        balances: Tells which users are there.
        installer: Writes to the same Redis.
        audit: Lists the users.
        admin: Reads balances, in the role of the owner.
        on_progress: Is told how far this is.

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
