"""API keys in Postgres: who may see and change them, and the commands that manage them."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from asgi_client import answers, call, http_scope
from durable import Database, as_role
from faregate import Settings, build_api_keys, build_gate
from faregate.adapters.postgres.api_keys import PostgresApiKeyAdmin, PostgresApiKeys
from faregate.adapters.postgres.migration_files import migrations
from faregate.adapters.postgres.migrations import Migrator
from faregate.asgi import FaregateMiddleware
from faregate.asgi.identity import ApiKeyIdentity
from faregate.cli import app as cli
from faregate.domain.api_key import NewApiKey
from faregate.domain.errors import ArchiveUnavailableError, ConfigurationError, MigrationError
from integration.pg_helpers import acting_as, as_project_owner, delete_user, supabase_database
from integration.pg_helpers import sign_up as sign_up_on

pytestmark = pytest.mark.postgres

Run = Callable[..., SimpleNamespace]
NOW = datetime.now(UTC)
MIGRATION = "20261123000100_add_private_schema.sql"


def made(url: str, user_id: UUID) -> NewApiKey:
    """Make a key in a database."""
    new = NewApiKey.mint(user_id, "a key", now=NOW)
    with closing(PostgresApiKeyAdmin(url)) as admin:
        admin.create(new)
    return new


@pytest.fixture(scope="module")
def project(postgres_admin_url: str) -> Iterator[str]:
    """A migrated Supabase project, as superuser."""
    with supabase_database(postgres_admin_url) as url:
        Migrator(as_project_owner(url)).apply()
        yield url


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database_url: str
) -> Run:
    """Runs the command line in this process, on the database of the test."""
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)

    def run_it(*arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["faregate", "keys", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr()
        return SimpleNamespace(code=caught.value.code, out=said.out, err=said.err)

    return run_it


def test_only_the_owner_creates_and_revokes_keys(project: str) -> None:
    """The API's role looks them up and notes uses; the roles of Supabase's API see nothing."""
    with psycopg.connect(project, autocommit=True) as connection:
        user = sign_up_on(connection)
        new = made(as_project_owner(project), user)
        with acting_as(connection, "faregate_api"):
            found = connection.execute("select user_id from faregate.api_keys").fetchall()
            noted = connection.execute("update faregate.api_keys set last_used_at = now()")
        assert (found, noted.rowcount) == ([(user,)], 1)
        outsider = ["select * from faregate.api_keys", "delete from faregate.api_keys"]
        forbidden = {
            "faregate_api": [
                "update faregate.api_keys set revoked_at = null",
                "update faregate.api_keys set user_id = gen_random_uuid()",
                "update faregate.api_keys set secret_hash = sha256('x')",
                "delete from faregate.api_keys",
                "insert into faregate.api_keys (id, user_id, name, secret_hash)"
                " values (gen_random_uuid(), gen_random_uuid(), 'x', sha256('x'))",
            ],
            "faregate_worker": outsider,
            "anon": outsider,
            "authenticated": outsider,
            "service_role": outsider,
        }
        for role, statements in forbidden.items():
            for statement in statements:
                with (
                    pytest.raises(errors.InsufficientPrivilege),
                    acting_as(connection, role, user),
                ):
                    connection.execute(statement.encode())
        delete_user(connection, user)
        left = connection.execute("select from faregate.api_keys where id = %s", [new.key.id])
        assert left.rowcount == 0


def test_a_grant_that_is_made_later_shows_no_row(project: str) -> None:
    """Row level security is on, and no policy is for the roles of Supabase's API."""
    with psycopg.connect(project, autocommit=True) as connection:
        user = sign_up_on(connection)
        made(as_project_owner(project), user)
        with connection.transaction(force_rollback=True):
            connection.execute("grant usage on schema faregate to authenticated")
            connection.execute("grant select on faregate.api_keys to authenticated")
            with acting_as(connection, "authenticated", user):
                assert connection.execute("select * from faregate.api_keys").fetchall() == []


@pytest.mark.parametrize(
    "damage",
    [
        "alter table faregate.api_keys drop column tier",
        "alter table faregate.api_keys alter column user_id drop not null",
        "alter table faregate.api_keys drop constraint api_keys_user_id_fkey",
    ],
)
def test_the_migration_is_repeatable_and_finds_faults(
    database_url: str, tables: Database, damage: str
) -> None:
    """A table of that name that is another one is not taken for ours."""
    (migration,) = (one for one in migrations() if one.name == MIGRATION)
    tables.run("delete from faregate.migrations where name = %s", MIGRATION)
    assert Migrator(database_url).apply() == [migration.name]
    tables.run("delete from faregate.migrations where name = %s", MIGRATION)
    tables.run(damage)
    with pytest.raises(MigrationError, match=MIGRATION):
        Migrator(database_url).apply()


def test_a_role_that_may_not_manage_keys_gets_an_error(database_url: str, tables: Database) -> None:
    """And so is who has not migrated, or whose server is away."""
    user_id = tables.user().user_id
    with pytest.raises(ConfigurationError, match="role"):
        made(as_role(database_url, "faregate_api"), user_id)
    tables.run("drop table faregate.api_keys")
    with pytest.raises(ConfigurationError, match="migrate"):
        made(database_url, user_id)
    with pytest.raises(ArchiveUnavailableError):
        made("host=/nowhere dbname=none", user_id)


async def test_a_server_that_is_away_is_unavailable() -> None:
    """For requests, too."""
    keys = PostgresApiKeys("host=/nowhere dbname=none connect_timeout=2")
    with pytest.raises(ArchiveUnavailableError, match="cannot find api key"):
        await keys.find(uuid4())
    await keys.aclose()


async def test_processes_that_note_the_same_keys_at_once_do_not_block_each_other(
    database_url: str, tables: Database
) -> None:
    """Each has its keys in another order; none ends in a deadlock, and the latest use stands."""
    user_id = tables.user().user_id
    ids = [made(database_url, user_id).key.id for _ in range(200)]
    # So that Postgres looks up row by row, in the order of the question, as in a large table.
    nested = "-c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off"
    url = make_conninfo(database_url, options=nested)
    keys = PostgresApiKeys(as_role(url, "faregate_api"))
    notes = [
        dict.fromkeys(ids[:: 1 if number % 2 else -1], NOW + timedelta(seconds=number))
        for number in range(20)
    ]
    await asyncio.gather(*map(keys.note_uses, notes))
    await keys.aclose()
    used = tables.run("select distinct last_used_at from faregate.api_keys")
    assert used == [{"last_used_at": NOW + timedelta(seconds=19)}]


@pytest.mark.redis
async def test_a_key_that_was_made_by_command_is_charged_until_it_is_revoked(
    run: Run, tables: Database, database_url: str, ledger_redis: str
) -> None:
    """The whole way: made, shown once, served, counted as used, revoked, refused."""
    user_id = tables.user().user_id
    given = run("create", "--user", str(user_id), "--name", "laptop", "--json")
    key = json.loads(given.out)["key"]
    settings = Settings(redis_url=ledger_redis, postgres_url=database_url)
    gate, identify = build_gate(settings), ApiKeyIdentity(build_api_keys(settings))
    middleware = FaregateMiddleware(answers(200), gate, identify)
    headers = [(b"authorization", b"Bearer " + key.encode())]
    assert (await call(middleware, http_scope(headers=headers))).status == 200
    await identify.aclose()
    (listed,) = json.loads(run("list", "--json").out)
    assert listed["last_used_at"] is not None
    assert run("revoke", listed["id"]).code == 0
    identify = ApiKeyIdentity(build_api_keys(settings))
    middleware = FaregateMiddleware(answers(200), gate, identify)
    assert (await call(middleware, http_scope(headers=headers))).status == 401
    balance = await gate.balance(user_id)
    assert balance is not None
    assert balance.credits == 2
    await identify.aclose()
    await gate.aclose()


def test_a_key_is_shown_once_and_its_hash_never(run: Run, tables: Database) -> None:
    """By `create` alone on standard output, so that it can be piped; the rest is for people."""
    user_id = tables.user().user_id
    shown = run("create", "--user", str(user_id), "--name", "ci", "--tier", "paid")
    assert shown.code == 0
    key = shown.out.strip()
    assert "\n" not in key
    assert "once" in shown.err
    (row,) = tables.run("select * from faregate.api_keys")
    secret, secret_hash = key[-64:], bytes(row["secret_hash"]).hex()
    outputs = [
        run("list"),
        run("list", "--json"),
        run("list", "--user", str(user_id), "--json"),
        run("revoke", str(row["id"]), "--json"),
        run("list"),
    ]
    for output in outputs:
        assert output.code == 0
        assert secret not in output.out + output.err
        assert secret_hash not in output.out + output.err
        assert row["id"].hex in output.out
    assert outputs[0].out.split()[-3:] == ["-", "-", "-"]
    assert outputs[-1].out.split()[-3:].count("-") == 1
    assert secret not in str(row)


def test_a_listed_key_says_all_that_is_known_of_it(run: Run, tables: Database) -> None:
    """Whose it is, what for, its tier and its times; of others' keys only where it is asked."""
    user_id, other = (history.user_id for history in tables.users(2))
    made_key = json.loads(
        run(
            "create", "--user", str(user_id), "--name", "[red]ci", "--tier", "paid",
            "--expires-in-days", "30", "--json",
        ).out
    )  # fmt: skip
    (listed,) = json.loads(run("list", "--user", str(user_id), "--json").out)
    assert {**listed, "key": made_key["key"]} == made_key
    assert (listed["user_id"], listed["tier"]) == (str(user_id), "paid")
    lifetime = datetime.fromisoformat(listed["expires_at"]) - datetime.fromisoformat(
        listed["created_at"]
    )
    assert lifetime == timedelta(days=30)
    assert json.loads(run("list", "--user", str(other), "--json").out) == []
    assert "expires" in run("list").out
    assert "[red]ci" in run("list").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "--user", str(uuid4()), "--name", "x"],
        ["create", "--user", "not-a-uuid", "--name", "x"],
        ["create", "--name", "x"],
        ["create", "--user", str(UUID(int=1)), "--name", ""],
        ["create", "--user", str(UUID(int=1)), "--name", "a\nb"],
        ["create", "--user", str(UUID(int=1)), "--name", "x", "--expires-in-days", "0"],
        ["revoke", str(UUID(int=7))],
        ["revoke", "x"],
        ["list", "--user", "x"],
    ],
    ids=[
        "no such user", "no UUID", "no user", "no name", "two lines", "no days", "no such key",
        "no id", "nobody",
    ],
)  # fmt: skip
def test_wrong_use_is_exit_2_and_changes_nothing(
    run: Run, tables: Database, arguments: list[str]
) -> None:
    """With one line that says why, and no traceback."""
    said = run(*arguments)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert said.out == ""
    assert tables.run("select * from faregate.api_keys") == []


def test_a_database_that_is_away_is_exit_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is not the exit code of a ledger that is not exact."""
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", "host=/nowhere dbname=none")
    assert run("list").code == 3
