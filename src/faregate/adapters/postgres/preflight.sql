-- Obstacles to a migration: each row is one. Nothing is changed here.
-- An adoption is SQL that removes the obstacle; `faregate migrate --adopt` runs it.

-- name: is_migrated
-- Whether the ledger exists and is Faregate's, by its columns, since a restore may lose comments.
select count(*) = 3
from pg_catalog.pg_attribute
where
    attrelid = to_regclass('faregate.ledger')
    and attname in ('ledger_id', 'shard_count', 'epoch')
    and not attisdropped;

-- name: check_server
-- Servers that cannot hold a ledger.
select
    o.kind,
    o.found,
    o.to_do,
    null::text as adoption
from (
    values
    (
        current_setting('server_encoding') <> 'UTF8',
        'encoding',
        'the database has encoding ' || current_setting('server_encoding')
        || '; Faregate needs UTF8',
        'create a database from template0 with encoding UTF8, and restore yours into it'
    ),
    (
        pg_is_in_recovery(),
        'standby',
        'Postgres is a standby in recovery, and read-only',
        'use the URL of the primary'
    ),
    (
        not pg_is_in_recovery() and current_setting('transaction_read_only')::boolean,
        'standby',
        'the database is read-only: default_transaction_read_only is on',
        'switch it off for this role and database'
    ),
    (
        current_setting('server_version_num')::integer < %(version_min)s::integer,
        'server_version',
        'Postgres is ' || current_setting('server_version') || ', which is too old',
        'upgrade it to ' || %(version_min)s::integer / 10000 || ' or later'
    )
) as o (is_so, kind, found, to_do)
where o.is_so;

-- name: check_closed_schemas
-- Schemas that this role may not use, which ends the checks.
select
    'missing_right' as kind,
    null::text as adoption,
    'role ' || current_user || ' may not use schema ' || nspname as found,
    'grant usage, create on schema ' || nspname || ' to ' || quote_ident(current_user)
    || '; or migrate as the owner' as to_do
from pg_catalog.pg_namespace
where nspname in ('auth', 'public', 'faregate') and not has_schema_privilege(oid, 'usage');

-- name: check_rights
-- The rights that the migrating role lacks.
with tables (name, oid, owner, is_forced, is_secured) as (
    select
        n.nspname || '.' || c.relname,
        c.oid,
        c.relowner,
        c.relforcerowsecurity,
        c.relrowsecurity
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    where
        c.oid in (
            to_regclass('auth.users'),
            to_regclass('public.profiles'),
            to_regclass('public.credit_transactions')
        )
),

me as (
    select
        oid,
        rolsuper or rolcreaterole as creates_roles,
        rolsuper or rolbypassrls as sees_all
    from pg_catalog.pg_roles
    where rolname = current_user
),

missing (found, to_do) as (
    select
        'role ' || current_user || ' may not create schemas in this database',
        'grant create on database ' || quote_ident(current_database()) || ' to '
        || quote_ident(current_user)
    where
        not has_database_privilege(current_database(), 'create')
        and (
            to_regnamespace('faregate') is null
            or (to_regclass('auth.users') is null and to_regnamespace('auth') is null)
        )
    union all
    select
        'role ' || current_user || ' may not create tables in schema ' || nspname,
        'grant create on schema ' || nspname || ' to ' || quote_ident(current_user)
    from pg_catalog.pg_namespace
    where
        not has_schema_privilege(oid, 'create')
        and (
            nspname in ('public', 'faregate')
            or (nspname = 'auth' and to_regclass('auth.users') is null)
        )
    union all
    select
        'role ' || current_user || ' does not own ' || name,
        'migrate as its owner, ' || owner::regrole::text || ', or as a member of that role'
    from tables
    where name <> 'auth.users' and not pg_has_role(owner, 'usage')
    union all
    select
        'role ' || current_user || ' may not ' || verb || ' auth.users',
        'grant ' || verb || ' on auth.users to ' || quote_ident(current_user)
    from tables
    cross join unnest(array['select', 'references', 'trigger']) as verb
    where name = 'auth.users' and not has_table_privilege(oid, verb)
    union all
    select
        'row level security on ' || tables.name || ' hides rows from role ' || current_user,
        'migrate as a role with BYPASSRLS, such as postgres on Supabase, or as its owner'
    from tables
    cross join me
    where
        tables.is_secured
        and not me.sees_all
        and (tables.is_forced or not pg_has_role(tables.owner, 'usage'))
        -- The migration gives the owner policies on it.
        and tables.name <> 'public.credit_transactions'
    union all
    select
        'role ' || role_name || ' is missing, and role ' || current_user || ' may not create it',
        'let a superuser run the output of `faregate access --part sql`'
    from me
    cross join unnest(
        array['anon', 'authenticated', 'service_role', 'supabase_auth_admin']
    ) as role_name
    where to_regrole(role_name) is null and not me.creates_roles
)

select
    'missing_right' as kind,
    found,
    to_do,
    null::text as adoption
from missing;

-- name: check_names
-- Objects of the application with names of Faregate's.
with foreign_things (found, to_do) as (
    select
        'schema faregate has tables that are not Faregate''s: '
        || string_agg(relname, ', ' order by relname),
        'rename that schema: alter schema faregate rename to faregate_of_yours'
    from pg_catalog.pg_class
    where
        relnamespace = to_regnamespace('faregate')
        and relkind in ('r', 'p', 'v', 'm', 'f', 'S')
        -- A run of an older version, which failed, has left the table of its records.
        and relname <> 'migrations'
    having count(*) > 0
    union all
    select
        'schema faregate has functions that are not Faregate''s: '
        || string_agg(distinct proname, ', '),
        'rename that schema: alter schema faregate rename to faregate_of_yours'
    from pg_catalog.pg_proc
    where pronamespace = to_regnamespace('faregate')
    having count(*) > 0
    union all
    select
        'faregate.migrations is not Faregate''s: it has other columns',
        'rename that schema: alter schema faregate rename to faregate_of_yours'
    where
        to_regclass('faregate.migrations') is not null
        and (
            select count(*)
            from pg_catalog.pg_attribute
            where
                attrelid = to_regclass('faregate.migrations')
                and attname in ('name', 'checksum', 'applied_at')
        ) <> 3
    union all
    select
        'your trigger on ' || tgrelid::regclass || ' has a name that Faregate uses: ' || tgname,
        'alter trigger ' || tgname || ' on ' || tgrelid::regclass || ' rename to ' || tgname
        || '_of_yours'
    from pg_catalog.pg_trigger
    where
        not tgisinternal
        and tgname in (
            'credit_transactions_immutable',
            'credit_transactions_no_truncate',
            'faregate_note_deletion',
            'profiles_credits_guard',
            'profiles_no_truncate',
            'profiles_starting_credits',
            'profiles_starting_row'
        )
        and tgrelid in (
            to_regclass('auth.users'),
            to_regclass('public.profiles'),
            to_regclass('public.credit_transactions')
        )
    union all
    select
        'the index public.' || i.relname || ' of another table has a name that Faregate uses',
        'alter index public.' || i.relname || ' rename to ' || i.relname || '_of_yours'
    from pg_catalog.pg_class as i
    left join pg_catalog.pg_index as x on i.oid = x.indexrelid
    where
        i.relnamespace = to_regnamespace('public')
        and i.relname in (
            'idx_profiles_credits',
            'idx_credit_transactions_user_timestamp',
            'idx_credit_transactions_type',
            'idx_credit_transactions_timestamp',
            'idx_credit_transactions_user_sequence',
            'idx_credit_transactions_refund_of'
        )
        and coalesce(
            x.indrelid not in (
                to_regclass('public.profiles'), to_regclass('public.credit_transactions')
            ),
            true
        )
    union all
    select
        'public.profiles has a column credits_sequence, which is not Faregate''s',
        'rename it: alter table public.profiles rename column credits_sequence to another name'
    from pg_catalog.pg_attribute
    where
        attrelid = to_regclass('public.profiles')
        and attname = 'credits_sequence'
        and not attisdropped
    union all
    select
        'role ' || rolname || ' exists, and is a superuser or bypasses row level security',
        'alter role ' || rolname || ' nosuperuser nobypassrls; or rename it, if it is yours'
    from pg_catalog.pg_roles
    where
        rolname in ('authenticated', 'anon', 'faregate_reader', 'faregate_api', 'faregate_worker')
        and (rolsuper or rolbypassrls)
    union all
    select
        'your policy on public.credit_transactions has a name that Faregate uses: ' || polname,
        'alter policy ' || quote_ident(polname) || ' on public.credit_transactions rename to '
        || quote_ident(polname || ' (yours)')
    from pg_catalog.pg_policy
    where
        polrelid = to_regclass('public.credit_transactions')
        and (
            (polname in (
                'Users can view their own transactions',
                'The service role can view transactions',
                'The owner can view transactions'
            ) and polcmd <> 'r')
            or (polname in (
                'The service role can insert transactions', 'The owner can insert transactions'
            ) and polcmd <> 'a')
        )
)

select
    'foreign_name' as kind,
    found,
    to_do,
    null::text as adoption
from foreign_things;

-- name: check_users
-- Tables of users without UUIDs.
select
    'users_key' as kind,
    case
        when c.relkind not in ('r', 'p') then 'auth.users is no table'
        when a.attname is null then 'auth.users has no column id'
        when a.atttypid <> 'uuid'::regtype
            then 'auth.users.id is ' || format_type(a.atttypid, a.atttypmod)
        else 'auth.users.id is not unique'
    end as found,
    'Faregate identifies users by the UUID in auth.users.id: give it a separate database'
    || ' (docs/existing-database.md)' as to_do,
    null::text as adoption
from pg_catalog.pg_class as c
left join pg_catalog.pg_attribute as a
    on c.oid = a.attrelid and a.attname = 'id' and not a.attisdropped
where
    c.oid = to_regclass('auth.users')
    and (
        c.relkind not in ('r', 'p')
        or a.attname is null
        or a.atttypid <> 'uuid'::regtype
        or not exists (
            select
            from pg_catalog.pg_index as i
            where
                i.indrelid = c.oid
                and i.indisunique
                and i.indpred is null
                and i.indkey::text = a.attnum::text
        )
    )
union all
select
    'users_key' as kind,
    'auth.uid() returns ' || format_type(prorettype, null) as found,
    'Faregate reads the user of a request from auth.uid(), a UUID: give it a separate database'
    || ' (docs/existing-database.md)' as to_do,
    null::text as adoption
from pg_catalog.pg_proc
where oid = to_regprocedure('auth.uid()') and prorettype <> 'uuid'::regtype;
