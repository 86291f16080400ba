"""What is computed without a server: text, scripts, settings."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from faregate import Settings
from faregate.adapters.redis import scripts
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.texts import encode_description, encode_metadata
from faregate.domain.transaction import METADATA_BYTES_MAX, METADATA_DEPTH_MAX


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


def test_every_script_is_assembled_with_its_fragments(tmp_path: Path) -> None:
    """Those that it uses and no others; and luacheck reads exactly that, without `#!lua`."""
    scripts.dump(tmp_path)
    fragments = {
        path.stem: path.read_text(encoding="utf-8") for path in scripts.folder().glob("lib/*.lua")
    }
    used: set[str] = set()
    for name in scripts.names():
        shebang, _, body = scripts.load(name).source.partition("\n")
        assert shebang.startswith("#!lua")
        assert (tmp_path / f"{name}.lua").read_text(encoding="utf-8") == body
        lines = re.findall(r"^-- uses: ((?:\w+(?:,(?:\n--)? +)?)+)$", body, re.MULTILINE)
        named = {part for line in lines for part in re.findall(r"\w+", line)}
        assert named == {part for part, text in fragments.items() if text in body}, name
        used |= named
    assert used == set(fragments)


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
