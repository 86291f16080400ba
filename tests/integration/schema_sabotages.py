"""Changes of a schema, each with what is found afterwards."""

from dataclasses import dataclass
from typing import Final

ROWS: Final = "public.credit_transactions"
NOTHING: Final = "returns trigger language plpgsql as $$ begin return null; end $$"


@dataclass(frozen=True, slots=True)
class Sabotage:
    """A change of the schema, and how each difference that it makes begins."""

    sql: str
    differences: tuple[str, ...]


def of_policy(name: str) -> str:
    """How a policy of the rows is named."""
    return f'policy "{name}" on {ROWS}: '


SABOTAGES = {
    "both trigger functions gutted": Sabotage(
        f"create or replace function faregate.refuse_transaction_change() {NOTHING};"
        f"create or replace function faregate.refuse_credits_change() {NOTHING}",
        (
            "function faregate.refuse_credits_change(): its body is not that of this version",
            "function faregate.refuse_credits_change(): its definition is function plpgsql volatile"
            " security invoker not parallel, not",
            "function faregate.refuse_transaction_change(): its body is not that of this version",
            "function faregate.refuse_transaction_change(): its definition",
        ),
    ),
    "using (true)": Sabotage(
        f'alter policy "Users can view their own transactions" on {ROWS} using (true)',
        (
            of_policy("Users can view their own transactions")
            + "its definition is as permissive for select to authenticated using (true), not as",
        ),
    ),
    "a restrictive policy for nobody": Sabotage(
        f'alter policy "Users cannot update transactions" on {ROWS} to faregate_reader',
        (
            of_policy("Users cannot update transactions") + "its definition",
            of_policy("Users cannot update transactions") + "its scope is none",
        ),
    ),
    "an unknown permissive policy": Sabotage(
        f"create policy everybody on {ROWS} for select to anon using (true)",
        (f"policy everybody on {ROWS}: is not of Faregate: as permissive for select to anon",),
    ),
    "an unknown policy on keys": Sabotage(
        "create policy everybody on faregate.api_keys using (true)",
        ("policy everybody on faregate.api_keys: is not of Faregate",),
    ),
    "a policy gone": Sabotage(
        f'drop policy "Users cannot delete transactions" on {ROWS}',
        (of_policy("Users cannot delete transactions") + "is missing",),
    ),
    "grants to anon": Sabotage(
        f"grant insert, delete on {ROWS} to anon; grant update (amount) on {ROWS} to anon;"
        " grant usage on schema faregate to anon; grant select on faregate.batches to public",
        (
            "schema faregate: role anon has usage",
            "table faregate.batches: role public has select",
            f"table {ROWS}: role anon has delete, insert, update (amount)",
        ),
    ),
    "a grant with grant option": Sabotage(
        "grant select on faregate.ledger to faregate_api with grant option",
        ("table faregate.ledger: role faregate_api has select with grant option and lacks select",),
    ),
    "rights of a stranger": Sabotage(
        f"grant select, insert on {ROWS} to stranger;"
        " grant execute on function faregate.user_exists(uuid) to stranger",
        (
            "function faregate.user_exists(uuid): role stranger has execute",
            f"table {ROWS}: role stranger has insert",
        ),
    ),
    "a right taken": Sabotage(
        "revoke insert on faregate.batches from faregate_worker",
        ("table faregate.batches: role faregate_worker lacks insert",),
    ),
    "truncate and trigger on profiles": Sabotage(
        "grant truncate, trigger, select on public.profiles to authenticated",
        ("table public.profiles: role authenticated has trigger, truncate",),
    ),
    "a trigger disabled": Sabotage(
        f"alter table {ROWS} disable trigger credit_transactions_immutable",
        (f"trigger credit_transactions_immutable on {ROWS}: its state is disabled, not enabled",),
    ),
    "triggers of a foreign key disabled": Sabotage(
        f"alter table {ROWS} disable trigger all; alter table {ROWS} enable trigger user",
        (f"constraint credit_transactions_user_id_fkey on {ROWS}: its state is not enforced",),
    ),
    "a trigger for replicas": Sabotage(
        f"alter table {ROWS} enable replica trigger credit_transactions_no_truncate",
        (f"trigger credit_transactions_no_truncate on {ROWS}: its state is enabled for replicas",),
    ),
    "a trigger that calls another function": Sabotage(
        "create or replace trigger profiles_credits_guard before update on public.profiles"
        " for each row execute function public.nothing()",
        ("trigger profiles_credits_guard on public.profiles: its definition is CREATE TRIGGER",),
    ),
    "a trigger of starting rows gone": Sabotage(
        "drop trigger profiles_starting_row on public.profiles",
        ("trigger profiles_starting_row on public.profiles: is missing",),
    ),
    "deletions go unnoticed": Sabotage(
        "drop trigger faregate_note_deletion on auth.users",
        ("trigger faregate_note_deletion on auth.users: is missing",),
    ),
    "an unknown trigger": Sabotage(
        f"create trigger quiet before insert on {ROWS} for each row"
        " execute function public.nothing()",
        (f"trigger quiet on {ROWS}: is not of Faregate: CREATE TRIGGER quiet BEFORE INSERT",),
    ),
    "a rule": Sabotage(
        f"create rule nowhere as on insert to {ROWS} do instead nothing",
        (f"rule nowhere on {ROWS}: is not of Faregate",),
    ),
    "a child": Sabotage(
        f"create table public.child () inherits ({ROWS})",
        (f"child table public.child on {ROWS}: is not of Faregate",),
    ),
    "row level security not forced": Sabotage(
        f"alter table {ROWS} no force row level security",
        (f"table {ROWS}: its row level security is on, not forced",),
    ),
    "row level security off": Sabotage(
        f"alter table {ROWS} disable row level security;"
        "alter table faregate.api_keys disable row level security;"
        "alter table faregate.dead_letters enable row level security",
        (
            "table faregate.api_keys: its row level security is off, not on",
            "table faregate.dead_letters: its row level security is on, not off",
            f"table {ROWS}: its row level security is off, not forced",
        ),
    ),
    "a column altered": Sabotage(
        f"alter table {ROWS} alter column description drop not null;"
        f"alter table {ROWS} alter column created_at drop default;"
        "alter table public.profiles alter column credits set default 1000;"
        "alter table faregate.ledger alter column installed_at type text",
        (
            "column created_at on public.credit_transactions: its default is none, not now()",
            "column credits on public.profiles: its default is 1000, not 3",
            f"column description on {ROWS}: its nulls is allowed, not refused",
            "column installed_at on faregate.ledger: its type is text, not timestamp with time",
        ),
    ),
    "a column gone": Sabotage(
        f"alter table {ROWS} drop column metadata; alter table {ROWS} drop column created_at",
        (
            f"column created_at on {ROWS}: is missing",
            f"column metadata on {ROWS}: is missing",
            f"table {ROWS}: role service_role lacks insert (created_at), insert (metadata)",
        ),
    ),
    "a check that is not valid": Sabotage(
        f"alter table {ROWS} drop constraint credit_transactions_type_check;"
        f"alter table {ROWS} add constraint credit_transactions_type_check"
        " check (type in ('deduct', 'add', 'refund', 'admin_adjustment')) not valid",
        (f"constraint credit_transactions_type_check on {ROWS}: its definition is CHECK",),
    ),
    "constraints gone": Sabotage(
        f"alter table {ROWS} drop constraint credit_transactions_type_check,"
        " drop constraint credit_transactions_user_id_fkey,"
        " drop constraint credit_transactions_pkey",
        tuple(
            f"constraint credit_transactions_{name} on {ROWS}: is missing"
            for name in ("pkey", "type_check", "user_id_fkey")
        ),
    ),
    "an index gone, another one altered": Sabotage(
        "drop index public.idx_credit_transactions_timestamp, public.idx_profiles_credits;"
        f"create index idx_credit_transactions_timestamp on {ROWS} (amount)",
        (
            "index public.idx_credit_transactions_timestamp on public.credit_transactions: its",
            "index public.idx_profiles_credits on public.profiles: is missing",
        ),
    ),
    "a function of another owner": Sabotage(
        "alter function faregate.refuse_credits_change() owner to stranger;"
        "alter function faregate.refuse_credits_change() security definer",
        (
            "function faregate.refuse_credits_change(): its definition is function plpgsql"
            " volatile security definer",
            "function faregate.refuse_credits_change(): its owner is stranger, not postgres",
        ),
    ),
    "a function gone, with its triggers": Sabotage(
        "drop function faregate.refuse_transaction_change() cascade",
        (
            "function faregate.refuse_transaction_change(): is missing",
            f"trigger credit_transactions_immutable on {ROWS}: is missing",
            f"trigger credit_transactions_no_truncate on {ROWS}: is missing",
        ),
    ),
    "a function with another result": Sabotage(
        "drop function faregate.user_exists(uuid);"
        "create function faregate.user_exists(uuid) returns integer language sql as 'select 1';"
        "revoke all on function faregate.user_exists(uuid) from public",
        tuple(
            f"function faregate.user_exists(uuid): {word}"
            for word in ("its body", "its definition", "its result", "role faregate_worker lacks")
        ),
    ),
    "a view replaced": Sabotage(
        "drop view faregate.balances; create view faregate.balances as"
        " select id as user_id, credits + 1 as credits, credits_sequence, 1 as more"
        " from public.profiles; grant select on faregate.balances to faregate_auditor",
        (
            "view faregate.balances: its definition is",
            "view faregate.balances: role faregate_api lacks select",
            "view faregate.balances: role faregate_worker lacks select, update (credits),",
        ),
    ),
    "a view of its caller": Sabotage(
        "alter view faregate.balances set (security_invoker = true)",
        ("view faregate.balances: its options is security_invoker=true, not none",),
    ),
    "a table that is not logged": Sabotage(
        "alter table faregate.batches set unlogged",
        ("table faregate.batches: its storage is unlogged, not logged",),
    ),
    "a table gone": Sabotage(
        "drop table faregate.api_keys",
        ("table faregate.api_keys: is missing",),
    ),
    "attributes and memberships of roles": Sabotage(
        "alter role anon bypassrls; alter role faregate_api superuser;"
        "grant faregate_worker to stranger; grant stranger to authenticated",
        (
            "role anon: has the attribute bypassrls",
            "role authenticated: is a member of stranger",
            "role faregate_api: has the attribute superuser",
        ),
    ),
    "replica mode by default": Sabotage(
        "alter role faregate_worker set session_replication_role = replica",
        ("setting session_replication_role on role faregate_worker: is not of Faregate",),
    ),
    "the stand-in for auth.uid()": Sabotage(
        "create or replace function auth.uid() returns uuid language sql stable"
        " set search_path = '' as $$ select null::uuid $$",
        ("function auth.uid(): its body is not that of this version",),
    ),
}
