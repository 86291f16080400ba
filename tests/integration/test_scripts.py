"""The scripts themselves: what they refuse, and what they never do."""

from uuid import UUID, uuid4

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from faregate.adapters.redis import keys
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.runner import Patience, ScriptRunner
from faregate.adapters.redis.scripts import load, names
from faregate.domain.errors import (
    InvalidArgumentError,
)
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User
from redis_ledger import SHARD, everything

V7 = CreditTransactionId.mint(1_800_000_000_000).value.bytes
USER = uuid4().bytes
BAD_NUMBERS = ["", "-1", "1.5", "nan", "inf", "0x10", "1e3", " 1", "2147483648", "9" * 30]
NO_ALLOWANCE = ["0", "0", "day"]


def hold_arguments(
    *, estimate: str = "1", ttl_ms: str = "100", open_max: str = "1"
) -> list[bytes | str]:
    """Return the arguments of a hold that is well-formed but for what is given."""
    attempt: list[bytes | str] = [V7, USER, estimate, "9", "1", "9", "d", ""]
    return [*attempt, ttl_ms, "0", open_max, *NO_ALLOWANCE]


def collect_arguments(
    *, owed: str = "1", metadata: str = '{"a":1}', period: str = "day"
) -> list[bytes | str]:
    """Return the arguments of a collection that is well-formed but for what is given."""
    return [V7, USER, owed, "0", "d", metadata, "1", "0", period]


BAD_ARGUMENTS = [
    *[("charge", [V7, USER, bad, "9", "1", "9", "d", ""]) for bad in BAD_NUMBERS],
    *[("charge", [V7, USER, "1", bad, "1", "9", "d", ""]) for bad in ["", "-1", "nan", "9" * 30]],
    ("charge", [b"short", USER, "1", "9", "1", "9", "d", ""]),
    ("charge", [uuid4().bytes, USER, "1", "9", "1", "9", "d", ""]),
    ("charge", [V7, b"short", "1", "9", "1", "9", "d", ""]),
    *[("credit", [V7, USER, "add", bad, "0", "d", ""]) for bad in [*BAD_NUMBERS, "0"]],
    *[("credit", [V7, USER, kind, "1", "0", "d", ""]) for kind in ["deduct", "refund", "gift", ""]],
    ("credit", [V7, USER, "admin_adjustment", "0", "0", "d", ""]),
    ("credit", [V7, b"short", "add", "1", "0", "d", ""]),
    *[
        ("refund", [V7, USER, V7, bad, "", "", "", "d", ""])
        for bad in BAD_NUMBERS
        if bad  # An empty amount asks for all that is left.
    ],
    ("refund", [V7, USER, b"short", "1", "", "", "", "d", ""]),
    ("void", [V7, USER, b"short", "9", "d"]),
    ("void", [V7, USER, V7, "soon", "d"]),
    *[("collect", collect_arguments(owed=bad)) for bad in BAD_NUMBERS],
    *[("collect", collect_arguments(metadata=bad)) for bad in ["", "{}", "[1]", '{"a":1']],
    ("collect", collect_arguments(period="never")),
    ("collect", [b"short", *collect_arguments()[1:]]),
    *[("hold", hold_arguments(estimate=bad)) for bad in BAD_NUMBERS],
    *[("hold", hold_arguments(ttl_ms=bad)) for bad in [*BAD_NUMBERS, "0", "99", "86400001"]],
    *[("hold", hold_arguments(open_max=bad)) for bad in [*BAD_NUMBERS, "0"]],
    ("hold", [b"short", *hold_arguments()[1:]]),
    *[("settle", [V7, USER, V7, bad, "0", "d", "", *NO_ALLOWANCE]) for bad in BAD_NUMBERS if bad],
    *[("settle", [V7, USER, V7, "1", bad, "d", "", *NO_ALLOWANCE]) for bad in BAD_NUMBERS],
    ("settle", [V7, USER, b"short", "1", "0", "d", "", *NO_ALLOWANCE]),
    ("settle", [V7, USER, V7, "1", "0", "d", "", "1", "0", "never"]),
    *[("extend", [V7, USER, V7, bad]) for bad in [*BAD_NUMBERS, "99", "86400001"]],
    ("extend", [V7, USER, b"short", "100"]),
    ("expire", [V7, b"short", V7]),
    ("void_hold", [V7, USER, b"short", "9", "9", "d"]),
    ("void_hold", [V7, USER, V7, "9", "soon", "d"]),
    ("void_hold", [V7, USER, V7, "soon", "9", "d"]),
    ("void_hold", [uuid4().bytes, USER, V7, "9", "9", "d"]),
    *[("due", [bad]) for bad in [*BAD_NUMBERS, "0"]],
    ("install", ["1.5", "1", "3"]),
    ("install", ["1", "-1", "3"]),
]


@pytest.mark.parametrize(("name", "arguments"), BAD_ARGUMENTS)
async def test_arguments_that_are_ill_formed_write_nothing(
    ledger: RedisLedger, client: Redis, ledger_redis: str, name: str, arguments: list[bytes | str]
) -> None:
    """Whoever calls a script past the checks of Python gets a typed error."""
    user_id = UUID(bytes=USER)
    assert await ledger.install(User(id=user_id, credits=10, sequence=1, epoch=3))
    before = everything(client)
    user, epoch = keys.user(SHARD, user_id), keys.epoch(SHARD)
    extra = keys.refunds(SHARD, CreditTransactionId(UUID(bytes=V7)))
    where = [user, epoch] if name == "install" else [user, keys.stream(SHARD), epoch, extra]
    runner = ScriptRunner.from_url(ledger_redis)
    with pytest.raises(InvalidArgumentError):
        await runner.run(name, where, arguments, Patience(1.0))
    await runner.aclose()
    assert everything(client) == before


def test_every_script_declares_its_keys(client: Redis) -> None:
    """A script that reaches for an undeclared key is refused by a server in cluster mode only.

    So it is shown here that none builds a key: all are read from KEYS.
    """
    for name in names():
        source = load(name).source
        assert source.startswith("#!lua")
        assert "fg:" not in source
        client.script_load(source)


def test_no_script_reads_a_clock_of_its_caller() -> None:
    """TIME is the only clock."""
    for name in names():
        source = load(name).source
        assert "os.time" not in source
        assert "pcall" not in source


def test_an_unknown_script_name_is_an_error(client: Redis) -> None:
    """The loader does not invent scripts."""
    with pytest.raises(FileNotFoundError):
        load("nothing")
    with pytest.raises(ResponseError):
        client.evalsha("0" * 40, 0)
