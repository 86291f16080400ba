"""The age of pending records."""

import time
from collections.abc import Mapping

from faregate.ports import Cursor, TransactionStream

#: The greatest age of a pending record in a healthy ledger, in seconds.
PENDING_S_MAX = 60.0


def pending_seconds(
    stream: TransactionStream, cursors: Mapping[int, Cursor]
) -> Mapping[int, float]:
    """Return the age of the oldest pending record of each shard, in seconds."""
    ages = {}
    for shard in stream.shards_pending():
        batch = stream.read(shard, cursors.get(shard), 1)
        if batch is not None:
            ages[shard] = time.time() - int(batch.first_position.partition("-")[0]) / 1_000
    return ages
