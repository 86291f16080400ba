-- Adds the roles of the API, of the worker, and of who reads one history, each with the least rights.

set local lock_timeout = '10s';
set local statement_timeout = '5min';

do $$
declare
    role_name text;
begin
    foreach role_name in array array['faregate_reader', 'faregate_api', 'faregate_worker'] loop
        if to_regrole(role_name) is null then
            begin
                execute format('create role %I nologin', role_name);
            exception
                -- Roles belong to the whole cluster: another database may be creating them.
                when duplicate_object or unique_violation then
                    raise notice 'role % was created by somebody else just now', role_name;
                when insufficient_privilege then
                    raise warning 'role % may not create role %', current_user, role_name
                        using hint = 'Let API and worker connect as the owner of the tables, '
                        'or create the roles and migrate again.';
            end;
        end if;
    end loop;
end
$$;

do $$
begin
    if to_regrole('faregate_api') is not null then
        grant usage on schema public, faregate to faregate_api;
        grant select on faregate.balances, public.credit_transactions to faregate_api;
        grant select on faregate.ledger, faregate.dead_letters to faregate_api;
        grant execute on function faregate.open_user(uuid, boolean) to faregate_api;
        grant execute on function faregate.mark_installed(bigint) to faregate_api;

        -- Under row level security a privilege alone shows nothing.
        drop policy if exists "The API can view transactions" on public.credit_transactions;
        create policy "The API can view transactions" on public.credit_transactions
        for select to faregate_api using (true);

        -- Requests look keys up and note that they were used. Making and revoking them is for the
        -- owner.
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

do $$
begin
    if to_regrole('faregate_worker') is not null then
        grant usage on schema public, faregate to faregate_worker;
        grant select, insert on public.credit_transactions to faregate_worker;
        grant select, update (credits, credits_sequence) on faregate.balances to faregate_worker;
        grant select on faregate.ledger to faregate_worker;
        grant select, insert on faregate.dead_letters to faregate_worker;
        grant select, insert on faregate.reconciliations to faregate_worker;
        grant select, insert, update on faregate.batches to faregate_worker;
        grant execute on function faregate.user_exists(uuid) to faregate_worker;
        grant execute on function faregate.users_existing(uuid[]) to faregate_worker;
        grant execute on function faregate.lock_holder() to faregate_worker;
        grant execute on function faregate.scrub_dead_letters(uuid[]) to faregate_worker;
        grant execute on function faregate.users_to_erase(integer) to faregate_worker;
        grant execute on function faregate.note_erased(uuid[]) to faregate_worker;
        grant execute on function faregate.open_user(uuid, boolean) to faregate_worker;
        if not has_database_privilege('faregate_worker', current_database(), 'temporary') then
            execute format(
                'grant temporary on database %I to faregate_worker', current_database()
            );
        end if;

        drop policy if exists "The worker can view transactions" on public.credit_transactions;
        create policy "The worker can view transactions" on public.credit_transactions
        for select to faregate_worker using (true);
        drop policy if exists "The worker can insert transactions" on public.credit_transactions;
        create policy "The worker can insert transactions" on public.credit_transactions
        for insert to faregate_worker with check (true);
    end if;
end
$$;

-- Since Postgres 16 who creates a role may not yet take it on.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['faregate_reader', 'faregate_api', 'faregate_worker'] loop
        if to_regrole(role_name) is not null
            and not (select rolsuper from pg_catalog.pg_roles where rolname = current_user)
        then
            begin
                execute format('grant %I to current_user', role_name);
            exception
                when insufficient_privilege then
                    raise notice 'role % may not take on role %', current_user, role_name;
            end;
        end if;
    end loop;
end
$$;

-- Lets the API read a user's history as that user: under row level security, in a role that sees the
-- rows of one user only. (It is not authenticated, which on Supabase nobody may let others take on,
-- and which has whatever rights an application gives to its users.)
do $$
begin
    if to_regrole('faregate_reader') is null or to_regrole('faregate_api') is null then
        return;
    end if;
    grant usage on schema public to faregate_reader;
    grant select on public.credit_transactions to faregate_reader;
    drop policy if exists "A reader can view the transactions of its user"
    on public.credit_transactions;
    create policy "A reader can view the transactions of its user" on public.credit_transactions
    for select to faregate_reader using ((select auth.uid()) = user_id);

    -- Roles belong to the whole cluster, so this may have been done for another database.
    if not pg_has_role('faregate_api', 'faregate_reader', 'member') then
        begin
            grant faregate_reader to faregate_api;
        exception
            when insufficient_privilege then
                raise warning 'role % may not let faregate_api take on faregate_reader', current_user
                    using hint = 'Users cannot read their history through the API until a role '
                    'that may has run: grant faregate_reader to faregate_api;';
        end;
    end if;
end
$$;

-- Verification.
do $$
declare
    wrong text;
begin
    if to_regrole('faregate_worker') is not null and not (
        has_table_privilege('faregate_worker', 'public.credit_transactions', 'insert')
        and has_table_privilege('faregate_worker', 'faregate.dead_letters', 'insert')
        and has_table_privilege('faregate_worker', 'faregate.reconciliations', 'insert')
        and has_table_privilege('faregate_worker', 'faregate.batches', 'insert')
        and has_table_privilege('faregate_worker', 'faregate.batches', 'update')
        and has_column_privilege('faregate_worker', 'faregate.balances', 'credits', 'update')
        and has_function_privilege('faregate_worker', 'faregate.users_existing(uuid[])', 'execute')
        and has_database_privilege('faregate_worker', current_database(), 'temporary')
    ) then
        raise exception 'faregate_worker lacks a right';
    end if;
    if to_regrole('faregate_api') is not null and not (
        has_table_privilege('faregate_api', 'faregate.balances', 'select')
        and has_table_privilege('faregate_api', 'faregate.ledger', 'select')
        and has_function_privilege('faregate_api', 'faregate.open_user(uuid, boolean)', 'execute')
    ) then
        raise exception 'faregate_api lacks a right';
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
    if exists (
        select
        from unnest(array['anon', 'authenticated', 'service_role']) as role_name
        where has_function_privilege(role_name, 'faregate.open_user(uuid, boolean)', 'execute')
    ) then
        raise exception 'faregate.open_user is open to the roles of the API';
    end if;
end
$$;

do $$
declare
    someone constant uuid := '0190f5a0-0000-7000-8000-000000000000';
begin
    if not has_table_privilege('authenticated', 'public.credit_transactions', 'select') then
        raise exception 'authenticated may not read credit_transactions';
    end if;

    if exists (
        select
        from pg_catalog.pg_roles
        where rolname in ('authenticated', 'faregate_reader') and (rolsuper or rolbypassrls)
    ) then
        raise exception 'authenticated or faregate_reader is not subject to row level security';
    end if;

    if to_regrole('faregate_reader') is not null
        and not has_function_privilege('faregate_reader', 'auth.uid()', 'execute')
    then
        raise exception 'faregate_reader may not call auth.uid()';
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
