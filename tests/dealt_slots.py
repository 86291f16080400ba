"""The slots of a new cluster, as redis-cli and valkey-cli deal them out among its primaries."""

import math
import struct

from faregate.adapters.redis import keys


def ranges(nodes: int) -> list[range]:
    """The slots of each primary after `--cluster create`, which reckons in 32-bit floats."""
    each, begin, first = _float(keys.SLOTS / nodes), 0.0, 0
    dealt = []
    for _ in range(nodes - 1):
        # No number is below zero, so this rounds as lround does: a half away from zero.
        last = math.floor(_float(_float(begin + each) - 1) + 0.5)
        dealt.append(range(first, last + 1))
        begin, first = _float(begin + each), last + 1
    return [*dealt, range(first, keys.SLOTS)]


def shards_on_each(shard_count: int, nodes: int) -> list[int]:
    """How many shards of a ledger each primary has."""
    slots = [keys.slot(shard.base[4:-1]) for shard in keys.shards(shard_count)]
    return [sum(slot in own for slot in slots) for own in ranges(nodes)]


def _float(value: float) -> float:
    single: float = struct.unpack("f", struct.pack("f", value))[0]
    return single
