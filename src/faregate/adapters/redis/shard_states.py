"""Reads the states of all shards, and the identity of their ledger."""

from collections.abc import Mapping, Sequence
from typing import Any

from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.keys import Shard
from faregate.adapters.redis.values import ShardState
from faregate.domain.errors import NodeUnavailableError


class ShardStates:
    """The states of all shards."""

    def __init__(self, client: Client, shards: Sequence[Shard]) -> None:
        self._client = client
        self._shards = shards

    def read(self) -> list[ShardState | None]:
        """Return the state of each shard, None where Redis holds none.

        Raises:
            LedgerUnavailableError: A node does not answer.
        """
        return [_state(checked(packed)) for packed in self._packed()]

    def read_answered(self) -> list[ShardState | None]:
        """Return the states as `read` does, with None also for nodes that do not answer.

        Raises:
            LedgerUnavailableError: No node answers.
        """
        return [_state(packed) for packed in answered(self._packed())]

    def identity_fields(self) -> Mapping[str, str]:
        """Return the identity of the ledger in Redis; empty if Redis was wiped.

        That of shard 0 counts; where its node does not answer, that of another shard.
        """
        flat: Any = ()
        for shard in self._shards:
            (flat,) = self._client.ask_all([(shard, ("HGETALL", shard.ledger))])
            if not isinstance(flat, NodeUnavailableError):
                break
        texts = [part.decode() for part in checked(flat)]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def _packed(self) -> list[bytes | Exception | None]:
        return self._client.get_all((shard, shard.state) for shard in self._shards)


def answered(replies: Sequence[Any]) -> list[Any]:
    """Return replies, None for those of nodes that do not answer.

    Raises:
        NodeUnavailableError: No node answers.
        LedgerUnavailableError: A reply is another error.
    """
    missing = [one for one in replies if isinstance(one, NodeUnavailableError)]
    if replies and len(missing) == len(replies):
        raise missing[0]
    return [None if isinstance(one, NodeUnavailableError) else checked(one) for one in replies]


def _state(packed: bytes | None) -> ShardState | None:
    return None if packed is None else ShardState.unpack(packed)
