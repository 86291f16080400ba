"""The public keys of an issuer, from the URL where it publishes them (JWKS, RFC 7517).

They are fetched in a thread, one fetch at a time, at most once in `pause_s`. So forged key ids do
not flood the issuer. Keys older than `refresh_s` are fetched again in the background, while
requests use the old ones. Keys older than `lifetime_s` do not count. So a key that the issuer
withdrew is valid for at most `lifetime_s`, and an outage of the issuer of up to `lifetime_s -
refresh_s` has no effect.
"""

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException, HTTPResponse
from typing import Any, TypeAlias
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt

from faregate.domain.errors import ConfigurationError, IdentityUnavailableError

#: The largest document of an issuer, in bytes. That of a large issuer has about 10,000.
DOCUMENT_BYTES_MAX = 262_144

#: The algorithms of public keys.
ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)

#: Keys by their id, which may be missing, and by algorithm.
Keys: TypeAlias = Mapping[tuple[str | None, str], jwt.PyJWK]

_CHUNK_BYTES = 16_384

_log = logging.getLogger(__name__)


class JwksKeys:
    """The keys at one URL. Belongs to the event loop in which it is first used."""

    def __init__(
        self,
        url: str,
        *,
        refresh_s: float = 300.0,
        lifetime_s: float = 900.0,
        pause_s: float = 10.0,
        timeout_s: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Configure the fetches; the first token makes the first one.

        Args:
            url: `https://...`; `http://` only for this machine.
            refresh_s: The age at which keys are fetched again, in seconds.
            lifetime_s: The age at which keys do not count any more, in seconds.
            pause_s: The shortest time between two fetches, in seconds. A token with a new key may
                be refused for this long.
            timeout_s: How long a request waits for the issuer, in seconds.
            clock: A monotonic clock in seconds.

        Raises:
            ConfigurationError: The URL is not safe, or the times contradict each other.
        """
        _check_url(url)
        if not 0 < pause_s <= refresh_s <= lifetime_s or timeout_s <= 0:
            raise ConfigurationError("keys need 0 < pause_s <= refresh_s <= lifetime_s")
        self._url = url
        self._refresh_s = refresh_s
        self._lifetime_s = lifetime_s
        self._pause_s = pause_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._keys: Keys = {}
        self._fetched_at_s: float | None = None
        self._tried_at_s: float | None = None
        #: Whether the last completed fetch succeeded.
        self._succeeded = False
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key with an id, or None if the issuer has no such key.

        Raises:
            IdentityUnavailableError: The issuer does not answer, and the cache does not have the
                key.
        """
        if self._age_s() >= self._lifetime_s:
            await self._refresh()
        found = self._keys.get((key_id, algorithm))
        if found is None:
            await self._refresh()
            return self._keys.get((key_id, algorithm))
        if self._age_s() >= self._refresh_s:
            self._fetch()
        return found

    def _age_s(self) -> float:
        return float("inf") if self._fetched_at_s is None else self._clock() - self._fetched_at_s

    async def _refresh(self) -> None:
        """Wait until the keys are fetched again, unless the pause is not over.

        Raises:
            IdentityUnavailableError: The fetch failed.
        """
        fetching = self._fetch()
        if fetching is not None:
            # A caller that gives up does not cancel the fetch that others wait for.
            await asyncio.wait([fetching], timeout=self._timeout_s)
        if not self._succeeded or (fetching is not None and not fetching.done()):
            raise IdentityUnavailableError("the keys of the issuer of tokens cannot be fetched")

    def _fetch(self) -> asyncio.Task[None] | None:
        """Return the running fetch, or begin one unless the pause is not over."""
        if self._fetching is None:
            now_s = self._clock()
            if self._tried_at_s is not None and now_s < self._tried_at_s + self._pause_s:
                return None
            self._tried_at_s = now_s
            self._succeeded = False
            self._fetching = asyncio.get_running_loop().create_task(self._replace_keys(now_s))
        return self._fetching

    async def _replace_keys(self, now_s: float) -> None:
        try:
            self._keys = await asyncio.to_thread(fetch_jwks, self._url, self._timeout_s)
            self._fetched_at_s = now_s
            self._succeeded = True
        except (OSError, HTTPException, ValueError) as error:
            _log.warning("JWKS fetch failed: %s: %s", self._url, error)
        finally:
            self._fetching = None


def fetch_jwks(url: str, timeout_s: float) -> Keys:
    """Fetch the keys at a URL, without redirects.

    Raises:
        OSError: There was no response in time, or it was an error.
        HTTPException: The response was no HTTP.
        ValueError: It held no usable key.
    """
    ends_at_s = time.monotonic() + timeout_s
    body = b""
    # Some issuers refuse requests without a User-Agent, or with that of Python.
    request = Request(url, headers={"User-Agent": "faregate", "Accept": "application/json"})  # noqa: S310
    with _open(request, timeout_s) as response:
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > DOCUMENT_BYTES_MAX:
                raise ValueError(f"the document has more than {DOCUMENT_BYTES_MAX} bytes")
            if time.monotonic() > ends_at_s:
                raise TimeoutError("the document does not come to its end")
    return read_jwks(body)


def _open(request: Request, timeout_s: float) -> HTTPResponse:
    try:
        response: HTTPResponse = build_opener(_NoRedirects).open(request, timeout=timeout_s)
    except HTTPError as error:
        # The error is also a response, and holds the connection.
        error.close()
        raise
    return response


def read_jwks(body: bytes) -> Keys:
    """Read a set of keys; keys of other uses and unknown kinds are left out.

    Raises:
        ValueError: No key is left.
    """
    try:
        document = json.loads(body)
    except RecursionError as error:
        raise ValueError("the document nests too deep") from error
    listed = document.get("keys") if isinstance(document, dict) else None
    jwks = [jwk for jwk in listed or () if isinstance(jwk, dict)]
    keys = {place: key for jwk in jwks for place, key in _usable(jwk)}
    if not keys:
        raise ValueError("the document holds no public key that can be used")
    return keys


def _usable(jwk: dict[str, Any]) -> Iterator[tuple[tuple[str | None, str], jwt.PyJWK]]:
    key_id, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    is_private, use = "d" in jwk, jwk.get("use", "sig")
    if is_private or use != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return
    if key_id is not None and not isinstance(key_id, str):
        return
    for algorithm in ASYMMETRIC:
        if jwk.get("alg", algorithm) == algorithm:
            try:
                key = jwt.PyJWK(jwk, algorithm)
                if key.Algorithm.check_key_length(key.key) is None:
                    yield (key_id, algorithm), key
            except jwt.PyJWTError:
                # The key is of another kind than this algorithm needs.
                continue


class _NoRedirects(HTTPRedirectHandler):
    """Refuses redirects: only the configured address is trusted."""

    def redirect_request(self, *_arguments: object) -> None:
        """Return None, so that the redirect is an error."""


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme != "http" or not _is_this_machine(parts.hostname or ""):
        raise ConfigurationError(
            f"keys come from https://... (http://, from this machine alone), not from {url!r}"
        )


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
