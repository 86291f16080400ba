"""The public keys of an issuer, from the URL where it publishes them (JWKS, RFC 7517).

They are fetched in a thread, one fetch at a time, and never more often than once in `pause_s`,
whatever tokens name: a forged key id costs the issuer nothing. Keys that are older than `refresh_s`
are fetched anew beside the requests, which go on with those there are; when they are `lifetime_s`
old, they count no more. So a key that the issuer has withdrawn is good for that long at most, and
an issuer that does not answer for `lifetime_s - refresh_s` is not even noticed.
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

#: How long the document of an issuer may be, in bytes. That of a large one has some 10,000.
DOCUMENT_BYTES_MAX = 262_144

#: The signatures that a public key proves.
ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)

#: Keys by their id, which may be missing, and by the algorithm that each is for.
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
        """Remember where the keys are; they are fetched by the first token.

        Args:
            url: `https://...`; `http://` for this machine alone.
            refresh_s: How old keys may be before they are fetched anew, in seconds.
            lifetime_s: How old they may be and still count, in seconds.
            pause_s: From one fetch to the next at least, in seconds. So long a token with a key
                that is new may be refused.
            timeout_s: How long a request waits for the issuer, in seconds.
            clock: Tells a time in seconds that never goes back.

        Raises:
            ConfigurationError: The URL is not safe, or the times contradict each other.
        """
        _check_url(url)
        if not 0 < pause_s <= refresh_s <= lifetime_s or timeout_s <= 0:
            raise ConfigurationError("keys are kept by 0 < pause_s <= refresh_s <= lifetime_s")
        self._url = url
        self._refresh_s = refresh_s
        self._lifetime_s = lifetime_s
        self._pause_s = pause_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._keys: Keys = {}
        self._fetched_at_s: float | None = None
        self._tried_at_s: float | None = None
        #: Whether the last fetch that ended brought keys.
        self._succeeded = False
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key that a token names, or None if the issuer has no such key.

        Raises:
            IdentityUnavailableError: The issuer does not answer, and what is known of its keys does
                not tell.
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
        """Wait until the keys are as of now, or of the last pause.

        Raises:
            IdentityUnavailableError: They are not.
        """
        fetching = self._fetch()
        if fetching is not None:
            # A caller that is cancelled, or tired of waiting, does not end what others wait for.
            await asyncio.wait([fetching], timeout=self._timeout_s)
        if not self._succeeded or (fetching is not None and not fetching.done()):
            raise IdentityUnavailableError("the keys of the issuer of tokens cannot be fetched")

    def _fetch(self) -> asyncio.Task[None] | None:
        """Return the fetch that is under way, or begin one unless it is too early."""
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
    """Fetch the keys at a URL, without following it to another one.

    Raises:
        OSError: There was no answer in time, or it was no success.
        HTTPException: The answer was no HTTP.
        ValueError: It held no key that can be used.
    """
    ends_at_s = time.monotonic() + timeout_s
    body = b""
    # Some issuers refuse who does not say what it is, and what Python says by itself.
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
        # The error is a response, too, and holds the connection.
        error.close()
        raise
    return response


def read_jwks(body: bytes) -> Keys:
    """Read a set of keys; those that are not for signatures, or not understood, are left out.

    Raises:
        ValueError: None is left.
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
                # The entry is of another kind than this algorithm needs.
                continue


class _NoRedirects(HTTPRedirectHandler):
    """The address was given; where it points to was not."""

    def redirect_request(self, *_arguments: object) -> None:
        """Follow nothing: the answer is an error."""


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
