"""Callers by JSON Web Token (RFC 7519): signed by an issuer, `Authorization: Bearer ...`.

Needs `pip install 'faregate[jwt]'`. The response does not say why a token is refused.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

try:
    import jwt
except ModuleNotFoundError as error:
    # The package named `jwt` is another one.
    error.add_note("pip install 'faregate[jwt]'")
    raise
from jwt.algorithms import get_default_algorithms
from starlette.types import Scope

from faregate.asgi.identity.caller import Caller, credential, user_id_from
from faregate.asgi.identity.jwks import ASYMMETRIC, JwksKeys
from faregate.domain.errors import ConfigurationError

__all__ = ["JwksKeys", "JwtIdentity"]

#: The algorithms of shared secrets.
SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})

LEEWAY_S_MAX = 300.0
#: The longest name of a tier, in characters.
_TIER_LENGTH_MAX = 100


class JwtIdentity:
    """An identity function: returns the user of a valid token, or None."""

    def __init__(
        self,
        keys: str | bytes | JwksKeys,
        *,
        issuer: str | Sequence[str],
        audience: str | Sequence[str] | None,
        algorithms: Collection[str],
        namespace: UUID | None = None,
        tier_claim: str | Sequence[str] = (),
        leeway_s: float = 10.0,
    ) -> None:
        """Configure which tokens are valid. Each must have a subject and an expiry.

        Args:
            keys: A public key (PEM), a secret, or the `JwksKeys` of an issuer.
            issuer: The `iss` that a token must have.
            audience: The `aud` that a token must have. None accepts only tokens without an
                audience.
            algorithms: The accepted signature algorithms, such as `["RS256"]`.
            namespace: Maps subjects that are no UUID to users. Without it, such a token has no
                user.
            tier_claim: The name of the claim with the tier, or its path, such as `("app_metadata",
                "tier")`. Only the issuer may be able to write it.
            leeway_s: The largest difference of clocks, in seconds.

        Raises:
            ConfigurationError: The settings would accept unsafe tokens.
        """
        self._algorithms = _check_algorithms(algorithms)
        self._published = keys if isinstance(keys, JwksKeys) else None
        #: By algorithm: the one key of all tokens, whose key ids are ignored.
        self._prepared: Mapping[str, Any] = {}
        if not isinstance(keys, JwksKeys):
            self._prepared = {name: _prepare(keys, name) for name in self._algorithms}
        elif SYMMETRIC & self._algorithms:
            raise ConfigurationError("a secret cannot be published: HS256 and the like need a key")
        if not issuer or audience in ("", [], ()):
            raise ConfigurationError("an issuer and an audience are needed")
        if not 0 <= leeway_s <= LEEWAY_S_MAX:
            raise ConfigurationError(f"leeway_s must lie between 0 and {LEEWAY_S_MAX:.0f}")
        self._issuer = issuer
        self._audience = audience
        self._namespace = namespace
        self._tier_path = (tier_claim,) if isinstance(tier_claim, str) else tuple(tier_claim)
        self._leeway_s = leeway_s

    async def __call__(self, scope: Scope) -> Caller | None:
        """Return the caller of a request, or None without a valid token.

        Raises:
            IdentityUnavailableError: The keys of the issuer cannot be fetched now.
        """
        token = credential(scope, b"authorization")
        try:
            claims = await self._claims(token) if token else None
        except (jwt.PyJWTError, ValueError):
            return None
        user_id = user_id_from(claims["sub"], self._namespace) if claims else None
        if claims is None or user_id is None:
            return None
        return Caller(user_id=user_id, tier=self._tier(claims))

    async def _claims(self, token: str) -> Mapping[str, Any] | None:
        """Return the claims of a token, or None if it is not valid."""
        # The claims are read later, after the key is known.
        header = jwt.get_unverified_header(f"{token.partition('.')[0]}..")
        # Only the key id and the algorithm, which must be an accepted one, are read from the
        # header. Keys and key URLs in a token are ignored.
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            return None
        secret = self._prepared.get(algorithm)
        if self._published is not None:
            secret = await self._published.key(key_id, algorithm)
        if secret is None:
            return None
        return jwt.decode(
            token,
            secret,
            algorithms=[algorithm],
            issuer=self._issuer,
            audience=self._audience,
            leeway=self._leeway_s,
            options={"require": ["exp", "sub"]},
        )

    def _tier(self, claims: Mapping[str, Any]) -> str | None:
        found: object = claims
        for name in self._tier_path:
            found = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(found, str) and 0 < len(found) <= _TIER_LENGTH_MAX:
            return found
        return None


def _check_algorithms(algorithms: Collection[str]) -> frozenset[str]:
    if isinstance(algorithms, str):
        raise ConfigurationError(f"algorithms must be a list, such as [{algorithms!r}]")
    names = frozenset(algorithms)
    unknown = names - SYMMETRIC - ASYMMETRIC
    if not names or unknown:
        shown = ", ".join(sorted(map(repr, unknown))) or "none at all"
        known = ", ".join(sorted(SYMMETRIC | ASYMMETRIC))
        raise ConfigurationError(f"algorithms must be among {known}; not {shown}")
    if names & SYMMETRIC and names & ASYMMETRIC:
        # Otherwise anybody could use the public key as the secret of an HMAC.
        raise ConfigurationError(
            "signatures by secret and by public key cannot be mixed: choose one kind of algorithm"
        )
    return names


def _prepare(secret: str | bytes, name: str) -> Any:
    algorithm = get_default_algorithms()[name]
    try:
        prepared = algorithm.prepare_key(secret)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise ConfigurationError(f"this is not a key for {name}") from error
    if hasattr(prepared, "private_bytes"):
        raise ConfigurationError("this is a private key: tokens are checked with the public one")
    too_short = algorithm.check_key_length(prepared)
    if too_short is not None:
        raise ConfigurationError(too_short)
    return prepared
