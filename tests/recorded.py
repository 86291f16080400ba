"""Records with the bytes that the scripts write."""

from durable import entry, transactions
from faregate.adapters.redis import layouts
from faregate.adapters.redis.records import read_alone
from faregate.ports import StreamEntry


def recorded(made: StreamEntry) -> StreamEntry:
    """The same record with the bytes that the scripts write."""
    (change,) = transactions([made])
    text = change.description.encode()
    tail = layouts.TEXT_SIZE.pack(len(text)) + text + layouts.TEXT_SIZE.pack(0)
    ids = (change.id.bytes, change.user_id.bytes)
    numbers = (change.amount, change.balance_after, change.sequence)
    size, kinds = layouts.RECORD.size + len(tail), ["deduct", "add", "refund", "admin_adjustment"]
    head = (size, kinds.index(change.type) + 1, layouts.HAS_TEXT)
    time_us = int(change.timestamp.timestamp() * 1_000_000).to_bytes(layouts.TIME_US_BYTES)
    payload = layouts.ENTRY.pack(layouts.VERSION, change.epoch, bytes(6), 1, time_us)
    payload += layouts.RECORD.pack(*head, *ids, *numbers) + tail
    assert read_alone("1-1/1", payload).transaction == change
    return entry(change, payload)
