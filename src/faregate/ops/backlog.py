"""The records that are not rows yet: how long the oldest of each shard has been waiting."""

import time
from collections.abc import Mapping

from faregate.ports import Cursor, TransactionStream

#: How old the oldest pending record may be, in seconds.
PENDING_S_MAX = 60.0


def pending_seconds(
    stream: TransactionStream, cursors: Mapping[int, Cursor]
) -> Mapping[int, float]:
    """Return for how long the oldest record behind the cursor of each shard has been waiting."""
    ages = {}
    for shard in stream.shards_pending():
        batch = stream.read(shard, cursors.get(shard), 1)
        if batch is not None:
            ages[shard] = time.time() - int(batch.first_position.partition("-")[0]) / 1_000
    return ages
