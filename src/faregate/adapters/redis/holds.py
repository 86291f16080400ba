"""Holds in Redis: each step one script call, with the record in the same step."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from faregate.adapters.redis import keys
from faregate.adapters.redis.attempts import attempt_twice
from faregate.adapters.redis.encoding import (
    encode_allowance,
    encode_key,
    encode_limits,
)
from faregate.adapters.redis.hold_keys import end_ids, end_keys, hold_keys, read_pair
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.replies import read_charge
from faregate.adapters.redis.runner import Arguments, Patience
from faregate.domain.decision import Verdict
from faregate.domain.errors import (
    AmountError,
    InvalidArgumentError,
    LedgerError,
    TransactionConflictError,
    UnresolvedError,
)
from faregate.domain.hold import (
    Hold,
    HoldAnswer,
    HoldRequest,
    HoldState,
    Settlement,
    check_ttl,
)
from faregate.domain.policy import OnExpiry
from faregate.domain.request import Charge, VoidOutcome
from faregate.domain.texts import encode_description, encode_metadata
from faregate.domain.transaction import CreditTransactionId

#: How many due holds of a shard a request looks through for those of its user.
_DUE_COUNT_MAX = 1_000
#: How many of them it ends.
_USER_COUNT_MAX = 20


class RedisHoldLedger(RedisLedger):
    """The port `HoldLedger` on Redis 7 or Valkey."""

    async def hold(self, request: HoldRequest) -> Hold:
        """Take an estimate if there is enough; see the port."""
        charge = request.charge
        shard = self._shard(charge.user_id)

        async def once(attempt: Charge, patience: Patience) -> list[Any]:
            names = hold_keys(shard, charge.user_id, charge.transaction_id)
            arguments = self._hold_arguments(replace(request, charge=attempt))
            return await self._run("hold", names + self._rule_keys(charge), arguments, patience)

        reply = await attempt_twice(charge, once, self._clock)
        decision = read_charge(reply, charge, length=13)
        if not reply[10]:
            return Hold(decision=decision, expires_at_ms=reply[12])
        # Known by its key, it has its expiry in a hash that is named by its own id.
        left_ms = charge.deadline_ms - self.now_ms()
        expires_at_ms = await self._expires_at_ms(shard, decision.transaction_id, left_ms)
        return Hold(decision=decision, expires_at_ms=expires_at_ms)

    async def _expires_at_ms(self, shard: int, hold_id: CreditTransactionId, left_ms: int) -> int:
        """Return when a hold expires, or would have; 0 if that cannot be known in time.

        The hold stands, and is worth more to its caller than to know when it ends.
        """
        with suppress(LedgerError, TimeoutError):
            async with asyncio.timeout(max(0, left_ms) / 1000):
                found = await self._runner.command("HGET", keys.hold(shard, hold_id), "expires")
                return int(found or 0)
        return 0

    def _hold_arguments(self, request: HoldRequest) -> Arguments:
        charge = request.charge
        return (
            charge.transaction_id.value.bytes,
            charge.user_id.bytes,
            charge.cost,
            charge.deadline_ms,
            1 if charge.fresh else 0,
            self._stream_length_max,
            encode_description(charge.description),
            encode_metadata(charge.metadata),
            request.ttl_ms,
            1 if request.on_expiry is OnExpiry.KEEP else 0,
            request.open_max,
            *encode_allowance(charge.allowance),
            *encode_limits(charge.limits),
            *encode_key(charge.key),
        )

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """End a hold; see the port."""
        arguments: Arguments = (
            *end_ids(settlement.user_id, settlement.hold_id),
            "" if settlement.actual is None else settlement.actual,
            settlement.overdraft_max,
            encode_description(settlement.description),
            encode_metadata(settlement.metadata),
            *encode_allowance(settlement.allowance),
            "" if settlement.attempt_id is None else settlement.attempt_id.value.bytes,
        )
        names = self._end_keys(settlement.user_id, settlement.hold_id)
        reply = await self._run_twice("settle", names, arguments)
        return _answer(reply, settlement.user_id, settlement.hold_id)

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire later; see the port."""
        arguments = (*end_ids(user_id, hold_id), check_ttl(ttl_ms))
        reply = await self._run_twice("extend", self._end_keys(user_id, hold_id), arguments)
        return _answer(reply, user_id, hold_id)

    async def void_hold(self, request: HoldRequest) -> VoidOutcome:
        """End a hold whose outcome is unknown; see the port."""
        charge = request.charge
        arguments: Arguments = (
            *end_ids(charge.user_id, charge.transaction_id),
            charge.asked_at_ms,
            charge.deadline_ms,
            encode_description(charge.void().description),
        )
        names = self._end_keys(charge.user_id, charge.transaction_id)
        reply = await self._run_twice("void_hold", names, arguments)
        status = reply[0].decode()
        if status == "unresolved":
            raise UnresolvedError("the user has too many recent records to find the hold")
        return VoidOutcome(status)

    async def expire_due(self, user_id: UUID) -> int:
        """Give back or keep holds of a user whose time is over; see the port."""
        shard = self._shard(user_id)
        reply = await self._run_twice("due", (keys.holds(shard),), (_DUE_COUNT_MAX,))
        due = [pair for pair in map(read_pair, reply[4]) if pair[1] == user_id]
        ended = 0
        for hold_id, _ in due[:_USER_COUNT_MAX]:
            names, arguments = self._end_keys(user_id, hold_id), end_ids(user_id, hold_id)
            ended += (await self._run_twice("expire", names, arguments))[0] == b"allowed"
        return ended

    def _end_keys(self, user_id: UUID, hold_id: CreditTransactionId) -> tuple[str, ...]:
        return end_keys(self._shard(user_id), user_id, hold_id)


def _answer(reply: list[Any], user_id: UUID, hold_id: CreditTransactionId) -> HoldAnswer:
    """Read a reply: {status, credits, sequence, now, allowance left, state, ...}."""
    status = reply[0].decode()
    if status == "conflict":
        raise TransactionConflictError(f"hold {hold_id} has ended in another way")
    if status == "out_of_range":
        raise AmountError(f"the end of hold {hold_id} would take {reply[1]} out of its range")
    if status == "too_long":
        raise InvalidArgumentError(f"hold {hold_id} would be open for more than a day")
    return HoldAnswer(
        verdict=Verdict.ALLOWED if status == "repeated" else Verdict(status),
        user_id=user_id,
        hold_id=hold_id,
        state=HoldState(reply[5].decode()),
        refunded=reply[6],
        charged=reply[7],
        shortfall=reply[8],
        expires_at_ms=reply[9],
        credits=reply[1],
        allowance_left=reply[4],
        repeated=status == "repeated",
    )
