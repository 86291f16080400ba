"""The parts that all operations share, and how credits are taken and given back."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from faregate.adapters.memory.accounts import Account, Accounts, Change, InPeriod
from faregate.adapters.memory.deducts import Deduct, Deducts
from faregate.adapters.memory.expiring import Expiring
from faregate.adapters.memory.keys import IdempotencyKeys
from faregate.adapters.memory.limits import RateLimits
from faregate.adapters.memory.shard import Recorded, Shard
from faregate.domain.transaction import CreditTransactionId, TransactionType
from faregate.domain.windows import GIVEN_ID_AHEAD_MS_MAX, GIVEN_ID_MS_MAX, MEMORY_MS


class Parts:
    """The state of one shard."""

    def __init__(self, clock: Callable[[], int], pending_max: int) -> None:
        self.shard = Shard(clock, pending_max)
        self.accounts = Accounts(self.shard)
        self.deducts = Deducts(clock)
        #: The records whose ids were not minted for a spend.
        self.ids: Expiring[CreditTransactionId, Recorded] = Expiring(clock)
        self.keys = IdempotencyKeys(clock)
        self.limits = RateLimits()

    def take(self, account: Account, in_period: InPeriod, change: Change) -> Recorded:
        """Begin the period of now, if it is a new one, and take a cost: the allowance first."""
        self.accounts.begin_period(account, in_period)
        allowance = min(account.allowance_left, -change.amount)
        return self.accounts.append(account, replace(change, allowance=-allowance))

    def give_back(
        self,
        account: Account,
        deduct: Deduct,
        amount: int,
        *,
        identity: CreditTransactionId,
        description: str,
        metadata: Mapping[str, object] | None = None,
    ) -> Recorded:
        """Give back a part of a deduct, and remember that."""
        change = Change(
            id=identity,
            type=TransactionType.REFUND,
            amount=amount,
            description=description,
            metadata=metadata,
            allowance=deduct.to_allowance(amount, account.period_start_ms),
            refund_of=deduct.id,
        )
        recorded = self.accounts.append(account, change)
        deduct.total += amount
        self.deducts.put(deduct)
        self.ids.put(identity, recorded, MEMORY_MS)
        return recorded

    def search(self, identity: CreditTransactionId) -> Recorded | None:
        """Return the record of an id, minted or given, as far as it is still in the stream."""
        remembered = self.ids.get(identity)
        if remembered is not None:
            return self.shard.at(remembered.position, identity)
        id_ms = identity.time_ms
        if id_ms is None:
            return None
        to_ms = min(self.shard.now_ms, id_ms + GIVEN_ID_MS_MAX)
        return self.shard.find(identity, id_ms - GIVEN_ID_AHEAD_MS_MAX, to_ms)
