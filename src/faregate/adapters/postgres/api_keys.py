"""API keys in Postgres: looked up by requests, made and revoked by operators."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from psycopg import errors
from psycopg.rows import DictRow, dict_row

from faregate.adapters.postgres.connection import Bounds, Connector, migrated, owned, unavailable
from faregate.adapters.postgres.pool import Pool
from faregate.adapters.postgres.queries import statement
from faregate.domain.api_key import ApiKey, NewApiKey, StoredApiKey
from faregate.domain.errors import InvalidArgumentError

_FILE: Final = "api_keys.sql"
_BOUNDS: Final = Bounds(statement_ms_max=10_000, lock_ms_max=5_000)


class PostgresApiKeys:
    """The port `ApiKeys`. Belongs to the event loop in which it is first used.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time, and
    `ConfigurationError` where it has not been migrated.
    """

    def __init__(self, conninfo: str) -> None:
        self._pool = Pool(conninfo)

    async def find(self, key_id: UUID) -> StoredApiKey | None:
        """Return a key, even an expired or revoked one."""
        row = await self._pool.row("find_api_key", {"id": key_id}, file=_FILE)
        if row is None:
            return None
        secret_hash = bytes(row.pop("secret_hash"))
        return StoredApiKey(key=_api_key(row), secret_hash=secret_hash)

    async def note_uses(self, used_at: Mapping[UUID, datetime]) -> None:
        """Note when keys were last used; deleted ones are ignored."""
        parameters = {"ids": list(used_at), "used_at": list(used_at.values())}
        await self._pool.row("note_api_key_uses", parameters, file=_FILE)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class PostgresApiKeyAdmin:
    """The port `ApiKeyAdmin`, in the role that ran the migrations. For one thread.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time, and
    `ConfigurationError` where it has not been migrated or the role may not do this.
    """

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(conninfo, "faregate admin", _BOUNDS)

    def create(self, new: NewApiKey) -> None:
        """Store a new key.

        Raises:
            InvalidArgumentError: There is no such user.
        """
        key = new.key
        parameters = {
            "id": key.id,
            "user_id": key.user_id,
            "name": key.name,
            "tier": key.tier,
            "secret_hash": new.secret_hash,
            "created_at": key.created_at,
            "expires_at": key.expires_at,
        }
        self._rows("create_api_key", parameters)

    def keys(self, user_id: UUID | None, after: UUID | None, count_max: int) -> Sequence[ApiKey]:
        """Return the next keys by id."""
        parameters = {"user_id": user_id, "after": after, "count_max": count_max}
        return [_api_key(row) for row in self._rows("list_api_keys", parameters)]

    def revoke(self, key_id: UUID) -> ApiKey | None:
        """Revoke a key for good, and return it; None if there is no such key."""
        rows = self._rows("revoke_api_key", {"id": key_id})
        return _api_key(rows[0]) if rows else None

    def _rows(self, name: str, parameters: Mapping[str, object]) -> list[DictRow]:
        with unavailable(name.replace("_", " ")), migrated(), owned("manage API keys"):
            try:
                with self._connector.transaction() as connection:
                    cursor = connection.cursor(row_factory=dict_row)
                    cursor.execute(statement(name, _FILE), parameters)
                    return cursor.fetchall() if cursor.description else []
            except errors.ForeignKeyViolation as error:
                message = f"there is no user {parameters['user_id']}"
                raise InvalidArgumentError(message) from error

    def close(self) -> None:
        """Close the connection; the next query opens another."""
        self._connector.close()


def _api_key(row: Mapping[str, Any]) -> ApiKey:
    """Make a key of a row, with times in UTC."""
    times = {name: time.astimezone(UTC) for name, time in row.items() if isinstance(time, datetime)}
    return ApiKey(**{**row, **times})
