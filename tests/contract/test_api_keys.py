"""Postgres keeps API keys as the plain dicts do that stand for it in other tests."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from durable import Database, as_role, database
from faregate.adapters.postgres.api_keys import PostgresApiKeyAdmin, PostgresApiKeys
from faregate.domain.api_key import NewApiKey, StoredApiKey
from faregate.domain.errors import InvalidArgumentError
from faregate.ports import ApiKeyAdmin, ApiKeys
from memory_api_keys import MemoryApiKeys

pytestmark = pytest.mark.postgres

NOW = datetime.now(UTC)


@dataclass
class Kept:
    """One implementation of both ports, and two users that exist."""

    keys: ApiKeys
    admin: ApiKeyAdmin
    users: list[UUID]

    def made(self, user_id: UUID, name: str = "a key", **more: datetime) -> NewApiKey:
        """Make a key, and store it."""
        new = NewApiKey.mint(user_id, name, **({"now": NOW} | more), tier="paid")
        self.admin.create(new)
        return new


@pytest.fixture(params=["memory", "postgres"])
async def kept(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Kept]:
    """The ports under test; requests ask Postgres in the API's role."""
    if request.param == "memory":
        users = [uuid4(), uuid4()]
        memory = MemoryApiKeys(users)
        yield Kept(memory, memory, users)
        return
    keys = PostgresApiKeys(as_role(database_url, "faregate_api"))
    admin = PostgresApiKeyAdmin(database_url)
    with database(database_url) as tables:
        yield Kept(keys, admin, [history.user_id for history in tables.users(2)])
    admin.close()
    await keys.aclose()


async def test_a_key_is_found_as_it_was_made(kept: Kept) -> None:
    """With all that is known of it, and the hash of its secret; times are in UTC."""
    new = kept.made(kept.users[0], expires_at=NOW + timedelta(days=1))
    found = await kept.keys.find(new.key.id)
    assert found == StoredApiKey(key=new.key, secret_hash=new.secret_hash)
    assert found.key.created_at.tzinfo == UTC
    assert await kept.keys.find(uuid4()) is None


async def test_a_key_needs_a_user_that_exists(kept: Kept) -> None:
    """Nothing is stored."""
    stranger = uuid4()
    with pytest.raises(InvalidArgumentError, match=f"no user {stranger}"):
        kept.made(stranger)
    assert list(kept.admin.keys(None, None, 10)) == []


async def test_a_revocation_is_for_good_and_as_of_the_first_time(kept: Kept) -> None:
    """The key is still found, and told to be out of force."""
    new, other = kept.made(kept.users[0]), kept.made(kept.users[0])
    revoked = kept.admin.revoke(new.key.id)
    assert revoked is not None
    assert revoked.revoked_at is not None
    assert not revoked.is_in_force(NOW)
    assert kept.admin.revoke(new.key.id) == revoked
    found = await kept.keys.find(new.key.id)
    assert found is not None
    assert found.key == revoked
    assert kept.admin.revoke(uuid4()) is None
    untouched = await kept.keys.find(other.key.id)
    assert untouched is not None
    assert untouched.key == other.key


async def test_keys_are_listed_in_the_order_in_which_they_were_made(kept: Kept) -> None:
    """A user's, or everybody's; page by page nobody is left out."""
    made = [
        kept.made(kept.users[number % 2], f"key {number}", now=NOW + timedelta(seconds=number)).key
        for number in range(5)
    ]
    assert list(kept.admin.keys(None, None, 10)) == made
    assert list(kept.admin.keys(kept.users[1], None, 10)) == made[1::2]
    assert list(kept.admin.keys(None, None, 2)) == made[:2]
    assert list(kept.admin.keys(None, made[1].id, 2)) == made[2:4]
    assert list(kept.admin.keys(kept.users[0], made[0].id, 2)) == made[2::2]
    assert list(kept.admin.keys(None, made[-1].id, 2)) == []


async def test_the_latest_use_stands(kept: Kept) -> None:
    """Processes note theirs in any order; keys that are gone are passed over."""
    one, other = kept.made(kept.users[0]).key, kept.made(kept.users[1]).key
    early, late = NOW + timedelta(minutes=1), NOW + timedelta(minutes=2)
    await kept.keys.note_uses({one.id: late, uuid4(): late})
    await kept.keys.note_uses({one.id: early, other.id: early})
    await kept.keys.note_uses({})
    used = {key.id: key.last_used_at for key in kept.admin.keys(None, None, 10)}
    assert used == {one.id: late, other.id: early}


async def test_a_key_goes_with_its_user(database_url: str) -> None:
    """Only a database can delete a user, and all that is the user's goes at once."""
    keys, admin = PostgresApiKeys(database_url), PostgresApiKeyAdmin(database_url)
    with database(database_url) as tables:
        kept = Kept(keys, admin, [history.user_id for history in tables.users(2)])
        gone, stays = (kept.made(user_id) for user_id in kept.users)
        _delete(tables, kept.users[0])
    assert await keys.find(gone.key.id) is None
    assert [key.id for key in admin.keys(None, None, 10)] == [stays.key.id]
    admin.close()
    await keys.aclose()


def _delete(tables: Database, user_id: UUID) -> None:
    tables.run("delete from auth.users where id = %s", user_id)
