-- Lets the API read a user's history as that user: under row level security, as authenticated.

set local lock_timeout = '10s';
set local statement_timeout = '5min';

-- To take on a role is not to have its rights all the time. The rights of authenticated are the
-- application's to give, so faregate_api inherits none of them: it must say who it is first. (A
-- grant of Postgres 16 says itself whether it inherits, and takes that from the role; in 15 it is
-- the role that counts.)
do $$
begin
    -- Roles belong to the whole cluster, so this may have been done for another database.
    if to_regrole('faregate_api') is not null
        and not pg_has_role('faregate_api', 'authenticated', 'member')
    then
        begin
            alter role faregate_api noinherit;
            grant authenticated to faregate_api;
        exception
            when insufficient_privilege then
                raise warning 'role % may not let faregate_api take on authenticated', current_user
                    using hint = 'Users cannot read their history through the API until a role '
                    'that may has run: alter role faregate_api noinherit; '
                    'grant authenticated to faregate_api;';
        end;
    end if;
end
$$;

-- Verification.
do $$
declare
    someone constant uuid := '0190f5a0-0000-7000-8000-000000000000';
begin
    if to_regrole('faregate_api') is not null
        and pg_has_role('faregate_api', 'authenticated', 'usage')
    then
        raise exception 'faregate_api has the rights of authenticated without taking it on'
            using hint = 'Revoke authenticated from faregate_api, and migrate again.';
    end if;

    if not has_table_privilege('authenticated', 'public.credit_transactions', 'select') then
        raise exception 'authenticated may not read credit_transactions';
    end if;

    if exists (
        select
        from pg_catalog.pg_roles
        where rolname = 'authenticated' and (rolsuper or rolbypassrls)
    ) then
        raise exception 'authenticated is not subject to row level security';
    end if;

    -- What the API sets is what policies read.
    perform set_config('request.jwt.claim.sub', someone::text, true);
    perform set_config('request.jwt.claims', json_build_object('sub', someone)::text, true);
    if auth.uid() is distinct from someone then
        raise exception 'auth.uid() does not read the claims of a request';
    end if;
    perform set_config('request.jwt.claim.sub', '', true);
    perform set_config('request.jwt.claims', '', true);
end
$$;
