"""How seldom API keys are looked up and their uses written, and what an outage does."""

import asyncio

import pytest

from api_keys import (
    LIFETIME_S,
    OUTAGE_S,
    FragileApiKeys,
    bearing,
    identity,
    unknown,
    with_wrong_secret,
)
from asgi_client import USER, World, answers, call
from clocks import Seconds
from faregate.asgi.identity import Caller
from faregate.asgi.identity import api_keys as module
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    IdentityUnavailableError,
)
from waiting import until


@pytest.fixture
def keys() -> FragileApiKeys:
    return FragileApiKeys()


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


async def test_a_revocation_takes_effect_within_the_lifetime(
    keys: FragileApiKeys, clock: Seconds
) -> None:
    """Until then no request asks Postgres."""
    new = keys.made()
    identify = identity(keys, clock)
    assert await identify(bearing(new.text)) is not None
    keys.revoke(new.key.id)
    clock.advance(LIFETIME_S - 1)
    assert await identify(bearing(new.text)) is not None
    assert len(keys.lookups) == 1
    clock.advance(1)
    assert await identify(bearing(new.text)) is None
    assert len(keys.lookups) == 2
    await identify.aclose()


async def test_many_requests_with_one_key_share_one_lookup(
    keys: FragileApiKeys, clock: Seconds
) -> None:
    """One of them that is cancelled does not end what the others wait for."""
    new = keys.made()
    identify = identity(keys, clock)
    keys.answers.clear()
    waiting = [asyncio.ensure_future(identify(bearing(new.text))) for _ in range(50)]
    await until(lambda: keys.lookups)
    waiting.pop(0).cancel()
    keys.answers.set()
    assert set(await asyncio.gather(*waiting)) == {Caller(user_id=USER, limit_key=new.key.id.hex)}
    assert len(keys.lookups) == 1
    await identify.aclose()


async def test_made_up_ids_drive_no_key_out_and_are_remembered_apart(
    keys: FragileApiKeys, clock: Seconds
) -> None:
    """Both memories are bounded."""
    new = keys.made()
    identify = identity(keys, clock, keys_max=10)
    await identify(bearing(new.text))
    made_up = [unknown() for _ in range(30)]
    for text in made_up:
        assert await identify(bearing(text)) is None
    assert await identify(bearing(new.text)) is not None
    assert await identify(bearing(made_up[-1])) is None
    assert len(keys.lookups) == 31
    for text in [keys.made().text for _ in range(30)]:
        assert await identify(bearing(text)) is not None
    lookups = identify._found
    assert (len(lookups._existing), len(lookups._missing)) == (10, 10)
    await identify.aclose()


async def test_while_postgres_is_away_known_keys_go_on_to_count(
    keys: FragileApiKeys, clock: Seconds
) -> None:
    """For a named time. Those that are not known cannot be told: 503, and not 401."""
    new, other = keys.made(), keys.made()
    identify = identity(keys, clock)
    await identify(bearing(new.text))
    keys.error = ArchiveUnavailableError("no answer")
    clock.advance(LIFETIME_S + OUTAGE_S - 1)
    assert await identify(bearing(new.text)) is not None
    with pytest.raises(IdentityUnavailableError):
        await identify(bearing(other.text))
    clock.advance(module.UNREACHABLE_S)
    answer = await call(World().around(answers(200), identify=identify), bearing(new.text))
    assert (answer.error, answer.status) == (None, 503)
    keys.error = None
    clock.advance(module.UNREACHABLE_S)
    assert await identify(bearing(new.text)) is not None
    assert await identify(bearing(other.text)) is not None
    await identify.aclose()


async def test_a_postgres_that_is_away_is_asked_now_and_then(
    keys: FragileApiKeys, clock: Seconds
) -> None:
    """Not by each request, all of which would wait for it."""
    keys.error = ArchiveUnavailableError("no answer")
    identify = identity(keys, clock)
    for asked in range(1, 4):
        for _ in range(10):
            with pytest.raises(IdentityUnavailableError):
                await identify(bearing(unknown()))
        assert len(keys.lookups) == asked
        clock.advance(module.UNREACHABLE_S)


async def test_the_wait_for_a_lookup_that_hangs_is_bounded(
    keys: FragileApiKeys, clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next requests do not begin another one."""
    monkeypatch.setattr(module, "LOOKUP_S_MAX", 0.05)
    new = keys.made()
    identify = identity(keys, clock)
    keys.answers.clear()
    for _ in range(3):
        with pytest.raises(IdentityUnavailableError):
            await identify(bearing(new.text))
    assert len(keys.lookups) == 1
    keys.answers.set()
    assert await identify(bearing(new.text)) is not None
    await identify.aclose()


async def test_a_flood_of_keys_does_not_revive_a_revoked_key(
    keys: FragileApiKeys, clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up ids are bounded; a key that is known to exist is looked up all the same."""
    monkeypatch.setattr(module, "LOOKUPS_MAX", 3)
    new = keys.made()
    identify = identity(keys, clock)
    await identify(bearing(new.text))
    keys.revoke(new.key.id)
    clock.advance(LIFETIME_S)
    keys.answers.clear()
    flood = [asyncio.ensure_future(identify(bearing(unknown()))) for _ in range(3)]
    await until(lambda: len(keys.lookups) == 4)
    with pytest.raises(IdentityUnavailableError):
        await identify(bearing(unknown()))
    known = asyncio.ensure_future(identify(bearing(new.text)))
    await until(lambda: len(keys.lookups) == 5)
    keys.answers.set()
    assert await asyncio.gather(*flood) == [None] * 3
    assert await known is None
    await identify.aclose()


async def test_an_unmigrated_database_is_a_mistake_of_configuration(
    keys: FragileApiKeys, clock: Seconds
) -> None:
    """The message for the operator is not lost on the way."""
    keys.error = ConfigurationError("run `faregate migrate`")
    with pytest.raises(ConfigurationError, match="migrate"):
        await identity(keys, clock)(bearing(unknown()))


async def test_the_last_use_is_written_without_a_write_per_request(
    keys: FragileApiKeys, clock: Seconds
) -> None:
    """Many uses are one write; those of keys that do not count are none."""
    new, other = keys.made(), keys.made()
    identify = identity(keys, clock)
    for _ in range(20):
        await identify(bearing(new.text))
        await identify(bearing(with_wrong_secret(other)))
    assert keys.notes == []
    await identify.aclose()
    assert [set(note) for note in keys.notes] == [{new.key.id}]
    used = {key.id: key.last_used_at for key in keys.keys(USER, None, 10)}
    assert used == {new.key.id: keys.notes[0][new.key.id], other.key.id: None}


async def test_uses_are_written_after_each_interval(keys: FragileApiKeys, clock: Seconds) -> None:
    """In the background, as long as there are any."""
    new = keys.made()
    identify = identity(keys, clock, use_interval_s=0.02)
    for number in range(1, 4):
        await identify(bearing(new.text))
        await until(lambda: len(keys.notes) == number)  # noqa: B023
    await identify.aclose()
    assert len(keys.notes) == 3


async def test_unwritten_uses_are_written_at_the_end(keys: FragileApiKeys, clock: Seconds) -> None:
    """The lifespan of the app closes it, once."""
    new = keys.made()
    identify = identity(keys, clock)
    async with identify.lifespan():
        await identify(bearing(new.text))
        assert not keys.notes
    assert [set(note) for note in keys.notes] == [{new.key.id}]
    assert keys.is_closed


async def test_uses_that_could_not_be_written_are_written_later(
    keys: FragileApiKeys, clock: Seconds, caplog: pytest.LogCaptureFixture
) -> None:
    """No request fails for it, and the newer use stands."""
    new = keys.made()
    identify = identity(keys, clock, use_interval_s=0.02)
    await identify(bearing(new.text))
    keys.answers.clear()
    keys.error = ArchiveUnavailableError("no answer")
    await until(lambda: keys.notes)
    # Used again while the first write is under way.
    await identify(bearing(new.text))
    keys.answers.set()
    await until(lambda: "not written" in caplog.text)
    keys.error = None
    await identify.aclose()
    first, last = (keys.notes[place][new.key.id] for place in (0, -1))
    assert first < last
    assert keys.keys(USER, None, 1)[0].last_used_at == last


async def test_uses_that_wait_are_bounded(keys: FragileApiKeys, clock: Seconds) -> None:
    """A key that is used again is written with the next ones."""
    identify = identity(keys, clock, keys_max=3)
    for _ in range(5):
        await identify(bearing(keys.made().text))
    await identify.aclose()
    assert [len(note) for note in keys.notes] == [3]
