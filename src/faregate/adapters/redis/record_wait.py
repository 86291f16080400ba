"""Waits for new records: by one command on one server, by polls in a cluster."""

import time
from collections.abc import Mapping, Sequence

from faregate.adapters.redis.client import Client
from faregate.adapters.redis.keys import Shard
from faregate.adapters.redis.shard_states import answered
from faregate.ports import Cursor

#: The interval in which a cluster is asked for new records, in seconds.
POLL_INTERVAL_S = 0.05


class RecordWait:
    """Waits until a record follows a cursor."""

    def __init__(self, client: Client, shards: Sequence[Shard]) -> None:
        self._client = client
        self._shards = shards

    def wait(self, cursors: Mapping[int, Cursor | None], seconds_max: float) -> Sequence[int]:
        """Wait until a record follows a cursor; return the shards where one does."""
        if not cursors:
            return []
        if self._client.is_cluster:
            return self._poll(cursors, time.monotonic() + seconds_max)
        shards = {self._shards[shard].stream: shard for shard in cursors}
        options = "COUNT", 1, "BLOCK", max(1, round(seconds_max * 1_000))
        places = map(_position, cursors.values())
        reply = self._client.ask(None, "XREAD", *options, "STREAMS", *shards, *places)
        return [shards[name] for name, _ in reply or ()]

    def _poll(self, cursors: Mapping[int, Cursor | None], ends_at: float) -> Sequence[int]:
        """Ask all nodes of a cluster again and again, since no command waits on several."""
        asked = [
            (one, ("XREAD", "COUNT", 1, "STREAMS", one.stream, _position(cursor)))
            for shard, cursor in cursors.items()
            for one in (self._shards[shard],)
        ]
        while True:
            replies = answered(self._client.ask_all(asked))
            awake = [shard for shard, reply in zip(cursors, replies, strict=True) if reply]
            left_s = ends_at - time.monotonic()
            if awake or left_s <= 0:
                return awake
            time.sleep(min(left_s, POLL_INTERVAL_S))


def _position(cursor: Cursor | None) -> str:
    return cursor.position if cursor else "0"
