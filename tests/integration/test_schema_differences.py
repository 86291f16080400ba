"""Each change of the schema is named exactly, and put right; what an application adds stays."""

from collections.abc import Iterator

import psycopg
import pytest

from durable import Database, as_role, database
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.restoration import SchemaRestorer
from faregate.adapters.postgres.roles import roles_sql
from faregate.cli.servers import EmbeddedServers
from faregate.domain.errors import MigrationError, SchemaDiffersError
from faregate.domain.finding import DriftKind
from integration.pg_helpers import as_project_owner, sign_up, supabase_database
from integration.schema_sabotages import NOTHING, ROWS, SABOTAGES, Sabotage
from servers import database_like

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def url(servers: EmbeddedServers, template_database: str) -> Iterator[str]:
    """A database with all roles, and a user with a drift; each test leaves its schema as it was."""
    with database_like(servers, template_database) as made, database(made) as tables:
        tables.run(f"create role stranger nologin; {roles_sql()}")
        tables.run(f"create function public.nothing() {NOTHING}")
        user = tables.user()
        # A drift of numbers: no restoration of a schema may touch it.
        tables.run("update public.profiles set credits = 5 where id = %s", user.user_id)
        yield made
        tables.run("drop owned by stranger; drop role stranger")


@pytest.fixture
def schema(url: str) -> Iterator[Database]:
    """Its tables."""
    with database(url) as tables:
        yield tables
        tables.run("revoke stranger from authenticated; revoke faregate_worker from stranger")


def told(url: str) -> list[str]:
    """All differences in one order, a line each."""
    found = SchemaRestorer(url).differences()
    return sorted(f"{one.subject}: {one.detail}" for one in found)


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES.keys())
def test_each_sabotage_is_named_and_put_right(
    schema: Database, url: str, sabotage: Sabotage
) -> None:
    """It and nothing else; afterwards nothing differs, and no balance is another."""
    profiles, rows = "select * from public.profiles", f"select id, amount from {ROWS}"  # noqa: S608
    before = schema.run(profiles), schema.run(rows)
    schema.run(sabotage.sql)
    found = told(url)
    assert len(found) == len(sabotage.differences), found
    for line, expected in zip(found, sorted(sabotage.differences), strict=True):
        assert line.startswith(expected)
    assert len(SchemaRestorer(url).restore()) == len(found)
    assert told(url) == []
    assert SchemaRestorer(url).restore() == []
    assert (schema.run(profiles), schema.run(rows)) == before
    auditor = "select has_table_privilege('faregate_auditor', 'faregate.balances', 'select') as may"
    assert schema.run(auditor) == [{"may": True}]


def test_a_verification_names_the_object(schema: Database, url: str) -> None:
    """As a finding, to a role that may only look."""
    schema.run(f"alter table {ROWS} no force row level security")
    audit = PostgresAudit(as_role(url, "faregate_auditor"))
    finding = next(one for one in audit.verify() if one.kind is DriftKind.GUARD)
    audit.close()
    SchemaRestorer(url).restore()
    assert finding.user_id is None
    assert finding.subject == f"table {ROWS}: its row level security is on, not forced"


#: What an application may add.
OF_AN_APPLICATION = f"""
alter table public.profiles add column name text unique;
alter table public.profiles alter column created_at drop not null;
create policy mine on public.profiles for update to authenticated using (id = auth.uid());
grant all on public.profiles to service_role;
revoke truncate, trigger on public.profiles from service_role;
create trigger mine before update on public.profiles for each row
execute function public.nothing();
create trigger mine after insert on auth.users for each row execute function public.nothing();
drop trigger on_auth_user_created on auth.users;
create view public.mine as select id, credits from public.profiles;
create table public.notes (transaction_id uuid references {ROWS} (id) on delete cascade);
create index of_amounts on {ROWS} (amount);
alter table {ROWS} add column note text;
grant select on {ROWS} to stranger;
create policy second_factor on {ROWS} as restrictive for select to authenticated using (true);
create table faregate.mine (id integer);
"""  # noqa: S608 - nothing is from outside


def test_additions_of_an_application_are_no_finding(
    schema: Database, servers: EmbeddedServers, template_database: str
) -> None:
    """Columns, policies, triggers of profiles and users; views, indexes, who may read."""
    assert schema.run("select to_regrole('stranger') is not null as there") == [{"there": True}]
    with database_like(servers, template_database) as made, database(made) as tables:
        tables.run(f"create function public.nothing() {NOTHING}")
        tables.run(OF_AN_APPLICATION)
        found = told(made)
        tables.run("drop owned by stranger")
    assert found == []


def test_a_new_owner_has_no_difference_once_it_has_migrated(
    servers: EmbeddedServers, template_database: str
) -> None:
    """REASSIGN OWNED leaves policies to the owner before; `faregate migrate` puts them right."""
    with database_like(servers, template_database) as made, database(made) as tables:
        tables.run("create role heir superuser")
        try:
            for name in ("faregate", "public.profiles", "auth"):
                kind = "table" if "." in name else "schema"
                tables.run(f"alter {kind} {name} owner to heir")
            tables.run(_HAND_OVER)
            assert [line.partition(":")[0] for line in told(made)] == [
                f'policy "The owner can {verb} transactions" on {ROWS}'
                for verb in ("insert", "view")
            ]
            Migrator(as_role(made, "heir")).apply()
            assert told(made) == []
        finally:
            tables.run("reassign owned by heir to current_user; drop owned by heir; drop role heir")


#: REASSIGN OWNED is refused for the role that Postgres itself belongs to.
_HAND_OVER = """
do $$
declare
    one record;
begin
    for one in
        select format('alter %s %s owner to heir',
            case c.relkind when 'v' then 'view' else 'table' end, c.oid::regclass) as change
        from pg_class as c
        where c.relkind in ('r', 'v') and (
            c.relnamespace = 'faregate'::regnamespace
            or c.oid in ('public.credit_transactions'::regclass, 'auth.users'::regclass)
        )
        union all
        select format('alter function %s owner to heir', p.oid::regprocedure)
        from pg_proc as p
        where p.pronamespace in ('faregate'::regnamespace, 'auth'::regnamespace)
            or p.proname = 'handle_new_user'
    loop
        execute one.change;
    end loop;
end
$$
"""


def test_a_supabase_project_is_restored_by_its_owner(postgres_admin_url: str) -> None:
    """Who is no superuser, and owns neither auth.users nor the roles of Supabase."""
    with (
        supabase_database(postgres_admin_url) as made,
        psycopg.connect(made, autocommit=True) as connection,
    ):
        owner = as_project_owner(made)
        Migrator(owner).apply()
        assert told(owner) == []
        sign_up(connection)
        connection.execute(
            f"grant all on {ROWS} to anon, authenticated;"
            f"drop trigger faregate_note_deletion on auth.users;"
            f"alter table {ROWS} disable trigger credit_transactions_immutable".encode()
        )
        assert len(told(owner)) == 4
        assert len(SchemaRestorer(owner).restore()) == 4
        assert told(owner) == []


def test_a_restoration_that_fails_changes_nothing(schema: Database, url: str) -> None:
    """A row that the schema of this version refuses: the statement and the reason are told."""
    schema.run(f"alter table {ROWS} drop constraint credit_transactions_type_check")
    schema.run(
        f"insert into {ROWS} (user_id, amount, type, description)"  # noqa: S608
        " select id, 0, 'gift', 'x' from auth.users limit 1"
    )
    schema.run(f"alter table {ROWS} no force row level security")
    before = told(url)
    with pytest.raises(MigrationError, match=r"credit_transactions_type_check.*violated"):
        SchemaRestorer(url).restore()
    assert told(url) == before
    schema.run("set session_replication_role = replica")
    schema.run(f"delete from {ROWS} where type = 'gift'")  # noqa: S608
    SchemaRestorer(url).restore()
    assert told(url) == []


def test_an_undone_repair_is_an_error(schema: Database, url: str) -> None:
    """Something in the database changes the schema back: the difference is told, and stays."""
    schema.run(
        f"""
        create function public.undo() returns event_trigger language plpgsql as
        $$ begin alter table {ROWS} no force row level security; end $$;
        create event trigger undo on ddl_command_end when tag in ('CREATE VIEW')
        execute function public.undo();
        alter table {ROWS} no force row level security;
        drop index public.idx_profiles_credits
        """
    )
    before = told(url)
    with pytest.raises(SchemaDiffersError, match=f"restore: table {ROWS}: its row level security"):
        SchemaRestorer(url).restore()
    assert told(url) == before
    schema.run("drop event trigger undo; drop function public.undo()")
    assert len(SchemaRestorer(url).restore()) == len(before)
    assert told(url) == []


def test_a_database_of_another_version_is_not_restored(empty_database_url: str) -> None:
    """It has to be migrated first."""
    with pytest.raises(MigrationError, match="run `faregate migrate`"):
        SchemaRestorer(empty_database_url).restore()
