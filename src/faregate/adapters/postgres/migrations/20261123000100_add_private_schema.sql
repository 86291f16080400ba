-- Adds the private schema: the ledger, cursors, dead letters, API keys, and who exists.
--
-- squawk-ignore-file prefer-bigint-over-int -- shards and credits are small by contract

set local lock_timeout = '10s';
set local statement_timeout = '5min';

create schema if not exists faregate;
revoke all on schema faregate from public, anon, authenticated, service_role;

-- One row, made once. The numbers may be given as settings of the session that makes it.
create table if not exists faregate.ledger (
    singleton boolean primary key default true check (singleton),
    ledger_id uuid not null default gen_random_uuid(),
    shard_count integer not null check (shard_count between 1 and 65536),
    starting_credits integer not null check (starting_credits >= 0),
    epoch bigint not null check (epoch >= 1),
    installed_at timestamptz
);
comment on table faregate.ledger is 'What the ledger was created with; Redis must agree';
comment on column faregate.ledger.ledger_id is 'Tells this ledger from any other on the same Redis';
comment on column faregate.ledger.epoch is 'The Redis history that counts; a rebuild increments it';
comment on column faregate.ledger.installed_at is 'When Redis was given this epoch';

insert into faregate.ledger (shard_count, starting_credits, epoch)
values (
    coalesce(nullif(current_setting('faregate.shard_count', true), ''), '16')::integer,
    coalesce(nullif(current_setting('faregate.starting_credits', true), ''), '3')::integer,
    1
)
on conflict (singleton) do nothing;

-- Records that cannot be rows. No foreign key: the user may be what is missing.
create table if not exists faregate.dead_letters (
    id bigint generated always as identity primary key,
    shard integer not null,
    stream_id text not null,
    kind text not null check (
        kind in ('deleted_user', 'conflict', 'refused', 'unreadable', 'fork')
    ),
    reason text not null,
    payload bytea not null,
    payload_digest bytea not null check (octet_length(payload_digest) = 32),
    transaction_id uuid,
    user_id uuid,
    amount integer,
    type text,
    sequence bigint,
    epoch bigint,
    refund_of uuid,
    allowance_amount bigint,
    allowance_after bigint,
    period_start timestamptz,
    created_at timestamptz not null default now(),
    discarded_at timestamptz,
    discarded_by text,
    outcome text check (outcome in ('discarded', 'retried', 'resolved')),
    row_id uuid,
    actor text,
    actor_reason text,
    unique (shard, stream_id, payload_digest),
    check (num_nonnulls(discarded_at, discarded_by) in (0, 2))
);
comment on table faregate.dead_letters is 'Records that cannot be rows; pending until discarded';
comment on column faregate.dead_letters.payload is 'Its bytes; empty once its user was deleted';
comment on column faregate.dead_letters.payload_digest is 'SHA-256 of what the payload was';
comment on column faregate.dead_letters.outcome is
'What was done about it: discarded, or a row since it was retried or resolved; null while it counts';
comment on column faregate.dead_letters.row_id is 'The row that it became';
comment on column faregate.dead_letters.actor is 'Who did that, or has tried last';
comment on column faregate.dead_letters.actor_reason is 'And why';

create index if not exists dead_letters_user_id
on faregate.dead_letters (user_id);

create index if not exists dead_letters_unreadable
on faregate.dead_letters (id) where kind = 'unreadable';

create index if not exists dead_letters_refund_of
on faregate.dead_letters (refund_of) where discarded_at is null and refund_of is not null;

-- How far the records of each shard are rows: the newest batch is the cursor of its shard. Each is
-- written in the commit that stores its rows, so every record is stored once. Small ones that
-- follow one another share a row, which is written anew with each of them.
create table if not exists faregate.batches (
    shard integer not null,
    number bigint not null check (number >= 1),
    batch_count integer not null default 1 check (batch_count >= 1),
    epoch bigint not null,
    read_after bigint,
    first_position text not null,
    last_position text not null,
    first_ordinal bigint not null,
    last_ordinal bigint not null,
    ordinal_max bigint not null,
    record_count integer not null,
    last_digest bytea not null check (octet_length(last_digest) = 32),
    leaves bytea not null check (octet_length(leaves) % 16 = 0),
    chain bytea not null check (octet_length(chain) = 32),
    stored_at timestamptz not null default now(),
    primary key (shard, number)
);
-- Digests do not compress.
alter table faregate.batches alter column leaves set storage external;
comment on table faregate.batches is 'What was stored together; the newest is a shard''s cursor';
comment on column faregate.batches.number is 'The first of them: 1, 2, 3, ... in each shard';
comment on column faregate.batches.read_after is
'The batch before it in the stream; null where the stream was read from its beginning';
comment on column faregate.batches.last_position is 'The entry of the stream that ends the batch';
comment on column faregate.batches.last_digest is 'SHA-256 of that entry as Redis held it';
comment on column faregate.batches.ordinal_max is 'The last ordinal ever stored in this epoch';
comment on column faregate.batches.leaves is '16 bytes of SHA-256 for each row that it made';
comment on column faregate.batches.chain is 'SHA-256 of the chain before and its leaves';

create table if not exists faregate.reconciliations (
    id bigint generated always as identity primary key,
    began_at timestamptz not null,
    ended_at timestamptz not null,
    since timestamptz,
    next_since timestamptz,
    user_count bigint not null,
    drift_user_count bigint not null,
    pending_count bigint not null,
    dead_letter_count bigint not null,
    finding_counts jsonb not null,
    findings jsonb not null
);
comment on table faregate.reconciliations is 'What each run of faregate reconcile found';
comment on column faregate.reconciliations.since is
'Only users with a row since then were compared; null where all were';
comment on column faregate.reconciliations.next_since is
'Since when the next run must compare rows; null where it must compare all users';
comment on column faregate.reconciliations.finding_counts is 'How many findings of each kind';
comment on column faregate.reconciliations.findings is
'The first hundred of them; those of a user who is deleted go with the user';

create index if not exists reconciliations_findings
on faregate.reconciliations (id) where findings <> '[]';

create table if not exists faregate.api_keys (
    id uuid primary key,
    user_id uuid not null references auth.users (id) on delete cascade,
    name text not null check (char_length(name) between 1 and 100),
    secret_hash bytea not null check (octet_length(secret_hash) = 32),
    tier text check (char_length(tier) between 1 and 100),
    created_at timestamptz not null default now(),
    expires_at timestamptz check (expires_at > created_at),
    revoked_at timestamptz,
    last_used_at timestamptz
);
comment on table faregate.api_keys is 'API keys of users; revoked ones stay, for the record';
comment on column faregate.api_keys.secret_hash is 'SHA-256 of 32 random bytes that are kept nowhere';
comment on column faregate.api_keys.tier is 'The tier of requests with this key; null for the user''s';
comment on column faregate.api_keys.last_used_at is 'About when: not every use is written';

-- For the deletion of a user, and for the list of its keys in the order in which they were made.
create index if not exists api_keys_user_id on faregate.api_keys (user_id, id);

-- Nobody sees a row without a policy, even if the schema is opened to somebody one day.
alter table faregate.api_keys enable row level security;

-- Whether a user exists decides what is a cascade and what is a dead letter. auth.users has row
-- level security on Supabase, and a role that is subject to it sees nobody: hence the owner's eyes.
create or replace function faregate.user_exists(p_user uuid) returns boolean
language sql
stable
security definer
set search_path = ''
as $$
    select exists (select from auth.users where id = p_user)
$$;
comment on function faregate.user_exists(uuid) is 'Whether auth.users has this user';

create or replace function faregate.users_existing(p_users uuid[]) returns table (user_id uuid)
language sql
stable
security definer
set search_path = ''
as $$
    select id from auth.users where id = any(p_users)
$$;
comment on function faregate.users_existing(uuid[]) is 'Those of the users that auth.users has';

-- Only who may see everybody's sessions is told since when one has been in its transaction.
create or replace function faregate.lock_holder()
returns table (pid integer, role_name text, application text, state text, since timestamptz)
language sql
stable
security definer
set search_path = ''
as $$
    select a.pid, a.usename::text, a.application_name, a.state, a.xact_start
    from pg_catalog.pg_locks as l
    inner join pg_catalog.pg_stat_activity as a on l.pid = a.pid
    where
        l.granted
        and l.locktype = 'relation'
        and l.database = (
            select d.oid from pg_catalog.pg_database as d where d.datname = current_database()
        )
        and l.relation in (
            'auth.users'::regclass,
            'public.profiles'::regclass,
            'public.credit_transactions'::regclass
        )
        and l.mode not in ('AccessShareLock', 'ShareUpdateExclusiveLock')
        and a.pid <> pg_backend_pid()
        and coalesce(a.xact_start < clock_timestamp() - interval '1 second', true)
    order by a.xact_start, a.pid
    limit 1
$$;
comment on function faregate.lock_holder() is
'The oldest transaction that may keep records from becoming rows, by locks on rows or tables';

-- UUIDv8 from SHA-256, as in RFC 9562, appendix B.2. Postgres cannot compute a UUIDv5 on its own.
-- CreditTransactionId.derive is the same function.
create or replace function faregate.derived_id(p_purpose text, p_source uuid) returns uuid
language sql
immutable
parallel safe
set search_path = ''
as $$
    select
        encode(
            set_byte(
                set_byte(digest.bytes, 6, (get_byte(digest.bytes, 6) & 15) | 128),
                8,
                (get_byte(digest.bytes, 8) & 63) | 128
            ),
            'hex'
        )::uuid
    from (
        select
            substr(
                sha256(
                    uuid_send('6f2d2f0c-5c1b-5d5e-9d51-0b7b2d0a4a11'::uuid)
                    || convert_to(p_purpose || ':' || p_source::text, 'UTF8')
                ),
                1,
                16
            ) as bytes
    ) as digest
$$;
comment on function faregate.derived_id(text, uuid) is 'The id of what can exist once for a source';

revoke all on all tables in schema faregate from public, anon, authenticated, service_role;
revoke all on all functions in schema faregate from public, anon, authenticated, service_role;

-- Verification.
do $$
declare
    wrong text;
begin
    if (select count(*) from faregate.ledger) <> 1 then
        raise exception 'faregate.ledger has not exactly one row';
    end if;

    if exists (
        select
        from pg_catalog.pg_proc as f
        inner join pg_catalog.pg_roles as owner on f.proowner = owner.oid
        cross join pg_catalog.pg_class as users
        where
            f.oid in (
                'faregate.user_exists(uuid)'::regprocedure,
                'faregate.users_existing(uuid[])'::regprocedure
            )
            and users.oid = 'auth.users'::regclass
            and users.relrowsecurity
            and not owner.rolsuper
            and not owner.rolbypassrls
            and not (
                pg_has_role(owner.oid, users.relowner, 'usage') and not users.relforcerowsecurity
            )
    ) then
        raise exception 'row level security on auth.users hides users from role %', current_user
            using hint = 'Migrate as a role with BYPASSRLS, such as postgres on Supabase.';
    end if;

    if exists (
        select
        from pg_catalog.pg_proc as f
        inner join pg_catalog.pg_roles as owner on f.proowner = owner.oid
        where
            f.oid = 'faregate.user_exists(uuid)'::regprocedure
            and not has_table_privilege(owner.oid, 'auth.users', 'select')
    ) then
        raise exception 'role % may not read auth.users', current_user;
    end if;

    if faregate.derived_id('starting', '00000000-0000-0000-0000-000000000000')
        <> 'd3067f7e-755a-83f4-8366-d602c3107707'
    then
        raise exception 'faregate.derived_id does not compute what CreditTransactionId.derive does';
    end if;

    select string_agg(expected.column_name, ', ') into wrong
    from (
        values
        ('id', 'uuid', true),
        ('user_id', 'uuid', true),
        ('name', 'text', true),
        ('secret_hash', 'bytea', true),
        ('tier', 'text', false),
        ('created_at', 'timestamp with time zone', true),
        ('expires_at', 'timestamp with time zone', false),
        ('revoked_at', 'timestamp with time zone', false),
        ('last_used_at', 'timestamp with time zone', false)
    ) as expected (column_name, type_name, is_not_null)
    left join pg_catalog.pg_attribute as a
        on
            a.attrelid = 'faregate.api_keys'::regclass
            and a.attname = expected.column_name
            and not a.attisdropped
            and format_type(a.atttypid, a.atttypmod) = expected.type_name
            and a.attnotnull = expected.is_not_null
    where a.attname is null;
    if wrong is not null then
        raise exception 'faregate.api_keys: missing, or of another type: %', wrong;
    end if;

    if not exists (
        select
        from pg_catalog.pg_constraint
        where
            conrelid = 'faregate.api_keys'::regclass
            and contype = 'f'
            and confrelid = 'auth.users'::regclass
            and confdeltype = 'c'
    ) then
        raise exception 'API keys would outlive their users';
    end if;

    if not (select relrowsecurity from pg_catalog.pg_class where oid = 'faregate.api_keys'::regclass)
    then
        raise exception 'faregate.api_keys has no row level security';
    end if;
end
$$;
