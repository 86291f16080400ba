"""What an API has recorded of a user, read from its Redis."""

from collections.abc import Sequence
from uuid import UUID

from faregate.bootstrap import open_stream
from faregate.domain.transaction import CreditTransaction
from redis_ledger import records_after
from wire_client import Api


def amounts(api: Api, user: UUID) -> list[int]:
    """The changes of a user's balance since its start, in order."""
    return [record.amount for record in records(api, user)]


def records(api: Api, user: UUID) -> Sequence[CreditTransaction]:
    """What the stream holds of a user."""
    with open_stream(api.settings) as stream:
        found = [
            entry.transaction
            for shard in range(api.settings.shard_count)
            for entry in records_after(stream, shard)
            if entry.transaction is not None and entry.transaction.user_id == user
        ]
    return sorted(found, key=lambda record: record.sequence)
