"""A call of 64 spends in which one byte is another: no other spend notices, and nothing raises."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest
from redis import Redis

from mixed_call import (
    COUNT,
    KINDS,
    PLACES,
    SHARD_COUNT,
    SITUATIONS,
    Answer,
    Change,
    MixedCall,
    Place,
    mixed_call,
    still_clock,
)
from redis_ledger import value
from soak import SOAK, Record, counted

pytestmark = pytest.mark.redis

#: What a byte is combined with, by exclusive or. `make soak` takes all for each byte, and else one.
MASKS = (0x01, 0x80, 0xFF)
#: A value of each other type, under the name of a key.
OTHER_TYPES: dict[str, tuple[str | int, ...]] = {
    "list": ("RPUSH", "?"),
    "hash": ("HSET", "?", "?"),
    "set": ("SADD", "?"),
    "zset": ("ZADD", 1, "?"),
    "stream": ("XADD", "1-1", "?", "?"),
    "string": ("SET", "?"),
}
#: One spend of each kind, in each of the three situations in which it may be allowed.
CHOSEN = tuple(one for one in PLACES if SOAK or one.number % 3 == SITUATIONS.index(one.situation))


@pytest.fixture
async def call(client: Redis, ledger_redis: str) -> AsyncIterator[MixedCall]:
    with (
        still_clock(client) as clock,
        closing(await mixed_call(client, ledger_redis, clock)) as made,
    ):
        yield made


def damaged(value: bytes) -> Iterator[tuple[int, bytes]]:
    """Iterate over values in which one byte is another, with its place."""
    for at in range(len(value)):
        for mask in MASKS if SOAK else MASKS[at % len(MASKS) :][:1]:
            yield at, value[:at] + bytes((value[at] ^ mask,)) + value[at + 1 :]


def others(answers: list[Answer], places: Iterable[Place]) -> list[tuple[Place, Answer]]:
    """Return the answers to all spends but some."""
    left_out = set(places)
    return [pair for pair in zip(PLACES, answers, strict=True) if pair[0] not in left_out]


def of_other_type(name: bytes, kind: str) -> tuple[Change, Change]:
    """Return the commands that make a key one of another type."""
    command, *rest = OTHER_TYPES[kind]
    return ("DEL", name), (command, name, *rest)


def test_all_kinds_of_spends_are_in_the_call(call: MixedCall) -> None:
    """In all situations; and the same call answers the same each time."""
    answers = call.ask()
    assert {place.kind for place in CHOSEN} == set(KINDS)
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {"allowed", "repeated", "out_of_credits", "unknown_user"}
    assert min(statuses.values()) > len(KINDS) - 3
    assert len(call.shards) == SHARD_COUNT
    assert call.ask() == answers


@pytest.mark.long
def test_a_byte_of_a_spend_concerns_no_other_spend(
    call: MixedCall, record_property: Record
) -> None:
    """It is another spend then, or none."""
    answers, statuses = call.ask(), Counter[str]()
    for place in CHOSEN:
        for _, packed in damaged(call.spend(place.number)):
            found = call.ask(call.with_spend(place.number, packed))
            assert others(found, [place]) == others(answers, [place]), (place, packed)
            statuses[found[place.number].status] += 1
    record_property("soak", f"bytes of spends: {counted(statuses)}")
    assert {"invalid", "allowed", "out_of_credits", "ahead", "stale"} <= set(statuses)


@pytest.mark.long
def test_a_byte_of_an_account_concerns_nobody_else(
    call: MixedCall, record_property: Record
) -> None:
    """An account that cannot be read is left as it is."""
    answers, statuses = call.ask(), Counter[str]()
    for place in CHOSEN:
        name = call.accounts[place.number]
        if name not in call.found:
            continue
        for at, packed in damaged(call.value(name)):
            found = call.ask(None, ("SET", name, packed))
            assert others(found, [place]) == others(answers, [place]), (place, packed)
            answer = found[place.number]
            statuses[answer.status] += 1
            assert at >= 2 or (answer.status, answer.account) == ("corrupt", packed)
    record_property("soak", f"bytes of accounts: {counted(statuses)}")
    assert {"corrupt", "allowed", "out_of_credits"} <= set(statuses)


def test_a_byte_of_the_state_of_a_shard_concerns_no_other_shard(
    call: MixedCall, record_property: Record
) -> None:
    """Nothing of a shard is written whose state cannot be read."""
    answers, statuses = call.ask(), Counter[str]()
    for shard in call.shards:
        concerned = [place for place in PLACES if place.shard is shard]
        for at, packed in damaged(call.value(shard.state)):
            found = call.ask(None, ("SET", shard.state, packed))
            assert others(found, concerned) == others(answers, concerned), (shard, packed)
            told = {found[place.number].status for place in concerned}
            statuses.update(told)
            assert at or told == {"corrupt"}
    record_property("soak", f"bytes of shards: {counted(statuses)}")
    assert {"corrupt", "backlog", "late", "allowed"} <= set(statuses)


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_an_account_that_is_none_concerns_nobody_else(call: MixedCall, kind: str) -> None:
    """It is `corrupt`, and left as it is."""
    answers = call.ask()
    for place in CHOSEN:
        found = call.ask(None, *of_other_type(call.accounts[place.number], kind))
        assert others(found, [place]) == others(answers, [place]), place
        assert found[place.number].status == "corrupt"


def cut_and_grown(value: bytes) -> list[bytes]:
    """Return values of all lengths about that of one, and of other versions."""
    versions = [bytes((version,)) + value[1:] for version in (0, 2, 255)]
    lengths = [value[:size] for size in (0, 1, len(value) // 2, len(value) - 1)]
    return [*versions, *lengths, value + b"\0", value * 2, value * 1_000]


def test_an_account_of_another_length_or_version_concerns_nobody_else(call: MixedCall) -> None:
    """It is `corrupt`, and left as it is."""
    answers = call.ask()
    for place in CHOSEN:
        name = call.accounts[place.number]
        for packed in cut_and_grown(call.value(name)) if name in call.found else ():
            found = call.ask(None, ("SET", name, packed))
            assert others(found, [place]) == others(answers, [place]), (place, packed)
            answer = found[place.number]
            assert (answer.status, answer.account) == ("corrupt", packed)


@pytest.mark.parametrize("part", ["state", "stream"])
@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_a_shard_that_is_none_concerns_no_other_shard(
    call: MixedCall, part: str, kind: str
) -> None:
    """All of it is `corrupt` that would be written, and its accounts stay as they are."""
    answers = call.ask()
    for shard in call.shards:
        concerned = [place for place in PLACES if place.shard is shard]
        found = call.ask(None, *of_other_type(getattr(shard, part), kind))
        assert others(found, concerned) == others(answers, concerned), shard
        if (part, kind) != ("stream", "stream"):
            assert {found[place.number].status for place in concerned} == {"corrupt"}


def test_the_state_of_a_shard_of_another_length_or_version_concerns_no_other(
    call: MixedCall,
) -> None:
    """All of the shard is `corrupt`."""
    answers = call.ask()
    for shard in call.shards:
        concerned = [place for place in PLACES if place.shard is shard]
        for packed in cut_and_grown(call.value(shard.state)):
            found = call.ask(None, ("SET", shard.state, packed))
            assert others(found, concerned) == others(answers, concerned), (shard, packed)
            assert {found[place.number].status for place in concerned} == {"corrupt"}


def noticed(before: list[Answer], after: list[Answer]) -> list[Place]:
    """Return the spends whose answers differ."""
    pairs = zip(PLACES, before, after, strict=True)
    return [place for place, first, second in pairs if first != second]


def rare_keys(call: MixedCall) -> list[bytes]:
    """Return the keys beside accounts, states and streams that spends read or write."""
    call.ask()
    names = {bytes(name) for name in call.client.scan_iter(match="fg:*")}
    common = {name for shard in call.shards for name in (shard.state, shard.stream)}
    return sorted(names - common - set(call.accounts))


def damaged_fields(call: MixedCall, name: bytes) -> Iterator[Change]:
    """Iterate over commands that change one byte of a key that only some spends read."""
    kind = call.client.type(name)
    if kind == b"string":
        yield from (("SET", name, packed) for _, packed in damaged(value(call.client, name)))
    elif kind == b"hash":
        fields: dict[Any, Any] = call.client.hgetall(name)
        for field, packed in fields.items():
            yield ("HDEL", name, field)
            yield from (("HSET", name, field, other) for _, other in damaged(packed))


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_a_key_of_another_type_concerns_one_spend(call: MixedCall, kind: str) -> None:
    """It is `corrupt`, whichever of the keys it is that few spends have; others are not read."""
    answers, letters = call.ask(), Counter[str]()
    for name in [name for name in rare_keys(call) if call.client.type(name) != kind.encode()]:
        found = call.ask(None, *of_other_type(name, kind))
        concerned = noticed(answers, found)
        assert len(concerned) <= 1, name
        assert {found[place.number].status for place in concerned} <= {"corrupt"}, name
        letters[name.partition(b"}")[2][:1].decode()] += len(concerned)
    assert set(+letters) >= set("dikl") - {"string": set("il"), "hash": set("dk")}.get(kind, set())


@pytest.mark.long
def test_a_byte_of_a_key_that_few_spends_have_concerns_one_spend(
    call: MixedCall, record_property: Record
) -> None:
    """Of a deduct, an idempotency key, a remembered id, a limit, and what else there is."""
    answers, letters = call.ask(), Counter[str]()
    for name in rare_keys(call):
        if name not in call.found:
            continue
        call.restore()
        for change in list(damaged_fields(call, name)):
            concerned = noticed(answers, call.ask(None, change))
            assert len(concerned) <= 1, change
            letters[name.partition(b"}")[2][:1].decode()] += len(concerned)
    record_property("soak", f"bytes of other keys, by kind of key: {counted(letters)}")
    assert set(letters) >= set("dikl"), letters


def test_head_and_policies_that_cannot_be_read_write_nothing(call: MixedCall) -> None:
    """All spends share them, so the call as a whole is refused, or decided."""
    refused = Counter[str]()
    for number in (-COUNT - 2, -COUNT - 1):
        for _, packed in damaged(call.arguments[number]):
            arguments = list(call.arguments)
            arguments[number] = packed
            refused[call.refuse(arguments)[:7]] += 1
    assert set(refused) == {"", "INVALID"}
