"""The scripts themselves: what they refuse, which keys they touch, and what they never do."""

import re
from typing import Any
from uuid import UUID

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from faregate.adapters.redis import layouts, replies, scripts
from faregate.adapters.redis.client import Client
from faregate.adapters.redis.encoding import pack_rules
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.replies import CallReply
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User
from redis_ledger import (
    KEYS,
    balance,
    everything,
)

pytestmark = pytest.mark.redis

Value = bytes | str | int

V7 = CreditTransactionId.mint(1_800_000_000_000).bytes
USER = UUID(int=7)
RULES = pack_rules(None)
NO_NUMBERS = ["", "1.5", "nan", "inf", "0x10", "1e3", " 1", "9" * 30]
BELOW_0 = [*NO_NUMBERS, "-1"]
NO_RULES = [b"", RULES[:-1], RULES + b"\0", RULES * 2]
NO_IDS = [b"", b"short", V7 + b"!"]

#: Arguments of each script that are well-formed, and by their number others that are not.
ARGUMENTS: dict[str, tuple[list[Value], dict[int, list[Any]]]] = {
    "align": (
        [V7, b"", 1, 1, "", -1, 0, 1, 0, "add", b"d", b""],
        {
            1: NO_IDS,
            3: BELOW_0,
            4: BELOW_0,
            5: ["1"],
            6: [*NO_NUMBERS, "1"],
            7: NO_NUMBERS,
            8: BELOW_0,
            9: BELOW_0,
            10: ["deduct", "refund", "gift"],
        },
    ),
    "allowed": (["get fg:{0}:probe"], {1: ["", " "]}),
    "close": (["close"], {1: ["", "shut"]}),
    "collect": (
        [V7, 1, 0, RULES, b"", b"d", b'{"a":1}'],
        {1: NO_IDS, 2: BELOW_0, 4: NO_RULES, 5: [b"x" * 39], 7: [b"", b"{}", b"[1]", b'{"a":1']},
    ),
    "complete": ([V7, b"", 1, V7], {1: NO_IDS, 3: [*BELOW_0, "0"], 4: NO_IDS}),
    "correct_shadow": ([-1, 0], {1: NO_NUMBERS, 2: BELOW_0}),
    "create": ([1, 1, "name", "mark"], {1: [*BELOW_0, "0"], 2: [*BELOW_0, "2"]}),
    "credit": (
        [V7, "add", 1, 0, b"", b"d", b""],
        {1: NO_IDS, 2: ["deduct", "refund", "gift", ""], 3: [*BELOW_0, "0", "2147483648"]},
    ),
    "end": (
        ["settle", V7, V7, 1, 0, b"", RULES, b"d", b""],
        {1: ["", "open"], 2: NO_IDS, 3: NO_IDS, 4: BELOW_0, 5: BELOW_0, 7: NO_RULES},
    ),
    "erase": (["0", 100, USER.bytes], {1: ["", "-1", "1.5", "x"], 2: [*BELOW_0, "0"]}),
    "extend": ([V7, V7, 100], {1: NO_IDS, 2: NO_IDS, 3: [*BELOW_0, "99", "86400001"]}),
    "install": (
        [1, 1, 1, 0, 0],
        {1: NO_NUMBERS, 2: BELOW_0, 3: BELOW_0, 4: NO_NUMBERS, 5: BELOW_0},
    ),
    "read": ([RULES], {1: NO_RULES}),
    "refund": (
        [V7, V7, "", b"", b"", b"", b"", b"", b"", b"", 0, b"d", b""],
        {1: NO_IDS, 2: NO_IDS, 3: [bad for bad in [*BELOW_0, "0"] if bad]},
    ),
    "renew": ([1, RULES], {1: [*BELOW_0, "0"], 2: NO_RULES}),
    "stored": (
        [1, 1, "1-1", 0, 0, 0, 1],
        {1: BELOW_0, 2: BELOW_0, 3: ["", "1", "-", "(1-1"], 4: BELOW_0, 7: [*BELOW_0, "0"]},
    ),
    "void": (
        [V7, V7, V7, 1, 1, 0, b"", b"d"],
        {1: [*NO_IDS, bytes(16)], 2: NO_IDS, 3: NO_IDS, 4: BELOW_0, 5: BELOW_0, 6: BELOW_0},
    ),
}
BAD_ARGUMENTS = [
    (name, [*good[: number - 1], bad, *good[number:]])
    for name, (good, others) in ARGUMENTS.items()
    for number, values in others.items()
    for bad in values
]
NAMES = KEYS.state, KEYS.stream, KEYS.account(USER.bytes)


@pytest.fixture
async def asker(ledger: RedisLedger, client: Redis) -> Any:
    """Runs scripts past the checks of Python, on a ledger with one user."""
    assert await ledger.install(User(id=USER, credits=10, sequence=1, epoch=1))
    asking = Client(client)
    yield asking
    asking.close()


def test_every_script_is_asked(redis_url: str) -> None:
    """None is left out, and the server takes each of them."""
    assert set(ARGUMENTS) | {"spend"} == set(scripts.names())
    with Redis.from_url(redis_url) as client:
        for name in scripts.names():
            script = scripts.load(name)
            loaded = client.execute_command(*script.load)
            assert loaded.decode() == script.run_command[1]


async def test_arguments_that_are_well_formed_are_taken(asker: Client) -> None:
    """So each refusal below is about the one argument that is not."""
    for name, (arguments, _) in ARGUMENTS.items():
        assert isinstance(asker.run(name, KEYS, NAMES, *arguments), list)


@pytest.mark.parametrize("name", ARGUMENTS)
async def test_arguments_that_are_ill_formed_write_nothing(
    asker: Client, client: Redis, name: str
) -> None:
    """Whoever calls a script past the checks of Python gets a typed error."""
    before = everything(client)
    for script, arguments in BAD_ARGUMENTS:
        if script == name:
            command = (*scripts.load(name).run_command, 3, *NAMES, *arguments)
            (reply,) = asker.ask_all([(KEYS, command)])
            assert isinstance(reply, ResponseError), arguments
            assert str(reply).startswith("INVALID "), reply
    assert everything(client) == before


def call(*spends: bytes, head: bytes | None = None, rules: bytes = RULES) -> list[Value]:
    """Return the command of a call of spends of one user."""
    if head is None:
        head = layouts.CALL.pack(1, 1, (2**48 - 1).to_bytes(6), 1_000)
    names = [KEYS.stream, KEYS.state, *[KEYS.account(USER.bytes)] * len(spends)]
    return [*scripts.load("spend").run_command, len(names), *names, head, rules, *spends]


def packed(now_ms: int, *, flags: int = 0, tag: int = 1, policy: int = 1, cost: int = 1) -> bytes:
    identity = CreditTransactionId.mint(now_ms).bytes
    return layouts.SPEND.pack(flags, tag, policy, cost, identity)


BAD_CALLS = [
    {"head": b""},
    {"head": layouts.CALL.pack(2, 1, bytes(6), 1)},
    {"head": layouts.CALL.pack(1, 2, bytes(6), 1)},
    {"head": layouts.CALL.pack(1, 1, bytes(6), 1) + b"\0"},
    {"rules": RULES[:-1]},
    {"rules": RULES[:-1] + b"\1"},
    {"rules": layouts.POLICY.pack(-1, 0, 1, bytes(6), 0)},
    {"rules": layouts.POLICY.pack(1, 0, 9, bytes(6), 0)},
    {"rules": RULES[:-1] + b"\1" + layouts.LIMIT.pack(9, b"name", 1, (1).to_bytes(7))},
]


@pytest.mark.parametrize("bad", BAD_CALLS)
async def test_a_call_that_cannot_be_read_is_refused_as_a_whole(
    asker: Client, client: Redis, ledger: RedisLedger, bad: dict[str, bytes]
) -> None:
    """Before anything is written."""
    before = everything(client)
    command = call(packed(ledger.now_ms()), **bad)
    (reply,) = asker.ask_all([(None, tuple(command))])
    assert isinstance(reply, ResponseError)
    assert str(reply).startswith("INVALID "), reply
    assert everything(client) == before


def statuses(reply: bytes, count: int) -> list[str]:
    return [replies.STATUSES[fields[0] - 1] for fields in CallReply(reply, count).spends()]


async def test_a_spend_that_cannot_be_read_is_refused_alone(
    asker: Client, ledger: RedisLedger
) -> None:
    """Cut short, too long, of no shard, no policy, no time, or with sections that are not there."""
    now_ms = ledger.now_ms()
    good = packed(now_ms)
    bad = [
        b"",
        good[:-1],
        good + b"\0",
        packed(now_ms, tag=2),
        packed(now_ms, tag=0),
        packed(now_ms, policy=2),
        packed(now_ms, policy=0),
        packed(now_ms, cost=-1),
        good[:7] + bytes(16),
        *[packed(now_ms, flags=flags) for flags in (4, 8, 16, 64)],
        *[packed(now_ms, flags=flags) + b"\xff" * 8 for flags in (4, 8, 16, 64)],
        packed(now_ms, flags=layouts.HOLD) + layouts.SPEND_HOLD.pack(99, 0, 1),
        packed(now_ms, flags=layouts.HOLD) + layouts.SPEND_HOLD.pack(100, 2, 1),
    ]
    for spend_ in bad:
        reply = asker.ask(None, *call(packed(now_ms, cost=0), spend_, packed(now_ms, cost=0)))
        assert statuses(reply, 3) == ["allowed", "invalid", "allowed"], spend_
    reply = asker.ask(None, *call(good, *bad, packed(now_ms)))
    assert statuses(reply, 2 + len(bad)) == ["allowed", *["invalid"] * len(bad), "allowed"]
    assert await balance(ledger, USER) == 8


def test_no_script_reads_a_clock_of_its_caller_or_hides_an_error() -> None:
    """TIME is the only clock. What may fail of commands is looked at where it is called."""
    for name in scripts.names():
        code = re.sub(r"--.*", "", scripts.load(name).source)
        assert "os.time" not in code
        assert set(re.findall(r"(\w*pcall)\(", code)) <= {"pcall"}
        assert len(re.findall(r"redis\.pcall\(", code)) == len(re.findall(r"pcall\(", code))


def test_an_unknown_script_name_is_an_error() -> None:
    """The loader does not invent scripts."""
    with pytest.raises(FileNotFoundError):
        scripts.load("nothing")
