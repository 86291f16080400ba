"""Drains one shard in the process of a test, by the steps of a job."""

from faregate.ports import Cursor, TransactionArchive, TransactionStream
from faregate_worker.drain import Drained, store


def drain_step(
    stream: TransactionStream,
    archive: TransactionArchive,
    shard: int,
    cursor: Cursor | None,
    *,
    batch_size_max: int,
) -> tuple[Drained, Cursor | None]:
    """Store one batch of about `batch_size_max` records that follows a cursor.

    Returns:
        What was done, and the newest cursor of the shard. Where that is the one that was given,
        there was nothing to do.

    Raises:
        ArchiveUnavailableError: The batch was not stored, or it is not known to be.
        LedgerError: Redis did not answer.
    """
    batch = stream.read(shard, cursor, batch_size_max)
    if batch is None:
        # Again, so that an older value that came late is corrected.
        return Drained(trimmed=stream.note_stored(shard, cursor)), cursor
    drained, stored = store(stream, archive, batch)
    return drained, stored.cursor


def drain(
    stream: TransactionStream,
    archive: TransactionArchive,
    shard: int,
    *,
    batch_size_max: int = 1_000,
) -> Drained:
    """Store batches of one shard until none is left."""
    drained, cursor = Drained(), archive.cursors().get(shard)
    while True:
        before = cursor
        step, cursor = drain_step(stream, archive, shard, cursor, batch_size_max=batch_size_max)
        drained += step
        if cursor == before:
            return drained
