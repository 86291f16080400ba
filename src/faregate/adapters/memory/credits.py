"""Grants and adjustments, and charges for requests that were served without a decision."""

from collections.abc import Mapping
from dataclasses import replace

from faregate.adapters.memory.accounts import Account, Change, InPeriod, blank_decision
from faregate.adapters.memory.parts import Parts
from faregate.adapters.memory.reversals import repeated_decision
from faregate.adapters.memory.shard import Recorded
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import AmountError, TransactionConflictError
from faregate.domain.journal import JournalEntry
from faregate.domain.request import Credit
from faregate.domain.transaction import CREDITS_MAX, TransactionType, check_amount
from faregate.domain.windows import MEMORY_MS


class Credits:
    """Adds credits, and adjusts balances."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._shard = parts.shard

    def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; see the port."""
        check_amount(credit.type, credit.amount)
        account, identity = self._parts.accounts.find(credit.user_id), credit.transaction_id
        blank = blank_decision(
            credit.user_id, identity, credit.amount, now_ms=self._shard.now_ms, user=account
        )
        if account is None:
            return blank
        earlier = self._parts.ids.get(identity)
        if earlier is not None and _is_same(credit, earlier):
            return repeated_decision(blank, earlier)
        if earlier is not None or self._parts.search(identity) is not None:
            raise TransactionConflictError(f"transaction {identity} is known with other content")
        refusal = self._refusal(credit, account)
        if refusal is not None:
            return replace(blank, verdict=refusal)
        change = Change(
            id=identity,
            type=credit.type,
            amount=credit.amount,
            description=credit.description,
            metadata=credit.metadata,
        )
        recorded = self._parts.accounts.append(account, change)
        self._parts.ids.put(identity, recorded, MEMORY_MS)
        return _done(blank, account, recorded)

    def _refusal(self, credit: Credit, account: Account) -> Verdict | None:
        after = account.credits + credit.amount
        if self._shard.is_backlogged:
            return Verdict.BACKLOG
        if abs(after) > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        if credit.amount < 0 and after < 0 and not credit.negative_allowed:
            return Verdict.OUT_OF_CREDITS
        return None


class Collections:
    """Charges journaled requests, as far as there are credits."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._shard = parts.shard

    def collect(self, entry: JournalEntry) -> Decision:
        """Charge a journaled request; see the port."""
        account = self._parts.accounts.find(entry.user_id)
        blank = blank_decision(
            entry.user_id, entry.deduct_id, 0, now_ms=self._shard.now_ms, user=account
        )
        if account is None:
            return blank
        earlier = self._earlier(entry, blank)
        if earlier is not None:
            return earlier
        if self._shard.is_backlogged:
            return replace(blank, verdict=Verdict.BACKLOG)
        if not entry.is_recorded:
            return replace(blank, verdict=Verdict.ALLOWED)
        in_period = self._parts.accounts.in_period(account, entry.allowance)
        in_period.check_range()
        return self._take(entry, account, in_period, blank)

    def _take(
        self, entry: JournalEntry, account: Account, in_period: InPeriod, blank: Decision
    ) -> Decision:
        taken = max(0, min(entry.owed, in_period.user.credits))
        change = Change(
            id=entry.deduct_id,
            type=TransactionType.DEDUCT,
            amount=-taken,
            description=entry.description,
            metadata=_metadata(entry, entry.owed - taken),
        )
        recorded = self._parts.take(account, in_period, change)
        self._parts.ids.put(entry.deduct_id, recorded, MEMORY_MS)
        self._keep_key(entry, recorded)
        return replace(_done(blank, account, recorded), amount=-taken)

    def _keep_key(self, entry: JournalEntry, recorded: Recorded) -> None:
        """Remember the key of a journaled request as served, if it is free and there is room."""
        keys, key, now_ms = self._parts.keys, entry.key, self._shard.now_ms
        if key is None or keys.known(entry.user_id, key, now_ms):
            return
        if not keys.is_full(entry.user_id, key, now_ms):
            keys.keep(entry.user_id, key, recorded, now_ms).is_done = True

    def _earlier(self, entry: JournalEntry, blank: Decision) -> Decision | None:
        """Return the answer if an entry was collected before, or served by its key."""
        earlier = self._parts.ids.get(entry.deduct_id)
        if earlier is not None:
            if earlier.record.user_id != entry.user_id:
                raise TransactionConflictError(
                    f"transaction {entry.deduct_id} is known of another user"
                )
            deduct = self._parts.deducts.get(entry.deduct_id)
            back = deduct.total if deduct else 0
            repeated = repeated_decision(blank, earlier)
            return replace(repeated, amount=earlier.record.amount + back)
        known = entry.key and self._parts.keys.known(entry.user_id, entry.key, self._shard.now_ms)
        if entry.key and known and known.fingerprint == entry.key.fingerprint_digest:
            return replace(blank, verdict=Verdict.ALLOWED, repeated=True)
        return None


def _is_same(credit: Credit, earlier: Recorded) -> bool:
    record = earlier.record
    known = (record.type, record.user_id, record.amount)
    return known == (credit.type, credit.user_id, credit.amount)


def _metadata(entry: JournalEntry, shortfall: int) -> Mapping[str, object]:
    """Return the metadata of a record; it names the credits that were missing."""
    return {**entry.row_metadata, "shortfall": shortfall} if shortfall else entry.row_metadata


def _done(blank: Decision, account: Account, recorded: Recorded) -> Decision:
    return replace(
        blank,
        verdict=Verdict.ALLOWED,
        credits=account.credits,
        sequence=account.sequence,
        position=recorded.position,
        allowance_left=account.allowance_left,
    )
