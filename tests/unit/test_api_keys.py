"""API keys: how they are written, and who is charged by them."""

import hashlib
import hmac
import re
from datetime import datetime, timedelta, tzinfo
from typing import Any, Self
from uuid import uuid4

import pytest

from api_keys import NOW, FragileApiKeys, bearing, identity, unknown, with_wrong_secret
from asgi_client import USER, World, answers, call, http_scope
from clocks import Seconds
from faregate.asgi.identity import Caller, anonymous, first_of
from faregate.asgi.identity import api_keys as module
from faregate.domain import api_key as domain
from faregate.domain.api_key import NewApiKey, PresentedApiKey, StoredApiKey
from faregate.domain.errors import (
    ConfigurationError,
    InvalidArgumentError,
)


@pytest.fixture
def keys() -> FragileApiKeys:
    return FragileApiKeys()


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


def test_a_key_is_its_id_and_32_random_bytes_kept_as_their_sha256() -> None:
    """No two are alike, and neither the text nor the hash is shown by accident."""
    new, other = (NewApiKey.mint(USER, "x", now=NOW) for _ in range(2))
    assert re.fullmatch(r"fg_[0-9a-f]{32}_[0-9a-f]{64}", new.text)
    secret = bytes.fromhex(new.text[-64:])
    assert new.secret_hash == hashlib.sha256(secret).digest()
    assert new.text[-64:] != other.text[-64:]
    assert new.key.id < other.key.id or new.key.id.hex[:12] == other.key.id.hex[:12]
    stored = StoredApiKey(key=new.key, secret_hash=new.secret_hash)
    presented = PresentedApiKey.parse(new.text)
    for value in (new, new.key, stored, presented):
        assert new.text[-64:] not in repr(value)
        assert repr(new.secret_hash) not in repr(value)


ID, SECRET = "0" * 32, "0" * 64
NOT_A_KEY = {
    "nothing": "",
    "a prefix": "fg_",
    "empty parts": "fg__",
    "braces": "fg_{}_{}",
    "a secret too short": f"fg_{ID}_{SECRET[:-1]}",
    "a secret too long": f"fg_{ID}_{SECRET}0",
    "an id too short": f"fg_{ID[:-1]}_{SECRET}",
    "capitals": f"fg_{'A' * 32}_{SECRET}",
    "a prefix in capitals": f"FG_{ID}_{SECRET}",
    "a line end": f"fg_{ID}_{SECRET}\n",
    "a space in it": f"fg_{ID} _{SECRET}",
    "zeros in it": f"fg_{ID}_{SECRET[:-2]}\0\0",
    "digits of another script": "fg_" + "\u0660" * 32 + f"_{SECRET}",
    "no end": "fg_" + "0" * 100_000,
}


@pytest.mark.parametrize("text", NOT_A_KEY.values(), ids=NOT_A_KEY)
async def test_a_text_without_the_form_of_a_key_is_not_looked_up(
    keys: FragileApiKeys, clock: Seconds, text: str
) -> None:
    """It costs Postgres nothing."""
    assert PresentedApiKey.parse(text) is None
    assert await identity(keys, clock)(bearing(text)) is None
    assert keys.lookups == []


@pytest.mark.parametrize(
    "changed",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"name": "a\0"},
        {"name": "\x1b[31m"},
        {"tier": ""},
        {"tier": "a\r\n"},
        {"expires_at": NOW},
        {"user_id": str(USER)},
    ],
    ids=lambda changed: ascii(changed)[:30],
)
def test_a_key_that_makes_no_sense_is_not_made(changed: dict[str, Any]) -> None:
    """Names end up in terminals, and a key that is over helps nobody."""
    given: dict[str, Any] = {"user_id": USER, "name": "x", "now": NOW} | changed
    with pytest.raises(InvalidArgumentError):
        NewApiKey.mint(**given)


async def test_a_key_is_its_user_with_its_tier(keys: FragileApiKeys, clock: Seconds) -> None:
    """Limits by key count each key apart: its id is the limit key."""
    new, paid = keys.made(), keys.made(tier="paid")
    identify = identity(keys, clock)
    assert await identify(bearing(new.text)) == Caller(user_id=USER, limit_key=new.key.id.hex)
    expected = Caller(user_id=USER, tier="paid", limit_key=paid.key.id.hex)
    assert await identify(bearing(paid.text)) == expected
    await identify.aclose()


async def test_a_key_may_come_in_a_field_of_its_own(keys: FragileApiKeys, clock: Seconds) -> None:
    """And is looked for nowhere else then; two are none."""
    text = keys.made().text
    identify = identity(keys, clock, field="X-API-Key")
    assert await identify(bearing(text)) is None
    field = (b"x-api-key", text.encode())
    assert await identify(http_scope(headers=[field])) is not None
    assert await identify(http_scope(headers=[field, field])) is None
    await identify.aclose()


async def test_a_wrong_secret_is_as_much_work_and_the_same_answer_as_an_unknown_id(
    keys: FragileApiKeys, clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One lookup and one comparison in constant time for either, and a 401 of the same bytes."""
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(domain, "hmac", type("Hmac", (), {"compare_digest": staticmethod(compare)}))
    middleware = World().around(answers(200), identify=identity(keys, clock))
    wrong = await call(middleware, bearing(with_wrong_secret(keys.made())))
    strange = await call(middleware, bearing(unknown()))
    assert (wrong.status, wrong.messages) == (401, strange.messages)
    assert len(keys.lookups) == 2
    assert compared == [(32, 32)] * 2


async def test_a_revoked_or_expired_key_has_no_user(keys: FragileApiKeys, clock: Seconds) -> None:
    """Even one whose secret is right."""
    revoked = keys.made()
    keys.revoke(revoked.key.id)
    expired = keys.made(now=NOW - timedelta(days=2), expires_at=NOW - timedelta(days=1))
    identify = identity(keys, clock)
    assert await identify(bearing(revoked.text)) is None
    assert await identify(bearing(expired.text)) is None


class Later(datetime):
    """A date whose now is two days from now."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(days=2)


async def test_a_key_expires_while_it_is_remembered(
    keys: FragileApiKeys, clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That needs no lookup."""
    new = keys.made(expires_at=NOW + timedelta(days=1))
    identify = identity(keys, clock)
    assert await identify(bearing(new.text)) is not None
    monkeypatch.setattr(module, "datetime", Later)
    assert await identify(bearing(new.text)) is None
    assert len(keys.lookups) == 1
    await identify.aclose()


async def test_a_token_or_else_a_key_or_else_an_address(
    keys: FragileApiKeys, clock: Seconds
) -> None:
    """A request with a wrong key is not anonymous."""
    new, namespace = keys.made(), uuid4()
    identify = first_of(lambda _: None, identity(keys, clock), anonymous(namespace))
    middleware = World().around(answers(200), identify=identify)
    assert (await call(middleware, bearing(new.text))).status == 200
    assert (await call(middleware, bearing(with_wrong_secret(new)))).status == 401
    # Nobody has provisioned the user of this address.
    assert (await call(middleware, http_scope())).status == 403


@pytest.mark.parametrize(
    "given",
    [{"lifetime_s": 0.0}, {"outage_s": -1.0}, {"use_interval_s": 0.0}, {"keys_max": 0}],
    ids=str,
)
def test_times_that_make_no_sense_are_refused(
    keys: FragileApiKeys, clock: Seconds, given: dict[str, Any]
) -> None:
    """A key must be remembered for a while, or each request would ask Postgres."""
    with pytest.raises(ConfigurationError):
        identity(keys, clock, **given)
