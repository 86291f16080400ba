"""Tokens that nobody signed, or that no token is: a 401 each, and never an error."""

import base64
import hashlib
import hmac
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Scope

from asgi_client import World, answers, call
from faregate.asgi.identity import Caller
from tokens import (
    SECRET,
    believing,
    by_hand,
    claims,
    jwk,
    private_key,
    public_pem,
    sign,
    with_authorization,
    with_fields,
    with_token,
)

NAMESPACE = UUID("0c7d5a0e-7c3e-5c53-9d7e-3f6f0f8a8f11")
RSA_PEM = public_pem(private_key("RS256"))


def hmac_token(header: dict[str, Any], payload: dict[str, Any], secret: bytes) -> str:
    """A token with an HMAC by any secret, such as a public key that a library would not take."""
    signed = by_hand(header, payload).rpartition(".")[0]
    digest = hmac.digest(secret, signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def forged() -> dict[str, str]:
    """Tokens that the issuer did not sign, each in another way: made anew, so that none expires."""
    good = sign(claims())
    head, body, signature = good.split(".")
    other = private_key("RS256", 1)
    elsewhere = {"jku": "https://evil.example.org/jwks.json", "x5u": "https://evil.example.org/c"}
    return {
        "no signature, and says so": by_hand({"alg": "none"}, claims()),
        "says so in capitals": by_hand({"alg": "NONE"}, claims()),
        "says nothing of a signature": by_hand({"typ": "JWT"}, claims()),
        "a signature of null": by_hand({"alg": None}, claims()),
        "a list of signatures": by_hand({"alg": ["RS256"]}, claims()),
        "an object as signature": by_hand({"alg": {"RS256": 1}}, claims()),
        "the signature is cut off": f"{head}.{body}.",
        "the signature of another token": f"{head}.{body}.{sign(claims(exp=9)).split('.')[2]}",
        "another subject": f"{head}.{by_hand({}, claims(sub=str(UUID(int=9)))).split('.')[1]}"
        f".{signature}",
        "another key": sign(claims(), key=other),
        "another key, sent along": sign(
            claims(), key=other, headers={"jwk": jwk("RS256", None, 1)}
        ),
        "another key, to be fetched": sign(claims(), key=other, headers=elsewhere),
        "another signature than is allowed": sign(claims(), "RS512", private_key("RS256")),
        "the public key as a secret": hmac_token({"alg": "HS256"}, claims(), RSA_PEM.encode()),
        "an empty secret": hmac_token({"alg": "HS256"}, claims(), b""),
        "a key id that is no text": by_hand({"alg": "RS256", "kid": {"a": 1}}, claims()),
        "an extension that is critical": sign(claims(), headers={"crit": ["exp"], "exp": 1}),
        "a payload that is elsewhere": by_hand(
            {"alg": "RS256", "b64": False, "crit": ["b64"]}, b""
        ),
        "a payload that is no object": by_hand({"alg": "RS256"}, [1]),
        "a header that is no object": by_hand(["RS256"], claims()),
        "a header without an end": by_hand(b"[" * 5_000, claims()),
        "a number without an end": by_hand(b'{"alg": ' + b"9" * 5_000 + b"}", claims()),
        "a header in no encoding": by_hand(b"\xff\xfe", b"\xff"),
    }


@pytest.mark.parametrize("name", forged())
async def test_a_token_that_the_issuer_did_not_sign_is_a_401(name: str) -> None:
    """Over the middleware: no error reaches the server, and nobody is charged."""
    world = World()
    middleware = world.around(answers(200), identify=believing())
    answer = await call(middleware, with_token(forged()[name]))
    assert (answer.error, answer.status) == (None, 401)
    assert not world.ledger.pending


def without_token() -> dict[str, Scope]:
    """Requests that bring no token, and some that bring a good one in the wrong way: made anew."""
    good = sign(claims()).encode()
    return {
        "no field": with_fields([]),
        "an empty field": with_authorization(b""),
        "a scheme alone": with_authorization(b"Bearer"),
        "an empty token": with_authorization(b"Bearer "),
        "another scheme": with_authorization(b"Basic dXNlcjpwYXNz"),
        "a part too few": with_authorization(b"Bearer a.b"),
        "a part too many": with_authorization(b"Bearer a.b.c.d"),
        "no parts": with_authorization(b"Bearer ..."),
        "no ASCII": with_authorization("Bearer é.é.é".encode()),
        "a second line": with_authorization(b"Bearer " + good + b"\r\nx-admin: 1"),
        "a zero at the end": with_authorization(b"Bearer " + good + b"\0"),
        "more behind it": with_authorization(b"Bearer " + good + b" more"),
        "a scheme of its own": with_authorization(b"Token " + good),
        "no scheme": with_authorization(good),
        "two fields": with_authorization(b"Bearer " + good, b"Bearer " + good),
        "another field": with_fields([(b"x-authorization", b"Bearer " + good)]),
    }


@pytest.mark.parametrize("name", without_token())
async def test_a_field_without_a_token_has_no_user(name: str) -> None:
    """Nor one that brings two, of which somebody in between may have read the other."""
    assert await believing()(without_token()[name]) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=2) | st.dictionaries(st.text(max_size=4), children, max_size=2)
    ),
    max_leaves=4,
)
CLAIMS = ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "tier"]


@settings(deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(CLAIMS), json_values), st.sampled_from([(), "tier"]))
async def test_no_signed_token_causes_an_error(said: dict[str, Any], tier_claim: str) -> None:
    """The issuer may write anything; it is the issuer's user or nobody."""
    payload = claims() | said
    token = hmac_token({"alg": "HS256"}, payload, SECRET.encode())
    identify = believing("HS256", namespace=NAMESPACE, tier_claim=tier_claim)
    found = await identify(with_token(token))
    assert found is None or isinstance(found, Caller)


@settings(deadline=None, derandomize=True)
@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk"]), json_values),
    st.binary(max_size=40),
    st.binary(max_size=80),
)
async def test_no_header_causes_an_error(
    header: dict[str, Any], payload: bytes, signature: bytes
) -> None:
    """Anybody may write that, and it is never believed."""
    token = by_hand({"alg": "RS256"} | header, payload, signature)
    assert await believing()(with_token(token)) is None


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=200))
async def test_no_field_causes_an_error(value: bytes) -> None:
    """Bytes that are no token at all."""
    assert await believing()(with_authorization(b"Bearer " + value)) is None
