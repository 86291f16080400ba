"""Holds in Redis: each step one script call, with the record in the same step."""

from dataclasses import replace
from typing import Any, Self
from uuid import UUID

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from faregate.adapters.redis import keys
from faregate.adapters.redis.encoding import encode_allowance, encode_description, encode_metadata
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.replies import read_decision
from faregate.adapters.redis.runner import Arguments
from faregate.adapters.redis.scripts import load
from faregate.domain.decision import Verdict
from faregate.domain.errors import (
    AmountError,
    InvalidArgumentError,
    LedgerUnavailableError,
    TransactionConflictError,
)
from faregate.domain.hold import (
    Hold,
    HoldAnswer,
    HoldRequest,
    HoldState,
    Settlement,
    check_ttl,
    closing_id,
)
from faregate.domain.policy import OnExpiry
from faregate.domain.request import Charge, VoidOutcome
from faregate.domain.transaction import CreditTransactionId

#: How many due holds one sweep of a shard ends at most.
SWEEP_COUNT_MAX = 500
#: How many due holds of a shard a request looks through for those of its user.
_DUE_COUNT_MAX = 1_000
#: How many of them it ends.
_USER_COUNT_MAX = 20
_TIMEOUT_S = 5.0
_ID_LENGTH = 16


class RedisHoldLedger(RedisLedger):
    """The port `HoldLedger` on Redis 7 or Valkey."""

    async def hold(self, request: HoldRequest) -> Hold:
        """Take an estimate if there is enough; see the port."""
        charge = request.charge

        async def once(attempt: Charge, timeout_s: float) -> list[Any]:
            names = self._hold_keys(charge.user_id, charge.transaction_id)
            arguments = self._hold_arguments(replace(request, charge=attempt))
            return await self._run("hold", names, arguments, timeout_s)

        reply = await self._attempt_twice(charge, once)
        if reply[0] == b"late":
            raise LedgerUnavailableError("the hold reached Redis after its deadline")
        decision = read_decision(reply, charge.user_id, charge.transaction_id, -charge.cost)
        return Hold(
            decision=replace(decision, resets_at_ms=reply[6] or None), expires_at_ms=reply[7]
        )

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
        )

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """End a hold; see the port."""
        arguments: Arguments = (
            *_ids(settlement.user_id, settlement.hold_id),
            "" if settlement.actual is None else settlement.actual,
            settlement.overdraft_max,
            encode_description(settlement.description),
            encode_metadata(settlement.metadata),
            *encode_allowance(settlement.allowance),
        )
        names = self._hold_keys(settlement.user_id, settlement.hold_id)
        reply = await self._run_twice("settle", names, arguments)
        return _answer(reply, settlement.user_id, settlement.hold_id)

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire later; see the port."""
        arguments = (*_ids(user_id, hold_id), check_ttl(ttl_ms))
        reply = await self._run_twice("extend", self._hold_keys(user_id, hold_id), arguments)
        return _answer(reply, user_id, hold_id)

    async def void_hold(self, request: HoldRequest) -> VoidOutcome:
        """End a hold whose outcome is unknown; see the port."""
        charge = request.charge
        arguments: Arguments = (
            *_ids(charge.user_id, charge.transaction_id),
            charge.asked_at_ms,
            charge.deadline_ms,
            encode_description(charge.void().description),
        )
        names = self._hold_keys(charge.user_id, charge.transaction_id)
        reply = await self._run_twice("void_hold", names, arguments)
        status = reply[0].decode()
        if status == "unresolved":
            raise LedgerUnavailableError("the user has too many recent records to find the hold")
        return VoidOutcome(status)

    async def expire_due(self, user_id: UUID) -> int:
        """Give back or keep holds of a user whose time is over; see the port."""
        shard = self._shard(user_id)
        reply = await self._run_twice("due", (keys.holds(shard),), (_DUE_COUNT_MAX,))
        due = [pair for pair in map(_pair, reply[4]) if pair[1] == user_id]
        ended = 0
        for hold_id, _ in due[:_USER_COUNT_MAX]:
            names, arguments = self._hold_keys(user_id, hold_id), _ids(user_id, hold_id)
            ended += (await self._run_twice("expire", names, arguments))[0] == b"allowed"
        return ended

    def _hold_keys(self, user_id: UUID, hold_id: CreditTransactionId) -> tuple[str, ...]:
        return _keys(self._shard(user_id), user_id, hold_id)


class RedisSweeper:
    """The port `HoldSweeper`."""

    def __init__(self, client: Redis, shard_count: int) -> None:
        self._redis = client
        self._shard_count = shard_count
        self._due = client.register_script(load("due").source)
        self._expire = client.register_script(load("expire").source)

    @classmethod
    def from_url(cls, url: str, shard_count: int) -> Self:
        """Connect at first use, and never repeat a command."""
        client = Redis.from_url(
            url,
            protocol=2,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        return cls(client, shard_count)

    def shards_due(self) -> list[int]:
        """Return the shards that have open holds whose time is over."""
        return [shard for shard in range(self._shard_count) if self._named(shard, 1)]

    def sweep(self, shard: int) -> int:
        """Give back or keep due holds of a shard; see the port.

        Whatever has happened to a hold since it was found due, its script looks again.
        """
        ended = 0
        for hold_id, user_id in map(_pair, self._named(shard, SWEEP_COUNT_MAX)):
            names, arguments = _keys(shard, user_id, hold_id), _ids(user_id, hold_id)
            ended += self._ask(self._expire, names, arguments)[0] == b"allowed"
        return ended

    def _named(self, shard: int, count_max: int) -> list[bytes]:
        found: list[bytes] = self._ask(self._due, (keys.holds(shard),), (count_max,))[4]
        return found

    def _ask(self, script: Any, names: tuple[str, ...], arguments: tuple[Any, ...]) -> Any:
        try:
            return script(keys=names, args=arguments)
        except (RedisError, OSError) as error:
            raise LedgerUnavailableError(f"holds cannot be swept: {error}") from error

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()


def _keys(shard: int, user_id: UUID, hold_id: CreditTransactionId) -> tuple[str, ...]:
    return (
        keys.user(shard, user_id),
        keys.stream(shard),
        keys.epoch(shard),
        keys.refunds(shard, hold_id),
        keys.hold(shard, hold_id),
        keys.holds(shard),
    )


def _ids(user_id: UUID, hold_id: CreditTransactionId) -> tuple[bytes, bytes, bytes]:
    return hold_id.value.bytes, user_id.bytes, closing_id(hold_id).value.bytes


def _pair(member: bytes) -> tuple[CreditTransactionId, UUID]:
    """Read a member of the open holds: the ids of hold and user."""
    hold_id = CreditTransactionId(UUID(bytes=member[:_ID_LENGTH]))
    return hold_id, UUID(bytes=member[_ID_LENGTH:])


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
