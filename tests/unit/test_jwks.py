"""The keys of an issuer: fetched seldom, whatever tokens say, and never believed for too long."""

import asyncio
from collections.abc import Iterator

import pytest

from asgi_client import World, answers, call
from clocks import Seconds
from faregate.asgi.identity import Caller
from faregate.domain.errors import IdentityUnavailableError
from jwks_server import LIFETIME_S, PAUSE_S, REFRESH_S, JwksServer, believing_published, with_key
from tokens import SECRET, SUBJECT, claims, jwk, private_key, sign, with_token
from waiting import until


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def issuer() -> Iterator[JwksServer]:
    """The issuer's server, with one key called `a`."""
    server = JwksServer()
    server.publish(jwk("RS256", "a"))
    with server.running():
        yield server


async def test_keys_are_fetched_once_for_all_who_wait(issuer: JwksServer, clock: Seconds) -> None:
    """By the first tokens, however many come at once, and not again for the next."""
    identify = believing_published(issuer, clock)
    found = await asyncio.gather(*(identify(with_key()) for _ in range(50)))
    assert found == [Caller(user_id=SUBJECT)] * 50
    clock.advance(REFRESH_S - 1)
    assert await identify(with_key()) is not None
    assert issuer.paths == ["/jwks.json"]
    assert issuer.agents == ["faregate"]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA", "PS384"])
async def test_a_key_is_good_for_the_signatures_of_its_kind(
    issuer: JwksServer, clock: Seconds, algorithm: str
) -> None:
    """Whether it says so itself, or leaves it open."""
    for more in ({}, {"alg": algorithm}, {"use": "sig"}, {"key_ops": ["verify"]}):
        issuer.publish(jwk("ES512", "other"), jwk(algorithm, "a", **more))
        identify = believing_published(issuer, clock, algorithm)
        assert await identify(with_key("a", algorithm)) == Caller(user_id=SUBJECT)


async def test_a_key_without_an_id_is_for_tokens_without_one(
    issuer: JwksServer, clock: Seconds
) -> None:
    """And for no others."""
    issuer.publish(jwk("RS256"))
    identify = believing_published(issuer, clock)
    assert await identify(with_key(None)) == Caller(user_id=SUBJECT)
    assert await identify(with_key("a")) is None


async def test_a_new_key_is_found_after_the_pause(issuer: JwksServer, clock: Seconds) -> None:
    """An issuer publishes a key before it signs with it; what is shorter has to wait."""
    identify = believing_published(issuer, clock)
    await identify(with_key())
    issuer.publish(jwk("RS256", "a"), jwk("ES256", "b"))
    assert await identify(with_key("b", "ES256")) is None
    clock.advance(PAUSE_S)
    assert await identify(with_key("b", "ES256")) == Caller(user_id=SUBJECT)
    assert issuer.requests == 2


async def test_forged_key_ids_do_not_make_it_ask_the_issuer(
    issuer: JwksServer, clock: Seconds
) -> None:
    """One fetch a pause, at most, for any number of them; good tokens are served meanwhile."""
    identify = believing_published(issuer, clock)
    for pause in range(1, 4):
        scopes = [with_key(f"forged-{number}") for number in range(40)]
        assert set(await asyncio.gather(*map(identify, scopes))) == {None}
        assert await identify(with_key()) is not None
        assert issuer.requests == pause
        clock.advance(PAUSE_S)


async def test_an_invalid_token_causes_no_fetch(issuer: JwksServer, clock: Seconds) -> None:
    """Nor one with a signature that is not allowed, such as none or a secret's."""
    identify = believing_published(issuer, clock)
    for text in (
        "fg_no_token",
        sign(claims(), "HS256", SECRET, {"kid": "a"}),
        sign(claims(), "RS512", private_key("RS256"), {"kid": "a"}),
    ):
        assert await identify(with_token(text)) is None
    assert issuer.requests == 0


async def test_a_withdrawn_key_counts_no_more_after_its_lifetime(
    issuer: JwksServer, clock: Seconds
) -> None:
    """In the meantime the keys are fetched anew beside a request, which does not wait for it."""
    identify = believing_published(issuer, clock)
    assert await identify(with_key()) is not None
    issuer.publish(jwk("ES256", "b"))
    issuer.hang()
    clock.advance(REFRESH_S)
    assert await identify(with_key()) is not None
    issuer.answer_on()
    assert await identify(with_key("b", "ES256")) is not None
    assert await identify(with_key()) is None
    assert issuer.requests == 2


async def test_an_outage_of_the_issuer_is_not_noticed_at_first(
    issuer: JwksServer, clock: Seconds, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys that are known go on to count, until they are too old; it is in the log."""
    identify = believing_published(issuer, clock)
    assert await identify(with_key()) is not None
    issuer.status = 503
    clock.advance(LIFETIME_S - 1)
    assert await identify(with_key()) is not None
    await until(lambda: "JWKS fetch failed" in caplog.text)
    with pytest.raises(IdentityUnavailableError):
        await identify(with_key("b"))
    clock.advance(1)
    with pytest.raises(IdentityUnavailableError):
        await identify(with_key())
    clock.advance(PAUSE_S)
    with pytest.raises(IdentityUnavailableError):
        await identify(with_key())
    issuer.publish(jwk("RS256", "a"))
    clock.advance(PAUSE_S)
    assert await identify(with_key()) is not None


async def test_an_issuer_that_is_down_is_a_503_and_asked_once_a_pause(
    issuer: JwksServer, clock: Seconds
) -> None:
    """Who cannot be told is neither served nor refused as nobody."""
    issuer.status = 500
    world = World()
    middleware = world.around(answers(200), identify=believing_published(issuer, clock))
    for _ in range(5):
        answer = await call(middleware, with_key())
        assert (answer.error, answer.status) == (None, 503)
    assert issuer.requests == 1
    assert not world.ledger.pending
    assert (await call(middleware)).status == 401


async def test_an_issuer_that_hangs_delays_no_other_request(
    issuer: JwksServer, clock: Seconds
) -> None:
    """It is asked in a thread: the event loop goes on, or this test would wait for it."""
    identify = believing_published(issuer, clock)
    issuer.hang()
    waiting = [asyncio.ensure_future(identify(with_key())) for _ in range(5)]
    await until(lambda: issuer.requests == 1)
    assert not any(task.done() for task in waiting)
    issuer.answer_on()
    assert await asyncio.gather(*waiting) == [Caller(user_id=SUBJECT)] * 5
    assert issuer.requests == 1


async def test_an_issuer_that_hangs_is_waited_for_only_so_long(
    issuer: JwksServer, clock: Seconds
) -> None:
    """Who waits is told in time, and no second fetch is begun meanwhile."""
    identify = believing_published(issuer, clock, timeout_s=0.1)
    issuer.hang()
    found = await asyncio.gather(*(identify(with_key()) for _ in range(5)), return_exceptions=True)
    assert {type(error) for error in found} == {IdentityUnavailableError}
    with pytest.raises(IdentityUnavailableError):
        await identify(with_key())
    assert issuer.requests <= 1


async def test_a_request_that_is_cancelled_does_not_end_the_fetch(
    issuer: JwksServer, clock: Seconds
) -> None:
    """Others wait for it."""
    identify = believing_published(issuer, clock)
    issuer.hang()
    first, second = (asyncio.ensure_future(identify(with_key())) for _ in range(2))
    await until(lambda: issuer.requests == 1)
    first.cancel()
    issuer.answer_on()
    assert await second == Caller(user_id=SUBJECT)
    assert first.cancelled()
