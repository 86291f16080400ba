"""The keys of users in Redis: deletes those of users that were deleted in Postgres."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from faregate.adapters.redis import keys
from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.shard_states import ShardStates
from faregate.adapters.redis.slot_moves import SlotMoves
from faregate.adapters.redis.values import ShardState
from faregate.ports import ShardRecords

#: About how many keys one call of the script `erase` scans: at most a millisecond of Redis.
ERASE_COUNT = 250


class RedisUserKeys:
    """The port `UserKeys`."""

    def __init__(self, client: Client, shards: tuple[keys.Shard, ...]) -> None:
        self._client = client
        self._shards = shards
        self._states = ShardStates(client, shards)

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Delete the live balances of users; see the port."""
        shards = ((keys.shard_for(one, self._shards), one.bytes) for one in user_ids)
        commands = ((shard, ("DEL", shard.account(user))) for shard, user in shards)
        for reply in self._client.ask_all(commands):
            checked(reply)

    def records(self, user_ids: Sequence[UUID]) -> Mapping[UUID, ShardRecords]:
        """Return the numbers of records in the shard of each user; a wiped one has none."""
        states = [state or ShardState(epoch=0) for state in self._states.read()]
        shards = [ShardRecords(state.epoch, state.ordinal, state.stored) for state in states]
        return {user_id: shards[keys.shard_of(user_id, len(shards))] for user_id in user_ids}

    def erase(self, user_ids: Sequence[UUID]) -> Iterator[int]:
        """Scan all keys in steps, and delete those of users; see the port."""
        users = [user_id.bytes for user_id in user_ids]
        moves = SlotMoves(self._client)
        for node in self._client.nodes:
            place: bytes | int = 0
            while place != b"0":
                place, count = self._client.run_on(node, "erase", place, ERASE_COUNT, *users)
                yield count
        moves.check()
