"""Python and Lua read and write the same bytes."""

import re
import struct
from typing import Any

import pytest
from redis import Redis

from faregate.adapters.redis import layouts, replies, scripts
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.values import Account, ShardState
from redis_ledger import KEYS, entries, install, spend, value

pytestmark = pytest.mark.redis

BIG = 2**47 + 12_345
BIG_US = 2**53 - 1
ID = bytes(range(1, 17))


#: Each layout with values that fill its fields.
LAYOUTS = [
    (layouts.STATE, [1, 7, BIG, BIG - 1, BIG_US, BIG - 2]),
    (layouts.ACCOUNT, [1, 0, -5, 2**32 - 1, BIG, -9, BIG - 1, BIG - 2, 65_535]),
    (layouts.ARRIVAL, [b"abcd", BIG_US]),
    (layouts.ENTRY, [1, 2**32 - 1, BIG, 128, BIG_US]),
    (layouts.RECORD, [48, 1, 15, ID, ID[::-1], -(2**31), 2**31 - 1, 2**32 - 1]),
    (layouts.RECORD_ALLOWANCE, [-1, 2**31 - 1, BIG]),
    (layouts.POLICY, [2**31 - 1, 5, 4, BIG, 16]),
    (layouts.LIMIT, [3, b"name", 10_000, BIG_US]),
    (layouts.SPEND, [255, 64, 128, 2**31 - 1, ID]),
    (layouts.SPEND_KEY, [ID, ID[:8], BIG, BIG - 1, 2**32 - 1]),
    (layouts.SPEND_HOLD, [86_400_000, 1, 1_000]),
    (layouts.SPEND_SHADOW, [2**31 - 1, ID[:8]]),
    (layouts.CALL, [1, 16, BIG, 2**32 - 1]),
    (layouts.REPLY, [1, 16]),
    (layouts.REPLY_SHARD, [BIG_US, BIG, 2**32 - 1]),
    (layouts.REPLY_SPEND, [1, 3, -1, 2**32 - 1, -2, BIG, 2**32 - 1, 256, 155]),
    (layouts.REPLY_LIMIT, [2**32 - 1, 60_000]),
    (layouts.REPLY_KEY, [4, ID, -(2**31)]),
    (layouts.REPLY_HOLD, [BIG]),
]
NAMES = [name for name, value in vars(layouts).items() if isinstance(value, struct.Struct)]


def lua_format(layout: struct.Struct) -> str:
    """Write a layout as Lua does. Only 6 and 7 bytes are integers there and bytes here."""
    parts = re.findall(r"(\d*)([a-zA-Z])", layout.format)
    kinds = {"B": "B", "H": "I2", "I": "I4", "i": "i4"}
    written = [
        f"I{size}"
        if kind == "s" and size in {"6", "7"}
        else f"c{size}"
        if kind == "s"
        else kinds[kind] * int(size or 1)
        for size, kind in parts
    ]
    return ">" + "".join(written)


def test_every_layout_is_compared() -> None:
    """None is left out that Lua uses; it sees no report of lost answers."""
    compared = {id(layout) for layout, _ in LAYOUTS}
    left_out = [name for name in NAMES if id(getattr(layouts, name)) not in compared]
    assert left_out == ["TEXT_SIZE", "LOST"]


@pytest.mark.parametrize(("layout", "values"), LAYOUTS)
def test_lua_and_python_pack_alike(
    client: Redis, layout: struct.Struct, values: list[int | bytes]
) -> None:
    """Field by field, with numbers that fill them; and Lua names the same format."""
    text = lua_format(layout)
    source = f"return struct.pack('{text}', " + ", ".join(
        f"ARGV[{n}]" if isinstance(value, bytes) else f"tonumber(ARGV[{n}])"
        for n, value in enumerate(values, start=1)
    )
    packed = client.eval(f"{source})", 0, *values)
    assert len(packed) == layout.size
    found = [
        layouts.whole(part) if isinstance(part, bytes) and isinstance(value, int) else part
        for part, value in zip(layout.unpack(packed), values, strict=True)
    ]
    assert found == values
    assert f"{text.removeprefix('>')}'" in scripts.load("spend").source


def test_statuses_have_the_same_numbers() -> None:
    """A reply tells them as numbers."""
    table = re.search(r"local STATUS = \{(.*?)\}", scripts.load("spend").source, re.DOTALL)
    assert table is not None
    said = {name: int(number) for name, number in re.findall(r"(\w+) = (\d+)", table[1])}
    assert said == {name: number for number, name in enumerate(replies.STATUSES, start=1)}


async def test_values_come_back_as_they_were_written(ledger: RedisLedger, client: Redis) -> None:
    """What the scripts left is unpacked, and packed again to the same bytes."""
    user_id = await install(ledger)
    await spend(ledger, user_id)
    packed = value(client, KEYS.state)
    assert ShardState.unpack(packed).pack() == packed
    packed = value(client, KEYS.account(user_id.bytes))
    assert Account.unpack(packed).pack() == packed


async def test_an_account_takes_no_more_than_it_must(ledger: RedisLedger, client: Any) -> None:
    """Most users have one value of 34 bytes, which Redis keeps in its compact form."""
    user_id = await install(ledger)
    await spend(ledger, user_id)
    packed = value(client, KEYS.account(user_id.bytes))
    assert len(packed) == 34
    assert client.object("ENCODING", KEYS.account(user_id.bytes)) == b"embstr"
    account = Account.unpack(packed)
    assert (account.credits, account.sequence, account.holds_count) == (9, 2, 0)
    ((_, payload),) = entries(client)
    assert len(payload) == layouts.ENTRY.size + layouts.RECORD.size
