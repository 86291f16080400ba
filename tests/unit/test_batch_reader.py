"""A page of a stream and the state of its shard, which two nodes of a cluster may answer."""

from typing import Any, cast

from faregate.adapters.redis.batches import BatchReader
from faregate.adapters.redis.client import Client
from faregate.adapters.redis.layouts import ENTRY, TIME_MS_BYTES, TIME_US_BYTES, VERSION
from faregate.adapters.redis.records import FIELD
from faregate.adapters.redis.values import ShardState

ORDINAL = 5


class MovingClient:
    """Reads a shard whose state was answered before its page, which a redirect made late."""

    def ask_all(self, _: Any) -> list[Any]:
        first = ORDINAL.to_bytes(TIME_MS_BYTES)
        payload = ENTRY.pack(VERSION, 1, first, 1, bytes(TIME_US_BYTES))
        return [[[b"7-1", [FIELD, payload]]], ShardState(epoch=1, ordinal=ORDINAL - 1).pack()]

    def ask(self, *_: Any) -> bytes:
        return ShardState(epoch=1, ordinal=ORDINAL).pack()


def test_a_cursor_counts_all_records_of_its_batch_though_their_page_came_late() -> None:
    """Else the last records of a shard would seem to be pending until the next one."""
    batch = BatchReader(cast("Client", MovingClient()), 1).read(0, None, 1)
    assert batch is not None
    assert batch.end.ordinal == ORDINAL
