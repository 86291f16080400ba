"""The document of an issuer: which keys in it are used, and from where it may come."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from clocks import Seconds
from faregate.asgi.identity import Caller
from faregate.asgi.identity.jwks import DOCUMENT_BYTES_MAX
from faregate.asgi.identity.jwt import JwksKeys, JwtIdentity
from faregate.domain.errors import ConfigurationError, IdentityUnavailableError
from jwks_server import JwksServer, believing_published, with_key
from tokens import AUDIENCE, ISSUER, SUBJECT, jwk, private_key


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


def weak_key() -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=1_024).public_key()  # noqa: S505
    return RSAAlgorithm.to_jwk(key, as_dict=True) | {"kid": "a"}


def private_jwk() -> dict[str, Any]:
    key = private_key("RS256")
    assert isinstance(key, rsa.RSAPrivateKey)
    return RSAAlgorithm.to_jwk(key, as_dict=True) | {"kid": "a", "key_ops": ["verify"]}


UNUSABLE: dict[str, Any] = {
    "for encryption": jwk("RS256", "a", use="enc"),
    "for another operation": jwk("RS256", "a", key_ops=["encrypt"]),
    "for no operation": jwk("RS256", "a", key_ops=None),
    "for an unknown algorithm": jwk("RS256", "a", alg="RSA-OAEP"),
    "for none": jwk("RS256", "a", alg="none"),
    "for a secret's algorithm": jwk("RS256", "a", alg="HS256"),
    "an id that is no text": jwk("RS256", "a", kid=7),
    "an id that is an object": jwk("RS256", "a", kid={}),
    "a number that is a number": jwk("RS256", "a", n=5),
    "a number that is none": jwk("RS256", "a", n="!"),
    "a secret": {"kty": "oct", "kid": "a", "k": "c2VjcmV0" * 8},
    "a secret in disguise": {"kty": "oct", "kid": "a", "k": "c2VjcmV0" * 8, "alg": "RS256"},
    "nothing but an id": {"kid": "a"},
    "too short": weak_key(),
    "private": private_jwk(),
    "a text": "a",
    "null": None,
}


@pytest.mark.parametrize("name", UNUSABLE)
async def test_a_key_that_is_not_for_signatures_is_left_out(
    issuer: JwksServer, clock: Seconds, name: str
) -> None:
    """The others of the set are used."""
    issuer.body = json.dumps({"keys": [UNUSABLE[name], jwk("ES256", "b")]}).encode()
    identify = believing_published(issuer, clock)
    assert await identify(with_key("a")) is None
    assert await identify(with_key("b", "ES256")) == Caller(user_id=SUBJECT)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (404, None, {}),
        (204, b"", {}),
        (302, None, {"Location": "/elsewhere"}),
        (200, b"", {}),
        (200, b"<html>", {}),
        (200, b"\xff\xfe", {}),
        (200, b"[]", {}),
        (200, b"{}", {}),
        (200, b'{"keys": 7}', {}),
        (200, b'{"keys": []}', {}),
        (200, b'{"keys": {"kty": "RSA"}}', {}),
        (200, b"[" * 100_000, {}),
        (200, b" " * DOCUMENT_BYTES_MAX + json.dumps({"keys": [jwk("RS256", "a")]}).encode(), {}),
    ],
    ids=lambda value: ascii(value)[:30],
)
async def test_an_answer_without_keys_is_an_outage(
    issuer: JwksServer, clock: Seconds, status: int, body: bytes | None, headers: dict[str, str]
) -> None:
    """A redirect, too: only the address that was given is asked."""
    issuer.status, issuer.headers = status, headers
    issuer.body = issuer.body if body is None else body
    with pytest.raises(IdentityUnavailableError):
        await believing_published(issuer, clock)(with_key())
    assert issuer.paths == ["/jwks.json"]


async def test_an_address_without_a_server_is_an_outage(clock: Seconds) -> None:
    """Its server was there a moment ago."""
    server = JwksServer()
    with server.running():
        pass
    with pytest.raises(IdentityUnavailableError):
        await believing_published(server, clock)(with_key())


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example.org/jwks.json",
        "http://127.0.0.1.example.org/",
        "http://",
        "https://",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "jwks.json",
        "",
    ],
)
def test_keys_come_only_from_a_safe_url(url: str) -> None:
    """Over TLS, or from this machine."""
    with pytest.raises(ConfigurationError):
        JwksKeys(url)


def test_a_secret_is_not_published() -> None:
    """A set of keys never proves an HMAC."""
    keys = JwksKeys("https://issuer.example.org/jwks.json")
    with pytest.raises(ConfigurationError, match="secret"):
        JwtIdentity(keys, issuer=ISSUER, audience=AUDIENCE, algorithms=["HS256"])


@pytest.mark.parametrize(
    "times",
    [
        {"refresh_s": 1_000.0},
        {"pause_s": 0.0},
        {"pause_s": 400.0},
        {"timeout_s": 0.0},
    ],
    ids=str,
)
def test_times_that_contradict_each_other_are_refused(times: dict[str, Any]) -> None:
    """Keys would be asked for without end, or not before they are too old."""
    with pytest.raises(ConfigurationError):
        JwksKeys("https://issuer.example.org/jwks.json", **times)
