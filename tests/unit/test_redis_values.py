"""What is computed without a server: clock, records, text, keys, scripts, settings."""

import json
import re
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from faregate import Settings
from faregate.adapters.redis import keys, records, scripts
from faregate.adapters.redis.clock import ServerClock
from faregate.adapters.redis.encoding import encode_description, encode_metadata
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.transaction import METADATA_BYTES_MAX, METADATA_DEPTH_MAX


class LocalClock:
    ms = 1_000.0

    def __call__(self) -> float:
        return self.ms


def nested(depth: int) -> dict[str, object]:
    """Objects and lists by turns, one in another."""
    value: object = 1
    for level in range(depth - 1):
        value = [value] if level % 2 else {"a": value}
    return {"a": value}


def endless() -> dict[str, object]:
    """An object that holds itself."""
    value: dict[str, object] = {}
    value["a"] = value
    return value


def shared(depth: int) -> object:
    """A list that holds one list twice, and so on: small here, and huge when written out."""
    value: object = 1
    for _ in range(depth):
        value = [value, value]
    return value


def record(metadata: bytes) -> bytes:
    """A record as the scripts write it."""
    numbers = (-1, 2, 2, 1, 1_767_000_000_000_000, 0, 0, 0, 0, 0)
    header = records._HEADER.pack(
        records.VERSION, 1, uuid4().bytes, uuid4().bytes, *numbers, bytes(16)
    )
    return header + bytes(2) + len(metadata).to_bytes(4) + metadata


@given(
    offset_ms=st.integers(10**9, 10**12),
    delays_ms=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 3_000)), min_size=1),
)
def test_the_clock_is_never_ahead_of_the_server(
    offset_ms: int, delays_ms: list[tuple[int, int]]
) -> None:
    """However slow replies are, a deadline is never later than it was meant."""
    local = LocalClock()
    clock = ServerClock(local)
    for on_the_way_ms, pause_ms in delays_ms:
        answered_ms = int(local.ms) + offset_ms
        local.ms += on_the_way_ms
        clock.observe(answered_ms)
        local.ms += pause_ms
        assert clock.now_ms() <= local.ms + offset_ms


def test_the_closest_of_recent_replies_counts() -> None:
    """A slow reply does not spoil what a fast one has shown; after a while it is forgotten."""
    local = LocalClock()
    clock = ServerClock(local)
    clock.observe(5_000)
    clock.observe(4_000)
    assert clock.now_ms() == 5_000
    for _ in range(3):
        local.ms += 6_000
        clock.observe(int(local.ms) + 3_000)
    assert clock.now_ms() == int(local.ms) + 3_000


def test_a_clock_that_was_reset_knows_nothing() -> None:
    """After a jump only new replies count."""
    clock = ServerClock(LocalClock())
    clock.observe(5_000)
    clock.reset()
    assert not clock.is_known
    clock.observe(2_000)
    assert clock.now_ms() == 2_000


@given(payload=st.binary(max_size=300))
def test_no_bytes_stop_the_reader(payload: bytes) -> None:
    """What is no record becomes an entry with a problem, never an exception."""
    entry = records.entry("1-0", payload)
    assert (entry.transaction is None) == bool(entry.problem)
    assert entry.payload == payload


@pytest.mark.parametrize(
    "text",
    ["with \0 in it", "x" * 1_001, "\ud800", 5, None],
    ids=["nul", "long", "half", "int", "none"],
)
def test_a_description_that_postgres_cannot_store_is_refused(text: str) -> None:
    """It is refused before anything is charged, not found by the drain."""
    with pytest.raises(InvalidArgumentError):
        encode_description(text)


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": "\0"},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": object()},
        {"a": "x" * 9_000},
        {"\ud800": 1},
        {"a": [{"b": ["\0"]}]},
        {"a": [{"b\0": 1}]},
        nested(METADATA_DEPTH_MAX + 1),
        nested(979),
        nested(100_000),
        endless(),
        {"a": shared(30)},
        {"a": [0] * 100_000},
    ],
    ids=[
        *("nul", "nan", "inf", "object", "long", "half", "inner nul", "nul in a key"),
        *("too deep", "deeper", "deepest", "endless", "shared", "wide"),
    ],
)
def test_metadata_that_jsonb_cannot_store_is_refused(metadata: dict[str, object]) -> None:
    """It is refused before anything is charged, not found by the drain."""
    with pytest.raises(InvalidArgumentError):
        encode_metadata(metadata)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        nested(METADATA_DEPTH_MAX),
        {"a": "\\u0000", "\\u0000": ("b", None, True, 1.5)},
        {"a": ["x"] * 1_500},
    ],
    ids=["empty", "deep", "a backslash and u0000", "wide"],
)
def test_metadata_that_jsonb_can_store_is_taken(metadata: dict[str, object]) -> None:
    """It says the same when it is read."""
    encoded = encode_metadata(metadata)
    assert len(encoded) <= METADATA_BYTES_MAX
    assert json.loads(encoded) == json.loads(json.dumps(metadata))


def test_metadata_that_nests_beyond_the_stack_is_unreadable() -> None:
    """Such a record would otherwise stop its shard, whenever it is read."""
    depth = 100_000
    payload = record(b'{"a":' * depth + b"1" + b"}" * depth)
    entry = records.entry("1-0", payload)
    assert (entry.transaction, entry.payload) == (None, payload)
    assert "cannot be read" in entry.problem
    assert records.entry("1-0", record(b'{"a":1}')).problem == ""


def test_the_tag_stands_before_what_a_user_can_choose() -> None:
    """So no id can move its keys to another slot."""
    user_id = uuid4()
    for name in (keys.user(7, user_id), keys.stream(7), keys.epoch(7)):
        assert name.startswith("fg:{s07}:")


@given(user_id=st.uuids(), shard_count=st.integers(1, 100))
def test_a_shard_is_one_of_those_there_are(user_id: UUID, shard_count: int) -> None:
    """And always the same one."""
    shard = keys.shard_of(user_id, shard_count)
    assert 0 <= shard < shard_count
    assert shard == keys.shard_of(UUID(str(user_id)), shard_count)


def test_every_script_is_assembled_with_its_fragments(tmp_path: Path) -> None:
    """What luacheck reads is what is sent, without `#!lua`."""
    scripts.dump(tmp_path)
    holds = ["due", "expire", "extend", "hold", "settle", "void_hold"]
    credits_ = ["charge", "credit", "install", "read", "refund", "renew", "trim", "void"]
    assert scripts.names() == sorted(holds + credits_ + ["complete", "observe"])
    for name in scripts.names():
        script = scripts.load(name)
        shebang, _, body = script.source.partition("\n")
        assert shebang.startswith("#!lua")
        assert (tmp_path / f"{name}.lua").read_text(encoding="utf-8") == body
        for fragment in scripts.folder().glob("lib/*.lua"):
            uses = re.findall(r"\w+", body.partition("-- uses: ")[2].partition("\n\n")[0])
            is_there = fragment.read_text(encoding="utf-8") in body
            assert is_there == (fragment.stem in uses), (name, fragment)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its name; the queue is in the ledger's Redis unless it is elsewhere."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", "redis://127.0.0.1:7000/1")
    monkeypatch.setenv("FAREGATE_STARTING_CREDITS", "9")
    settings = Settings()
    assert (settings.redis_url, settings.starting_credits) == ("redis://127.0.0.1:7000/1", 9)
    assert settings.rq_url == settings.redis_url
    assert Settings(queue_url="redis://127.0.0.1:7001").rq_url == "redis://127.0.0.1:7001"


@pytest.mark.parametrize(
    "bad",
    [
        {"redis_url": "http://127.0.0.1"},
        {"redis_url": "redis://127.0.0.1:port/0"},
        {"redis_url": "redis://127.0.0.1:65536/0"},
        {"redis_url": "redis://[::1/0"},
        {"queue_url": "redis://:pass/word@127.0.0.1:6379"},
        {"shard_count": 0},
        {"starting_credits": -1},
        {"batch_size_max": 0},
        {"environment": "prod"},
        {"no_such_setting": 1},
    ],
)
def test_settings_that_cannot_be_are_refused(bad: dict[str, object]) -> None:
    """At the start, by name."""
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Settings(**bad)  # type: ignore[arg-type]
