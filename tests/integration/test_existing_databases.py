"""Databases of applications: adopted, so that all goes on as before, or refused and not touched."""

import asyncio
from uuid import UUID

import psycopg
import pytest

from commands import CommandLine
from faregate import Settings
from faregate.adapters.postgres.migration_files import migrations
from faregate.adapters.postgres.migrations import Migrator
from faregate.bootstrap import open_gate
from faregate.cli.servers import Binaries
from faregate.domain.errors import UnfitDatabaseError
from integration.existing_databases import ADOPTED, REFUSED, Shape, dump
from integration.pg_helpers import acting_as
from operated import drain

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


def charge(settings: Settings, users: list[UUID]) -> list[int]:
    """Charge each user once, and make rows of it; return what is left."""

    async def each() -> list[int]:
        async with open_gate(settings) as gate:
            return [(await gate.charge(user)).credits for user in users]

    left = asyncio.run(each())
    drain(settings)
    return left


@pytest.mark.parametrize("shape", ADOPTED, ids=lambda shape: shape.name)
def test_an_application_goes_on_with_its_credits(
    shape: Shape,
    postgres_admin_url: str,
    ledger_redis: str,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Old balances are opening rows, sign-ups work as before, charges become rows, all is exact."""
    with (
        shape.database(postgres_admin_url) as (url, owner),
        psycopg.connect(url, autocommit=True) as connection,
    ):
        connection.execute(shape.guided(0).encode())
        Migrator(owner).apply(adopt=True)
        connection.execute(shape.guided(1).encode())
        new = shape.new_user(connection)
        found = connection.execute(
            "select id, credits from public.profiles where id <> %s order by credits, id", [new]
        ).fetchall()
        assert tuple(credits for _, credits in found) == shape.balances
        monkeypatch.setenv("FAREGATE_REDIS_URL", ledger_redis)
        monkeypatch.setenv("FAREGATE_POSTGRES_URL", url)
        settings = Settings(redis_url=ledger_redis, postgres_url=url)
        left = charge(settings, [new, *(user for user, _ in found)])
        assert left == [2, *(max(credits - 1, 0) for credits in shape.balances)]
        for command in ("reconcile", "verify"):
            assert command_line.run(command).code == 0
        assert Migrator(owner).obstacles() == []


@pytest.mark.parametrize(("name", "adopt", "kinds"), REFUSED)
def test_a_database_that_does_not_fit_is_not_touched(
    name: str, *, adopt: bool, kinds: set[str], postgres_admin_url: str, binaries: Binaries
) -> None:
    """All obstacles at once; a dump before and after is the same."""
    with Shape(name).database(postgres_admin_url) as (url, owner):
        before = dump(binaries, url)
        for act in (Migrator(owner).apply, Migrator(owner).dry_run):
            with pytest.raises(UnfitDatabaseError) as refused:
                act(adopt=adopt)
            assert {one.kind.value for one in refused.value.obstacles} == kinds
            assert Migrator(owner).obstacles() == list(refused.value.obstacles)
        assert dump(binaries, url) == before


def test_references_to_a_profile_follow_its_new_id(postgres_admin_url: str) -> None:
    """Where the id of a profile becomes that of its user; keys are what they were."""
    keys = (
        "select conname, pg_get_constraintdef(oid) from pg_constraint"
        " where conrelid = 'public.posts'::regclass order by 1"
    )
    authors = (
        "select p.user_id, o.title from public.posts as o"
        " join public.profiles as p on o.author_id = p.id order by 1"
    )
    with (
        Shape("supabase_user_id").database(postgres_admin_url) as (url, owner),
        psycopg.connect(url, autocommit=True) as connection,
    ):
        before = [connection.execute(query.encode()).fetchall() for query in (keys, authors)]
        Migrator(owner).apply(adopt=True)
        assert before == [connection.execute(one.encode()).fetchall() for one in (keys, authors)]
        same = "select count(*) from public.profiles where id = user_id"
        assert connection.execute(same).fetchone() == (2,)
        user = Shape("supabase_user_id").new_user(connection)
        with acting_as(connection, "supabase_auth_admin"):
            connection.execute("delete from auth.users where id = %s", [user])
        assert connection.execute(same).fetchone() == (2,)


def test_users_whose_application_makes_no_profiles_get_one(postgres_admin_url: str) -> None:
    """By the function of the migration, where profiles were adopted: it fills both ids."""
    with (
        Shape("supabase_user_id").database(postgres_admin_url) as (url, owner),
        psycopg.connect(url, autocommit=True) as connection,
    ):
        connection.execute("drop function public.handle_new_user() cascade")
        before = Shape("supabase_user_id").new_user(connection)
        Migrator(owner).apply(adopt=True)
        for user in (before, Shape("supabase_user_id").new_user(connection)):
            found = connection.execute(
                "select id, credits from public.profiles where user_id = %s", [user]
            )
            assert found.fetchall() == [(user, 3)]


def test_adoptions_are_rolled_back_with_the_migration(
    postgres_admin_url: str, binaries: Binaries
) -> None:
    """By a rehearsal, and where the database still does not fit."""
    with Shape("supabase_user_id").database(postgres_admin_url) as (url, owner):
        before = dump(binaries, url)
        Migrator(owner).dry_run(adopt=True)
        assert dump(binaries, url) == before
        with psycopg.connect(url) as connection:
            connection.execute("alter table public.profiles add referral text not null default ''")
            connection.execute("alter table public.profiles alter referral drop default")
            connection.execute("delete from public.profiles where display_name = 'ann'")
        before = dump(binaries, url)
        with pytest.raises(UnfitDatabaseError, match="requires referral"):
            Migrator(owner).apply(adopt=True)
        assert dump(binaries, url) == before


def test_the_command_says_each_obstacle_on_a_line_and_as_json(
    postgres_admin_url: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exit code 2, since nothing was done; --status only tells."""
    with Shape("rails_profiles").database(postgres_admin_url) as (url, _):
        monkeypatch.setenv("FAREGATE_POSTGRES_URL", url)
        for options in ((), ("--dry-run",), ("--adopt",), ("--dry-run", "--adopt")):
            said = command_line.run("migrate", *options)
            lines = said.err.splitlines()
            assert (said.code, said.out, len(lines)) == (2, "", 4)
            assert all(line.startswith("faregate: ") for line in lines)
            told = command_line.tell("migrate", *options, code=2)
            assert len(told["obstacles"]) == 4
        told = command_line.tell("migrate", "--status")
        assert {row["state"] for row in told["migrations"]} == {"pending"}
        assert [one["kind"] for one in told["obstacles"]].count("profiles_key") == 1
        assert "public.profiles.id is bigint" in command_line.run("migrate", "--status").out


def test_the_command_prints_its_adoptions(
    postgres_admin_url: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the changes of tables that were there, then the migrations; a rehearsal too."""
    with Shape("supabase_user_id").database(postgres_admin_url) as (_, owner):
        monkeypatch.setenv("FAREGATE_POSTGRES_URL", owner)
        (obstacle,) = command_line.tell("migrate", "--status")["obstacles"]
        assert "update public.profiles set id = user_id" in obstacle["adoption"]
        for options, verb in ((("--dry-run",), "rehearsed"), ((), "applied")):
            told = command_line.tell("migrate", "--adopt", *options)
            assert told[verb] == ["adoption of profiles_id", *(one.name for one in migrations())]
        assert command_line.tell("migrate", "--adopt") == {"applied": []}
