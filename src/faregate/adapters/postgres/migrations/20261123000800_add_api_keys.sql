-- Adds API keys: whose they are, and the hash of what proves them.

set local lock_timeout = '10s';
set local statement_timeout = '5min';

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

revoke all on table faregate.api_keys from public, anon, authenticated, service_role;
-- Nobody sees a row without a policy, even if the schema is opened to somebody one day.
alter table faregate.api_keys enable row level security;

-- Requests look keys up and note that they were used. Making and revoking them is for the owner.
do $$
begin
    if to_regrole('faregate_api') is not null then
        grant select, update (last_used_at) on faregate.api_keys to faregate_api;
        drop policy if exists "The API can view keys" on faregate.api_keys;
        create policy "The API can view keys" on faregate.api_keys
        for select to faregate_api using (true);
        drop policy if exists "The API can note uses of keys" on faregate.api_keys;
        create policy "The API can note uses of keys" on faregate.api_keys
        for update to faregate_api using (true) with check (true);
    end if;
end
$$;

-- Verification.
do $$
declare
    wrong text;
begin
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

    select string_agg(role_name, ', ') into wrong
    from unnest(array['anon', 'authenticated', 'service_role']) as role_name
    where has_any_column_privilege(role_name, 'faregate.api_keys', 'select, insert, update');
    if wrong is not null then
        raise exception 'faregate.api_keys is open to %', wrong;
    end if;

    if to_regrole('faregate_api') is not null and not (
        has_table_privilege('faregate_api', 'faregate.api_keys', 'select')
        and has_column_privilege('faregate_api', 'faregate.api_keys', 'last_used_at', 'update')
    ) then
        raise exception 'faregate_api lacks a right on faregate.api_keys';
    end if;
    if to_regrole('faregate_api') is not null and (
        has_table_privilege('faregate_api', 'faregate.api_keys', 'insert, update, delete')
        or has_column_privilege('faregate_api', 'faregate.api_keys', 'revoked_at', 'update')
    ) then
        raise exception 'faregate_api may make or change API keys';
    end if;
end
$$;
