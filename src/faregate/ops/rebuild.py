"""Rebuild: lets an empty Redis take over from one that was lost.

Rows are enough for it. A new epoch begins in Postgres; the next gate that starts gives it to Redis,
and each user is installed from its rows when it is seen for the first time: credits, sequence, what
is left of the allowance and when its period began.

The records that had not been drained are gone with the lost Redis. Their sequence numbers are
given again, and their amounts are neither charged nor given back.
"""

from faregate.domain.errors import ConfigurationError
from faregate.ports import LedgerAdmin, LiveBalances


def rebuild(balances: LiveBalances, admin: LedgerAdmin) -> int:
    """Begin a new epoch for a Redis that is empty, and return it.

    An epoch that Redis has never been given has no history to follow: it is returned as it is, so
    that doing this twice is doing it once.

    Args:
        balances: The Redis that is to serve from now on.
        admin: Where the epoch is kept, in the role of its owner.

    Raises:
        ConfigurationError: Redis is not empty, or somebody else is rebuilding at the same time.
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer.
    """
    # Read before Redis is: an epoch that begins in between is another one than this.
    identity = admin.identity()
    found = balances.epochs()
    if len(found) != identity.shard_count:
        raise ConfigurationError(
            f"the ledger has {identity.shard_count} shards, the settings say {len(found)}"
        )
    held = [epoch for epoch in found if epoch is not None]
    if held:
        raise ConfigurationError(
            f"Redis is not lost: {len(held)} of its {len(found)} shards hold epoch {max(held)}."
            " If it is to be given up, stop every API, let the worker drain what is pending, stop"
            " the worker, and empty Redis; then rebuild"
        )
    return admin.begin_epoch(identity.epoch) if identity.installed else identity.epoch
