-- Gives a plain Postgres the minimum of what Supabase has: schema auth, roles, public.profiles.
--
-- Every statement takes effect only where the thing is absent or was made by this file, so on
-- Supabase, where all of it exists, this changes nothing; there the runner does not even send it.

set local lock_timeout = '10s';
set local statement_timeout = '5min';

-- Roles belong to the whole cluster, so another database may be creating them at this moment.
do $$
declare
    role_name text;
begin
    foreach role_name in array array[
        'anon', 'authenticated', 'service_role', 'supabase_auth_admin'
    ] loop
        if to_regrole(role_name) is null then
            begin
                execute format('create role %I nologin noinherit', role_name);
            exception
                when duplicate_object or unique_violation then
                    raise notice 'role % was created by somebody else just now', role_name;
            end;
            if role_name = 'service_role' then
                begin
                    alter role service_role bypassrls;
                exception
                    -- The policies for service_role make it work without the attribute too.
                    when insufficient_privilege then
                        raise notice 'service_role does not bypass row level security here';
                end;
            end if;
        end if;
    end loop;
end
$$;

do $$
begin
    if to_regclass('auth.users') is null then
        create schema if not exists auth;
        create table auth.users (
            id uuid primary key default gen_random_uuid(),
            email text,
            created_at timestamptz not null default now()
        );
        comment on table auth.users is 'faregate: stands in for the table of Supabase Auth';
        revoke all on schema auth from public;
        revoke all on auth.users from public, anon, authenticated, service_role;
        grant usage on schema auth to anon, authenticated, service_role, supabase_auth_admin;
        grant select, insert, update, delete on auth.users to supabase_auth_admin;
    end if;

    if to_regprocedure('auth.uid()') is null
        or obj_description(to_regprocedure('auth.uid()'), 'pg_proc') like 'faregate:%'
    then
        -- The claims of a request are settings of its transaction, as PostgREST makes them.
        create or replace function auth.uid() returns uuid
        language sql
        stable
        set search_path = ''
        as $function$
            select coalesce(
                nullif(current_setting('request.jwt.claim.sub', true), ''),
                nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
            )::uuid
        $function$;
        comment on function auth.uid() is 'faregate: the user of the request, or null';
    end if;

    if to_regclass('public.profiles') is null then
        create table public.profiles (
            id uuid primary key references auth.users (id) on delete cascade,
            credits integer not null default 3,
            created_at timestamptz not null default now()
        );
        alter table public.profiles enable row level security;
        create policy "Users can view their own profile" on public.profiles
            for select to authenticated using ((select auth.uid()) = id);
        revoke all on public.profiles from public, anon, authenticated, service_role;
        grant select on public.profiles to authenticated;
        grant select, insert, update, delete on public.profiles to service_role;
        -- For a service_role that could not be given the right to bypass row level security.
        create policy "The service role can do all with profiles" on public.profiles
            for all to service_role using (true) with check (true);
    end if;
end
$$;

do $$
begin
    if to_regclass('auth.users') is null
        or to_regprocedure('auth.uid()') is null
        or to_regclass('public.profiles') is null
        or to_regrole('anon') is null
        or to_regrole('authenticated') is null
        or to_regrole('service_role') is null
        or to_regrole('supabase_auth_admin') is null
    then
        raise exception 'the bootstrap is incomplete';
    end if;
end
$$;
