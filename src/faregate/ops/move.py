"""Moves a ledger: retires a Redis that still works, so that another one can be rebuilt.

    close every shard ─> the worker stores, holds end ─> give every shard up

A closed shard refuses charges, holds and credits; refunds, voids and ends of holds still pass.
Giving it up checks again that nothing is left. From then on the Redis refuses everything, even from
gates that still point to it.
"""

import time
from collections.abc import Callable

from faregate.domain.errors import ConfigurationError, LedgerUnavailableError
from faregate.domain.identity import LedgerIdentity
from faregate.ports import Installer, LiveBalances, Unfinished

#: How long the command waits for the worker and for ends of holds, in seconds.
WAIT_S_MAX = 60.0
_CHECK_INTERVAL_S = 0.1

#: Receives the work that is left.
Watch = Callable[[Unfinished], None]


def retire(
    former: LiveBalances,
    installer: Installer,
    identity: LedgerIdentity,
    on_progress: Watch | None = None,
    *,
    seconds_max: float = WAIT_S_MAX,
) -> None:
    """Close a Redis, wait until nothing is left to do there, and give it up.

    A second run continues where the first one ended.

    Args:
        former: The Redis.
        installer: Its installer.
        identity: The ledger that it must belong to.
        on_progress: Receives the work that is left.
        seconds_max: The longest wait, in seconds.

    Raises:
        ConfigurationError: It belongs to another ledger. Nothing was changed.
        LedgerUnavailableError: It does not answer, or work was left at the end of the wait. It is
            closed.
    """
    _require_of(former, identity, "--from")
    ends_at = time.monotonic() + seconds_max
    while True:
        left = installer.close_shards()
        if on_progress is not None:
            on_progress(left)
        if not left.is_any and not installer.give_up().shards:
            return
        if time.monotonic() >= ends_at:
            raise LedgerUnavailableError(
                f"the former Redis is closed, but has {left.records} records that are not rows and"
                f" {left.holds} open holds after {seconds_max:.0f} s: run a worker there, and"
                " `faregate holds release`; then run this again, or `faregate reopen` there"
            )
        time.sleep(_CHECK_INTERVAL_S)


def reopen(former: LiveBalances, installer: Installer, identity: LedgerIdentity) -> None:
    """Open a closed Redis again.

    Raises:
        ConfigurationError: It belongs to another ledger, or was given up.
        LedgerUnavailableError: It does not answer.
    """
    _require_of(former, identity, "FAREGATE_REDIS_URL")
    missing = former.epochs().count(None)
    if missing:
        raise ConfigurationError(f"{missing} shards have been given up: run the rebuild again")
    installer.open_shards()


def _require_of(former: LiveBalances, identity: LedgerIdentity, named: str) -> None:
    identity_fields = former.identity_fields()
    if identity_fields.get("ledger_id") != identity.identity_fields["ledger_id"]:
        raise ConfigurationError(f"the Redis of {named} does not hold this ledger")
    wrong = {epoch for epoch in former.epochs() if epoch not in {None, identity.epoch}}
    if wrong:
        raise ConfigurationError(
            f"the Redis of {named} holds epoch {wrong.pop()}, and the ledger is of {identity.epoch}"
        )
