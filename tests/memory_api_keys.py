"""API keys in plain dicts, for requests and operators alike: as Postgres keeps them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from faregate.domain.api_key import ApiKey, NewApiKey, StoredApiKey
from faregate.domain.errors import InvalidArgumentError


class MemoryApiKeys:
    """The ports `ApiKeys` and `ApiKeyAdmin`, for the users that are given."""

    def __init__(self, users: Collection[UUID]) -> None:
        self._users = users
        self._stored: dict[UUID, StoredApiKey] = {}

    async def find(self, key_id: UUID) -> StoredApiKey | None:
        """Return a key, be it in force or not."""
        return self._stored.get(key_id)

    async def note_uses(self, used_at: Mapping[UUID, datetime]) -> None:
        """Note when keys were last used."""
        for key_id in used_at.keys() & self._stored.keys():
            stored = self._stored[key_id]
            known = stored.key.last_used_at or used_at[key_id]
            key = replace(stored.key, last_used_at=max(known, used_at[key_id]))
            self._stored[key_id] = replace(stored, key=key)

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    def create(self, new: NewApiKey) -> None:
        """Store a new key."""
        if new.key.user_id not in self._users:
            raise InvalidArgumentError(f"there is no user {new.key.user_id}")
        self._stored[new.key.id] = StoredApiKey(key=new.key, secret_hash=new.secret_hash)

    def keys(self, user_id: UUID | None, after: UUID | None, count_max: int) -> Sequence[ApiKey]:
        """Return the next keys by id."""
        found = [self._stored[key_id].key for key_id in sorted(self._stored)]
        return [
            key
            for key in found
            if user_id in {None, key.user_id} and (after is None or key.id > after)
        ][:count_max]

    def revoke(self, key_id: UUID) -> ApiKey | None:
        """Put a key out of force for good, and return it; None if there is no such key."""
        stored = self._stored.get(key_id)
        if stored is None:
            return None
        key = replace(stored.key, revoked_at=stored.key.revoked_at or datetime.now(UTC))
        self._stored[key_id] = replace(stored, key=key)
        return key
