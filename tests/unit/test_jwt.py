"""Tokens: which are believed, and that every other one is nobody, whatever is wrong with it."""

import importlib
import json
import sys
import time
from datetime import UTC, datetime, tzinfo
from typing import Any
from uuid import UUID

import jwt
import pytest

from faregate import user_id_of
from faregate.asgi.identity import Caller
from faregate.asgi.identity.caller import CREDENTIAL_BYTES_MAX
from faregate.domain.errors import ConfigurationError
from tokens import (
    AUDIENCE,
    ISSUER,
    SECRET,
    SUBJECT,
    believing,
    claims,
    jwk,
    private_key,
    private_pem,
    public_pem,
    sign,
    with_token,
)

NAMESPACE = UUID("0c7d5a0e-7c3e-5c53-9d7e-3f6f0f8a8f11")
ASYMMETRIC = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]


@pytest.mark.parametrize("algorithm", [*ASYMMETRIC, "HS256", "HS384", "HS512"])
async def test_a_token_that_the_issuer_signed_is_its_subject(algorithm: str) -> None:
    """By every signature that may be allowed."""
    key = SECRET if algorithm.startswith("HS") else private_key(algorithm)
    token = sign(claims(), algorithm, key)
    assert await believing(algorithm)(with_token(token)) == Caller(user_id=SUBJECT)


async def test_issuers_audiences_and_signatures_may_be_several() -> None:
    """A token needs one of each."""
    identify = believing(
        issuer=["https://old.example.org/", ISSUER],
        audience=[AUDIENCE, "https://admin.example.org/"],
        algorithms=["RS256", "PS256"],
    )
    for token in (
        sign(claims(aud=["https://admin.example.org/", "x"]), "PS256", private_key("RS256")),
        sign(claims(iss="https://old.example.org/")),
    ):
        assert await identify(with_token(token)) == Caller(user_id=SUBJECT)


async def test_a_token_without_audience_must_be_allowed_explicitly() -> None:
    """And then one that is for somebody else is not believed either."""
    identify = believing(audience=None)
    assert await identify(with_token(sign(claims(aud=None)))) == Caller(user_id=SUBJECT)
    assert await identify(with_token(sign(claims()))) is None
    assert await believing()(with_token(sign(claims(aud=None)))) is None


@pytest.fixture
def stopped_at_s(monkeypatch: pytest.MonkeyPatch) -> int:
    """The time by which tokens are checked, which stands still."""
    now_s = int(time.time())

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stopped":
            return cls.fromtimestamp(now_s, tz)

    monkeypatch.setattr(jwt.api_jwt, "datetime", Stopped)
    assert Stopped.now(UTC).timestamp() == now_s
    return now_s


@pytest.mark.parametrize(("ago_s", "leeway_s"), [(10, None), (0, 0)])
async def test_clocks_may_differ_a_little(
    stopped_at_s: int, ago_s: int, leeway_s: int | None
) -> None:
    """By ten seconds, unless said otherwise; a token that expires now has expired."""
    identify = believing() if leeway_s is None else believing(leeway_s=leeway_s)
    expired = claims(iat=stopped_at_s, exp=stopped_at_s - ago_s)
    assert await identify(with_token(sign(expired))) is None
    assert await identify(with_token(sign(expired | {"exp": expired["exp"] + 1}))) is not None


@pytest.mark.parametrize(("claim", "in_s"), [("exp", -60), ("nbf", 600), ("iat", 600)])
async def test_an_expired_or_future_token_has_no_user(
    stopped_at_s: int, claim: str, in_s: int
) -> None:
    """Of the past, or of the future."""
    assert await believing()(with_token(sign(claims(**{claim: stopped_at_s + in_s})))) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": []},
        {"nbf": {}},
        {"iat": "now"},
        {"iss": None},
        {"iss": ISSUER.rstrip("/")},
        {"aud": "https://other.example.org/"},
        {"aud": []},
        {"aud": {AUDIENCE: True}},
        {"aud": [AUDIENCE, 1]},
        {"sub": None},
        {"sub": ""},
        {"sub": "user-1"},
        {"sub": 7},
        {"sub": [str(SUBJECT)]},
        {"jti": 7},
    ],
    ids=json.dumps,
)
async def test_a_token_with_wrong_claims_has_no_user(changed: dict[str, Any]) -> None:
    """However well it is signed."""
    assert await believing()(with_token(sign(claims(**changed)))) is None


async def test_a_token_with_invalid_numbers_has_no_user() -> None:
    """Python reads more than JSON allows, and some of it is no time."""
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5_000, b'"1e9"'):
        payload = json.dumps(claims(exp=1)).encode().replace(b'"exp": 1', b'"exp": ' + number)
        assert await believing()(with_token(sign(payload))) is None


async def test_the_scheme_is_written_in_any_case() -> None:
    """As HTTP has it (RFC 9110, section 11.1)."""
    assert await believing()(with_token(sign(claims()), "bEaReR")) == Caller(user_id=SUBJECT)


async def test_a_token_that_is_too_long_is_ignored() -> None:
    """However good it is."""
    token = sign(claims(padding="x" * CREDENTIAL_BYTES_MAX))
    assert await believing()(with_token(token)) is None
    fits = sign(claims(padding="x" * (CREDENTIAL_BYTES_MAX // 2)))
    assert await believing()(with_token(fits)) is not None


async def test_a_subject_that_is_no_uuid_needs_a_namespace() -> None:
    """With one it is always the same user; control characters are nobody even then."""
    token = with_token(sign(claims(sub="auth0|507f")))
    assert await believing()(token) is None
    expected = Caller(user_id=user_id_of(NAMESPACE, "auth0|507f"))
    assert await believing(namespace=NAMESPACE)(token) == expected
    for subject in ("a\0b", "a\r\nx-admin: 1", "\ud800", "x" * 300):
        assert await believing(namespace=NAMESPACE)(with_token(sign(claims(sub=subject)))) is None


@pytest.mark.parametrize(
    ("claim", "said", "tier"),
    [
        ((), {"tier": "paid"}, None),
        ("tier", {"tier": "paid"}, "paid"),
        ("tier", {}, None),
        ("tier", {"tier": ["paid"]}, None),
        ("tier", {"tier": ""}, None),
        ("tier", {"tier": "x" * 101}, None),
        ("https://example.org/tier", {"https://example.org/tier": "paid"}, "paid"),
        (("app_metadata", "tier"), {"app_metadata": {"tier": "paid"}}, "paid"),
        (("app_metadata", "tier"), {"app_metadata": "paid", "tier": "paid"}, None),
        (("app_metadata", "tier"), {"user_metadata": {"tier": "paid"}}, None),
    ],
)
async def test_the_tier_comes_from_the_claim_that_was_named(
    claim: str | tuple[str, ...], said: dict[str, Any], tier: str | None
) -> None:
    """And from no other; without it the gate knows the user's tier."""
    found = await believing(tier_claim=claim)(with_token(sign(claims(**said))))
    assert found == Caller(user_id=SUBJECT, tier=tier)


@pytest.mark.parametrize(
    "changed",
    [
        {"algorithms": []},
        {"algorithms": ["none"]},
        {"algorithms": ["RS256", "none"]},
        {"algorithms": ["RS256", "HS256"]},
        {"algorithms": ["RS257"]},
        {"algorithms": "RS256"},
        {"algorithms": ["RS256", "ES256"]},
        {"algorithms": ["ES256"]},
        {"algorithms": ["HS256"]},
        {"algorithms": ["HS256"], "keys": json.dumps(jwk("RS256"))},
        {"algorithms": ["HS256"], "keys": "too short"},
        {"algorithms": ["HS256"], "keys": ""},
        {"keys": SECRET},
        {"keys": ""},
        {"keys": private_pem(private_key("RS256"))},
        {"algorithms": ["ES384"], "keys": public_pem(private_key("ES256"))},
        {"issuer": ""},
        {"issuer": []},
        {"audience": ""},
        {"audience": []},
        {"leeway_s": -1},
        {"leeway_s": 100_000},
    ],
    # A key is made anew in each process, and its text is none of a log's business.
    ids=lambda changed: ascii(changed)[:36],
)
def test_unsafe_settings_are_refused(changed: dict[str, Any]) -> None:
    """When it is built, before any token comes."""
    with pytest.raises(ConfigurationError) as caught:
        believing(**changed)
    assert "PRIVATE" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_without_its_extra_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The package of the module's own name is another one."""
    monkeypatch.delitem(sys.modules, "faregate.asgi.identity.jwt")
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ModuleNotFoundError) as refused:
        importlib.import_module("faregate.asgi.identity.jwt")
    assert refused.value.__notes__ == ["pip install 'faregate[jwt]'"]
