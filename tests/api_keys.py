"""What the tests of API keys share: keys in memory that fail as told, and requests with a key."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.types import Scope

from asgi_client import USER, http_scope
from clocks import Seconds
from faregate.asgi.identity import ApiKeyIdentity
from faregate.domain.api_key import NewApiKey, StoredApiKey
from memory_api_keys import MemoryApiKeys

LIFETIME_S = 30.0
OUTAGE_S = 300.0
NOW = datetime.now(UTC)


class FragileApiKeys(MemoryApiKeys):
    """Keys in memory that fail as they are told to, and count what they are asked."""

    def __init__(self) -> None:
        super().__init__([USER])
        self.lookups: list[UUID] = []
        self.notes: list[Mapping[UUID, datetime]] = []
        self.error: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.is_closed = False

    async def find(self, key_id: UUID) -> StoredApiKey | None:
        self.lookups.append(key_id)
        await self.answers.wait()
        if self.error:
            raise self.error
        return await super().find(key_id)

    async def note_uses(self, used_at: Mapping[UUID, datetime]) -> None:
        self.notes.append(used_at)
        await self.answers.wait()
        if self.error:
            raise self.error
        await super().note_uses(used_at)

    async def aclose(self) -> None:
        self.is_closed = True

    def made(self, name: str = "a key", now: datetime = NOW, **more: Any) -> NewApiKey:
        """Make a key of the user, and store it."""
        new = NewApiKey.mint(USER, name, now=now, **more)
        self.create(new)
        return new


def identity(keys: FragileApiKeys, clock: Seconds, **more: Any) -> ApiKeyIdentity:
    """The identity under test. Uses are written at its end, unless a test says otherwise."""
    given = {"lifetime_s": LIFETIME_S, "outage_s": OUTAGE_S, "use_interval_s": 600.0}
    return ApiKeyIdentity(keys, clock=clock, **(given | more))


def bearing(text: str) -> Scope:
    """A request with a key."""
    return http_scope(headers=[(b"authorization", b"Bearer " + text.encode())])


def unknown() -> str:
    """A key as we write them, which was never made."""
    return NewApiKey.mint(USER, "x", now=NOW).text


def with_wrong_secret(new: NewApiKey) -> str:
    """The key with another secret."""
    return f"fg_{new.key.id.hex}_{'0' * 64}"
