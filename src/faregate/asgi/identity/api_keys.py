"""Callers by API key (see `domain.api_key`), looked up in Postgres and cached.

A revoked key counts for at most `lifetime_s` more. While Postgres does not answer, cached keys
count for another `outage_s`, since nobody can revoke them meanwhile either; a key that is not
cached gives a 503.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from starlette.types import Scope

from faregate.asgi.identity.caller import Caller, credential
from faregate.domain.api_key import PresentedApiKey, StoredApiKey
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    FaregateError,
    IdentityUnavailableError,
)
from faregate.ports import ApiKeys

#: The most keys that are looked up at once; fewer than may wait for a connection.
LOOKUPS_MAX = 128
#: How long a request waits for a lookup, in seconds.
LOOKUP_S_MAX = 2.0
#: The pause after Postgres did not answer, in seconds.
UNREACHABLE_S = 1.0

_log = logging.getLogger(__name__)


class ApiKeyIdentity:
    """An identity function: returns the user of a valid API key, or None.

    The caller's `limit_key` is the id of the key, so limits by key count each key separately.
    """

    def __init__(
        self,
        api_keys: ApiKeys,
        *,
        field: str = "authorization",
        lifetime_s: float = 30.0,
        outage_s: float = 300.0,
        use_interval_s: float = 60.0,
        keys_max: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Configure lookups; the first request makes the first one.

        Args:
            api_keys: The store of keys; see `faregate.build_api_keys`.
            field: The field with the key: `authorization`, after Bearer, or one of its own, such as
                `x-api-key`.
            lifetime_s: How long a key is cached, in seconds.
            outage_s: How much longer it counts while Postgres does not answer, in seconds.
            use_interval_s: The interval in which last uses are written, in seconds: once for each
                key.
            keys_max: The most keys in the cache.
            clock: A monotonic clock in seconds.

        Raises:
            ConfigurationError: A time or a number is out of range.
        """
        if lifetime_s <= 0 or outage_s < 0 or use_interval_s <= 0 or keys_max < 1:
            raise ConfigurationError("times are positive, and at least one key is remembered")
        self._api_keys = api_keys
        self._field = field.lower().encode()
        self._found = _ApiKeyLookups(api_keys, lifetime_s, outage_s, keys_max, clock)
        self._uses = _ApiKeyUses(api_keys, use_interval_s, keys_max)

    async def __call__(self, scope: Scope) -> Caller | None:
        """Return the caller of a request, or None without a valid key.

        Raises:
            IdentityUnavailableError: The key cannot be looked up now.
        """
        text = credential(scope, self._field)
        presented = PresentedApiKey.parse(text) if text else None
        if presented is None:
            return None
        stored = await self._found.get(presented.id)
        now = datetime.now(UTC)
        key = presented.unlock(stored, now)
        if key is None:
            return None
        self._uses.note(key.id, now)
        return Caller(user_id=key.user_id, tier=key.tier, limit_key=key.id.hex)

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Close at the end of the lifespan of an ASGI app."""
        try:
            yield
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Write the last uses, and close all connections."""
        await self._uses.aclose()
        await self._api_keys.aclose()


@dataclass(frozen=True, slots=True)
class _Known:
    """The result of the last lookup of an id."""

    stored: StoredApiKey | None
    at_s: float


class _ApiKeyLookups:
    """Looks keys up, each once for all requests that wait for it, and caches the results.

    Unknown ids have a cache of their own, so that made-up ids evict no real key.
    """

    def __init__(
        self,
        api_keys: ApiKeys,
        lifetime_s: float,
        outage_s: float,
        keys_max: int,
        clock: Callable[[], float],
    ) -> None:
        self._api_keys = api_keys
        self._lifetime_s = lifetime_s
        self._outage_s = outage_s
        self._keys_max = keys_max
        self._clock = clock
        self._existing: OrderedDict[UUID, _Known] = OrderedDict()
        self._missing: OrderedDict[UUID, _Known] = OrderedDict()
        self._asking: dict[UUID, asyncio.Task[None]] = {}
        self._unreachable_until_s = clock()

    async def get(self, key_id: UUID) -> StoredApiKey | None:
        """Return a key that is at most `lifetime_s` old, or None if it does not exist.

        Raises:
            IdentityUnavailableError: It cannot be looked up now.
        """
        known = self._known(key_id, self._lifetime_s)
        if known is None:
            await self._ask(key_id)
            # Only an outage makes older keys count. Otherwise a client that floods the API with
            # keys could go on with a revoked one.
            outage_s = self._outage_s if self._is_unreachable() else 0
            known = self._known(key_id, self._lifetime_s + outage_s)
        if known is None:
            raise IdentityUnavailableError("API keys cannot be looked up right now")
        return known.stored

    def _known(self, key_id: UUID, age_s_max: float) -> _Known | None:
        known = self._existing.get(key_id) or self._missing.get(key_id)
        return known if known is not None and self._clock() < known.at_s + age_s_max else None

    def _is_unreachable(self) -> bool:
        return self._clock() < self._unreachable_until_s

    async def _ask(self, key_id: UUID) -> None:
        """Look a key up, unless Postgres is known not to answer, and wait for a bounded time."""
        asking = self._asking.get(key_id)
        if asking is None:
            # Lookups of made-up ids do not block the lookup of a known key.
            is_saturated = len(self._asking) >= LOOKUPS_MAX and key_id not in self._existing
            if self._is_unreachable() or is_saturated:
                return
            asking = asyncio.get_running_loop().create_task(self._look_up(key_id))
            self._asking[key_id] = asking
        # Other requests may wait for the same lookup, so it outlives this request.
        await asyncio.wait([asking], timeout=LOOKUP_S_MAX)
        if asking.done():
            asking.result()
        else:
            self._unreachable_until_s = self._clock() + UNREACHABLE_S

    async def _look_up(self, key_id: UUID) -> None:
        now_s = self._clock()
        try:
            stored = await self._api_keys.find(key_id)
        except ArchiveUnavailableError as error:
            self._unreachable_until_s = self._clock() + UNREACHABLE_S
            _log.warning("API key lookup failed: %s", error)
            return
        finally:
            del self._asking[key_id]
        self._existing.pop(key_id, None)
        self._missing.pop(key_id, None)
        known = self._missing if stored is None else self._existing
        while len(known) >= self._keys_max:
            known.popitem(last=False)
        known[key_id] = _Known(stored, now_s)


class _ApiKeyUses:
    """Collects uses, and writes them `interval_s` after the first unwritten one."""

    def __init__(self, api_keys: ApiKeys, interval_s: float, keys_max: int) -> None:
        self._api_keys = api_keys
        self._interval_s = interval_s
        self._keys_max = keys_max
        self._used_at: dict[UUID, datetime] = {}
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def note(self, key_id: UUID, now: datetime) -> None:
        """Note the use of a key."""
        if key_id not in self._used_at and len(self._used_at) >= self._keys_max:
            # The next use is noted instead. Uses are for people to read, and decide nothing.
            return
        self._used_at[key_id] = now
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def _write_later(self) -> None:
        """Write after each interval, until all uses are written."""
        try:
            while self._used_at:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), self._interval_s)
                await self._write()
                if self._closing.is_set():
                    return
        finally:
            self._writing = None

    async def _write(self) -> None:
        used_at, self._used_at = self._used_at, {}
        try:
            await self._api_keys.note_uses(used_at)
        except FaregateError as error:
            _log.warning("API key uses not written: keys=%d: %s", len(used_at), error)
            self._used_at = used_at | self._used_at

    async def aclose(self) -> None:
        """Write the remaining uses, once."""
        self._closing.set()
        if self._writing is not None:
            await asyncio.wait([self._writing])
