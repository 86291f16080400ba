-- The statements of the migration runner.

-- name: lock_run
-- One run at a time, until the end of the transaction.
select pg_advisory_xact_lock(%(key)s::bigint);

-- name: check_at_once
-- Checks deferred constraints now, since pending ones would block `alter table`.
set constraints all immediate;

-- name: log_ledger_numbers
-- Sets the numbers that the migration of the ledger reads.
select
    set_config('faregate.shard_count', %(shard_count)s::text, true) as shard_count,
    set_config('faregate.starting_credits', %(starting_credits)s::text, true) as starting_credits;

-- name: is_bootstrapped
-- Whether the objects of Supabase exist that the schema refers to.
select
    to_regclass('auth.users') is not null
    and to_regprocedure('auth.uid()') is not null
    and to_regclass('public.profiles') is not null
    and to_regrole('anon') is not null
    and to_regrole('authenticated') is not null
    and to_regrole('service_role') is not null
    and to_regrole('supabase_auth_admin') is not null;

-- name: has_records
-- Whether migrations have been recorded.
select to_regclass('faregate.migrations') is not null;

-- name: prepare_records
-- Creates the table of applied migrations.
create schema if not exists faregate;
revoke all on schema faregate from public;
create table if not exists faregate.migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
);

-- name: read_records
-- The applied migrations.
select
    name,
    checksum,
    applied_at
from faregate.migrations;

-- name: write_record
-- Notes that a migration was applied.
insert into faregate.migrations (
    name, checksum
)
select
    %(name)s::text as name,
    %(checksum)s::text as checksum;

-- name: has_ledger
-- Whether the ledger has been created.
select to_regclass('faregate.ledger') is not null;

-- name: read_numbers
-- The settings of the ledger.
select
    shard_count,
    starting_credits
from faregate.ledger;

-- name: is_unsettled
-- Whether a policy of the owner names another role than the owner of its table, or a role or a
-- right is missing.
select
    exists (
        select 1
        from pg_catalog.pg_policy as p
        inner join pg_catalog.pg_class as c on p.polrelid = c.oid
        where
            c.oid = to_regclass('public.credit_transactions')
            and p.polname like 'The owner can %%'
            and p.polroles <> array[c.relowner]
    )
    or exists (
        select 1
        from (
            values
            ('authenticated', 'public.credit_transactions', 'select'),
            ('service_role', 'public.credit_transactions', 'select'),
            ('faregate_reader', 'public.credit_transactions', 'select'),
            ('faregate_api', 'faregate.ledger', 'select'),
            ('faregate_worker', 'faregate.batches', 'insert')
        ) as r (role_name, table_name, verb)
        where not coalesce(has_table_privilege(to_regrole(role_name)::oid, table_name, verb), false)
    );
