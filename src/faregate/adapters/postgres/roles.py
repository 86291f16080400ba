"""The SQL of the roles, to review and to run."""

from typing import Final

from faregate.adapters.postgres.access import ROLES, DatabaseRole, Right

OWNER: Final = "faregate_owner"
READER: Final = "faregate_reader"
BACKUP: Final = "faregate_backup"
#: The roles that have no list of rights, and the programs that run in them.
OTHER_PURPOSES: Final = {
    OWNER: "faregate migrate, rebuild, repair, keys, dead-letters, users erase; it owns all tables",
    READER: "the history of one user, in which an API reads it; nobody logs in with it",
    BACKUP: "pg_dump of the schemas auth, faregate and public; it passes by row level security",
}
#: The roles of Faregate.
OWN_ROLES: Final = [OWNER, READER, *(role.name for role in ROLES), BACKUP]
#: Roles of Supabase that migrations expect, for an owner who may not create roles.
OF_SUPABASE: Final = ("anon", "authenticated", "service_role", "supabase_auth_admin")
#: The names of policies are those of the migrations, so that none is made twice.
_POLICY_VERBS: Final = {"select": "view", "insert": "insert", "update": "update"}
_POLICY_NAMES: Final = {
    ("faregate_api", "update", "faregate.api_keys"): "The API can note uses of keys"
}
_POLICY_ROLES: Final = {"faregate_api": "API"}
_POLICY_TABLES: Final = {"credit_transactions": "transactions", "api_keys": "keys"}

_HEADER: Final = f"""\
-- Roles of Faregate, each with no more rights than it needs, and without a password.
-- Run this as a superuser (on Supabase as postgres) before the first `faregate migrate`, and again
-- after it and after each upgrade. It takes nothing away, and may be run at any time.
-- Then let each program log in as a member of its role, for example:
--     create role app_api login in role faregate_api;   and in psql   \\password app_api
-- Who migrates must act as the owner, so that the owner owns what is made:
--     create role app_owner login in role {OWNER};
--     alter role app_owner set role = {OWNER};
-- Who makes backups names its role: pg_dump --role={BACKUP}
"""
_CREATE: Final = """\
do $$
declare
    role_name text;
begin
    foreach role_name in array array[{names}] loop
        if to_regrole(role_name) is null then
            execute format('create role %I nologin', role_name);
        end if;
    end loop;
end
$$;
"""
_OWNER: Final = f"""\
-- {OWNER}: {OTHER_PURPOSES[OWNER]}.
do $$
begin
    execute format(
        'grant create, temporary on database %I to {OWNER}', current_database()
    );
    grant usage, create on schema public to {OWNER};
end
$$;
"""
_SWITCH: Final = f"grant {READER} to faregate_api;\n"
_READER_GRANTS: Final = f"""\
    grant usage on schema public to {READER};
    grant select on table public.credit_transactions to {READER};
    drop policy if exists "A reader can view the transactions of its user"
    on public.credit_transactions;
    create policy "A reader can view the transactions of its user" on public.credit_transactions
    for select to {READER} using ((select auth.uid()) = user_id);
"""
_BACKUP: Final = f"""\
-- {BACKUP}: {OTHER_PURPOSES[BACKUP]}.
do $$
begin
    alter role {BACKUP} bypassrls;
exception
    when insufficient_privilege then
        raise warning '{BACKUP} cannot pass by row level security: pg_dump will fail'
            using hint = 'Let a superuser run this.';
end
$$;
"""
_BACKUP_GRANTS: Final = f"""\
    grant usage on schema auth, faregate, public to {BACKUP};
    grant select on table auth.users, public.profiles, public.credit_transactions to {BACKUP};
    grant select on all tables in schema faregate to {BACKUP};
    grant select on all sequences in schema faregate to {BACKUP};
"""


def roles_sql() -> str:
    """Return the SQL that makes all roles and, if the tables exist, grants their rights."""
    names = [*OWN_ROLES, *OF_SUPABASE]
    quoted = ", ".join(f"\n        '{name}'" for name in names)
    create = _CREATE.format(names=quoted.replace(", \n", ",\n") + "\n    ")
    return "\n".join((_HEADER, create, _OWNER, _SWITCH, _BACKUP, _grants()))


def _grants() -> str:
    """Return the block of grants, which does nothing before the migration."""
    roles = "\n".join(_grants_of(role) for role in ROLES)
    return f"""\
do $$
begin
    if to_regclass('faregate.ledger') is null then
        raise notice 'the database has not been migrated: run this again afterwards';
        return;
    end if;
    -- A policy locks its table. Whoever waits for longer runs this again.
    perform set_config('lock_timeout', '5s', true);

{roles}
    -- {READER}: {OTHER_PURPOSES[READER]}
{_READER_GRANTS}
    -- {BACKUP}
{_BACKUP_GRANTS}end
$$;"""


def _grants_of(role: DatabaseRole) -> str:
    lines = [f"    -- {role.name}: {role.purpose}"]
    for right in role.rights:
        lines += _policy(role, right) if right.kind == "rows" else [_grant(role, right)]
    return "\n".join(lines) + "\n"


def _grant(role: DatabaseRole, right: Right) -> str:
    if right.kind == "database":
        grant = f"grant {right.verb} on database %I to {role.name}"
        return f"    execute format('{grant}', current_database());"
    return f"    grant {right} to {role.name};"


def _policy(role: DatabaseRole, right: Right) -> list[str]:
    """Return the statements of a policy for all rows, since a grant alone shows no row."""
    name = _policy_name(role, right)
    using = "" if right.verb == "insert" else " using (true)"
    check = "" if right.verb == "select" else " with check (true)"
    return [
        f'    drop policy if exists "{name}" on {right.object};',
        f'    create policy "{name}" on {right.object}',
        f"    for {right.verb} to {role.name}{using}{check};",
    ]


def _policy_name(role: DatabaseRole, right: Right) -> str:
    given = _POLICY_NAMES.get((role.name, right.verb, right.object))
    who = _POLICY_ROLES.get(role.name, role.name.removeprefix("faregate_"))
    table = right.object.partition(".")[2]
    verb, rows = _POLICY_VERBS[right.verb], _POLICY_TABLES.get(table, table)
    return given or f"The {who} can {verb} {rows}"
