"""What the tests of tokens share: an issuer with its keys, and requests that carry a token."""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import get_default_algorithms
from starlette.types import Scope

from asgi_client import http_scope
from faregate.asgi.identity.jwt import JwtIdentity

ISSUER = "https://issuer.example.org/"
AUDIENCE = "https://api.example.org/"
SUBJECT = UUID("0190f5a0-0000-7000-8000-000000000001")
#: As long as HS512 needs it.
SECRET = "s" * 64

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def private_key(algorithm: str, number: int = 0) -> PrivateKey:
    """A private key for an algorithm, the same one in the whole session."""
    return _private_key(algorithm, number)


@cache
def _private_key(algorithm: str, _number: int) -> PrivateKey:
    if algorithm[:2] in {"RS", "PS"}:
        return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, ec.EllipticCurve] = {
        "ES256": ec.SECP256R1(),
        "ES384": ec.SECP384R1(),
        "ES512": ec.SECP521R1(),
    }
    return ec.generate_private_key(curves[algorithm])


def public_pem(key: PrivateKey) -> str:
    """The public key as an issuer hands it out."""
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def private_pem(key: PrivateKey) -> str:
    """What the issuer keeps for itself."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def jwk(algorithm: str, key_id: str | None = None, number: int = 0, **more: Any) -> dict[str, Any]:
    """A public key as a set of keys has it."""
    public = private_key(algorithm, number).public_key()
    made = get_default_algorithms()[algorithm].to_jwk(public, as_dict=True)
    made = {name: value for name, value in made.items() if name not in {"use", "alg", "key_ops"}}
    return made | ({} if key_id is None else {"kid": key_id}) | more


def claims(**changed: Any) -> dict[str, Any]:
    """What a good token says; a claim that is changed to None is left out."""
    now_s = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(SUBJECT),
        "iat": now_s,
        "exp": now_s + 600,
    }
    return {name: value for name, value in (good | changed).items() if value is not None}


def sign(
    payload: Mapping[str, Any] | bytes,
    algorithm: str = "RS256",
    key: Any = None,
    headers: Mapping[str, Any] | None = None,
) -> str:
    """Sign what may be anything, with the issuer's key for the algorithm or another one."""
    key = private_key(algorithm) if key is None else key
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return jwt.PyJWS().encode(raw, key, algorithm, dict(headers or {}))


def by_hand(header: object, payload: object, signature: bytes = b"") -> str:
    """Write a token as no library would."""
    parts = [header, payload]
    raw = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in parts]
    return ".".join(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in (*raw, signature))


def with_token(token: str | bytes, scheme: str = "Bearer") -> Scope:
    """The scope of a request that carries a token."""
    return with_authorization(f"{scheme} ".encode() + _bytes(token))


def with_authorization(*values: bytes) -> Scope:
    """The scope of a request with these Authorization fields."""
    return with_fields([(b"authorization", value) for value in values])


def with_fields(fields: Sequence[tuple[bytes, bytes]]) -> Scope:
    """The scope of a request with these fields."""
    return http_scope(headers=fields)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def believing(algorithm: str = "RS256", **changed: Any) -> JwtIdentity:
    """An identity by the tokens of the issuer of these tests."""
    key = SECRET if algorithm.startswith("HS") else public_pem(private_key(algorithm))
    chosen: dict[str, Any] = {
        "keys": key,
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "algorithms": [algorithm],
    }
    return JwtIdentity(**(chosen | changed))
