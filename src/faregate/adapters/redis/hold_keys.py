"""Keys and ids of the scripts about holds."""

from uuid import UUID

from faregate.adapters.redis import keys
from faregate.domain.hold import closing_id
from faregate.domain.transaction import CreditTransactionId

_ID_LENGTH = 16


def hold_keys(shard: int, user_id: UUID, hold_id: CreditTransactionId) -> tuple[str, ...]:
    """Return the keys of what takes a hold."""
    return (
        *keys.account(shard, user_id),
        keys.refunds(shard, hold_id),
        keys.hold(shard, hold_id),
        keys.holds(shard),
    )


def end_keys(shard: int, user_id: UUID, hold_id: CreditTransactionId) -> tuple[str, ...]:
    """Return the keys of what ends a hold."""
    return (*hold_keys(shard, user_id, hold_id), *keys.idempotency(shard, user_id))


def end_ids(user_id: UUID, hold_id: CreditTransactionId) -> tuple[bytes, bytes, bytes]:
    """Return the ids of hold, user, and of the record that the end of the hold may write."""
    return hold_id.value.bytes, user_id.bytes, closing_id(hold_id).value.bytes


def read_pair(member: bytes) -> tuple[CreditTransactionId, UUID]:
    """Read a member of the open holds: the ids of hold and user."""
    hold_id = CreditTransactionId(UUID(bytes=member[:_ID_LENGTH]))
    return hold_id, UUID(bytes=member[_ID_LENGTH:])
