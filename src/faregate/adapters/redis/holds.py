"""The ends of holds in Redis: settlement, cancellation, expiry; and extension."""

from typing import Any
from uuid import UUID

from faregate.adapters.redis.encoding import pack_rules
from faregate.adapters.redis.layouts import ID_BYTES
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.replies import error_of
from faregate.adapters.redis.runner import ScriptRunner
from faregate.domain.decision import Verdict
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.hold import HoldAnswer, HoldState, Settlement, closing_id
from faregate.domain.spend import check_ttl
from faregate.domain.texts import encode_description, encode_metadata
from faregate.domain.transaction import CreditTransactionId, transaction_id_of

#: How many due holds of a shard a request searches for those of its user.
_DUE_COUNT_MAX = 1_000
#: How many of them it ends.
_USER_COUNT_MAX = 20
_DONE = {"allowed", "repeated"}
_REFUSED = {"unknown_hold", "hold_expired", "hold_closed", "hold_open", "taken_over"}


class HoldScripts:
    """Settles, cancels, extends and expires holds."""

    def __init__(self, runner: ScriptRunner) -> None:
        self._runner = runner

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """Settle a hold by its actual cost, or cancel it; see the port."""
        user_id, hold_id = settlement.user_id, settlement.hold_id
        attempt_id = settlement.attempt_id
        arguments: tuple[Argument, ...] = (
            "cancel" if settlement.actual is None else "settle",
            hold_id.bytes,
            closing_id(hold_id).bytes,
            settlement.actual or 0,
            settlement.overdraft_max,
            b"" if attempt_id is None else attempt_id.bytes,
            pack_rules(settlement.allowance),
            encode_description(settlement.description),
            encode_metadata(settlement.metadata),
        )
        reply = await self._runner.run("end", user_id, *arguments)
        return read_answer(reply, user_id, hold_id)

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Extend an open hold; see the port."""
        ids = hold_id.bytes, closing_id(hold_id).bytes
        reply = await self._runner.run("extend", user_id, *ids, check_ttl(ttl_ms))
        return read_answer(reply, user_id, hold_id)

    async def expire_due(self, user_id: UUID, now_ms: int) -> int:
        """End holds of a user that have expired; see the port."""
        shard = self._runner.shard(user_id)
        window = "-inf", now_ms, "LIMIT", 0, _DUE_COUNT_MAX
        members = await self._runner.command(shard, "ZRANGEBYSCORE", shard.holds, *window)
        due = [hold_id for hold_id, owner in map(read_member, members) if owner == user_id]
        ended = 0
        for hold_id in due[:_USER_COUNT_MAX]:
            reply = await self._runner.run("end", user_id, *expiry_arguments(hold_id))
            ended += reply[0] == "allowed"
        return ended


def expiry_arguments(hold_id: CreditTransactionId) -> tuple[Argument, ...]:
    """Return the arguments of the script `end` for an expired hold."""
    ids = hold_id.bytes, closing_id(hold_id).bytes
    return ("expire", *ids, 0, 0, b"", pack_rules(None), b"", b"")


def read_member(member: bytes) -> tuple[CreditTransactionId, UUID]:
    """Read a member of the open holds: the ids of hold and user."""
    return transaction_id_of(member[:ID_BYTES]), UUID(bytes=member[ID_BYTES:])


def read_answer(reply: list[Any], user_id: UUID, hold_id: CreditTransactionId) -> HoldAnswer:
    """Read a reply: {status, credits, 0, now, '', allowance left, state, ...}.

    Raises:
        FaregateError: The status is that of an error, not of a verdict.
    """
    status, credits_, _, _, _, allowance_left = reply[:6]
    state, refunded, charged, shortfall, expires_at_ms = reply[6:11]
    if status == "too_long":
        raise InvalidArgumentError(f"hold {hold_id} would be open for more than a day")
    if status not in _DONE | _REFUSED:
        raise error_of(status, f"the end of hold {hold_id}")
    return HoldAnswer(
        verdict=Verdict.ALLOWED if status in _DONE else Verdict(status),
        user_id=user_id,
        hold_id=hold_id,
        state=HoldState(state.decode()),
        refunded=refunded,
        charged=charged,
        shortfall=shortfall,
        expires_at_ms=expires_at_ms,
        credits=credits_,
        allowance_left=allowance_left,
        repeated=status == "repeated",
    )
