-- Adds credits to profiles and the audit trail of every change of them, for new and existing users.
--
-- squawk-ignore-file require-concurrent-index-creation -- a migration is one transaction
-- squawk-ignore-file prefer-bigint-over-int -- a balance is an INTEGER by contract

set local lock_timeout = '10s';
set local statement_timeout = '10min';

do $$
begin
    if to_regclass('auth.users') is null or to_regclass('public.profiles') is null then
        raise exception 'auth.users and public.profiles must exist before credits can be added'
            using hint = '"faregate migrate" creates what is missing.';
    end if;
end
$$;

-- Credits column on the profiles table. The default also fills the rows that exist already.
alter table public.profiles add column if not exists credits integer not null default 3;

create index if not exists idx_profiles_credits on public.profiles (credits);

-- Credit transactions table.
create table if not exists public.credit_transactions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references auth.users (id) on delete cascade,
    amount integer not null,
    type text not null check (type in ('deduct', 'add', 'refund', 'admin_adjustment')),
    description text not null,
    metadata jsonb,
    timestamp timestamptz not null default now(),
    created_at timestamptz not null default now()
);

-- Indexes for performance.
create index if not exists idx_credit_transactions_user_timestamp
on public.credit_transactions (user_id, timestamp desc);

create index if not exists idx_credit_transactions_type
on public.credit_transactions (type);

create index if not exists idx_credit_transactions_timestamp
on public.credit_transactions (timestamp);

-- Row level security. Blocks are restrictive: no other policy can open what they close.
alter table public.credit_transactions enable row level security;
alter table public.credit_transactions force row level security;

drop policy if exists "Users can view their own transactions" on public.credit_transactions;
create policy "Users can view their own transactions" on public.credit_transactions
for select to authenticated using ((select auth.uid()) = user_id);

drop policy if exists "Users cannot insert transactions" on public.credit_transactions;
create policy "Users cannot insert transactions" on public.credit_transactions
as restrictive for insert to anon, authenticated with check (false);

drop policy if exists "Users cannot update transactions" on public.credit_transactions;
create policy "Users cannot update transactions" on public.credit_transactions
as restrictive for update to anon, authenticated using (false);

drop policy if exists "Users cannot delete transactions" on public.credit_transactions;
create policy "Users cannot delete transactions" on public.credit_transactions
as restrictive for delete to anon, authenticated using (false);

drop policy if exists "The service role can view transactions" on public.credit_transactions;
create policy "The service role can view transactions" on public.credit_transactions
for select to service_role using (true);

drop policy if exists "The service role can insert transactions" on public.credit_transactions;
create policy "The service role can insert transactions" on public.credit_transactions
for insert to service_role with check (true);

-- Forced row level security binds an owner that does not bypass it, so it needs policies too.
drop policy if exists "The owner can view transactions" on public.credit_transactions;
create policy "The owner can view transactions" on public.credit_transactions
for select to current_user using (true);

drop policy if exists "The owner can insert transactions" on public.credit_transactions;
create policy "The owner can insert transactions" on public.credit_transactions
for insert to current_user with check (true);

-- Supabase's default privileges may have given everything to everybody, or nothing to anybody.
-- Insertion is granted by column: columns that come later are not for rows made by hand.
revoke all on public.credit_transactions from public, anon, authenticated, service_role;
grant select on public.credit_transactions to authenticated, service_role;
grant insert (id, user_id, amount, type, description, metadata, timestamp, created_at)
on public.credit_transactions to service_role;

-- Backfill existing users: the default has, but for a column that was there already and nullable.
update public.profiles set credits = 3
where credits is null;

alter table public.profiles alter column credits set default 3;

do $$
begin
    if exists (
        select
        from pg_catalog.pg_attribute
        where attrelid = 'public.profiles'::regclass and attname = 'credits' and not attnotnull
    ) then
        alter table public.profiles alter column credits set not null;
    end if;
end
$$;

-- Trigger function. One that exists and does not carry our mark is somebody else's: left alone.
do $$
declare
    unfilled text;
begin
    if to_regprocedure('public.handle_new_user()') is null then
        select string_agg(quote_ident(a.attname), ', ') into unfilled
        from pg_catalog.pg_attribute as a
        where
            a.attrelid = 'public.profiles'::regclass
            and a.attnum > 0
            and not a.attisdropped
            and a.attnotnull
            and not a.atthasdef
            and a.attidentity = ''
            and a.attname <> 'id'
            -- Where profiles with a user_id beside their id were adopted, a trigger fills it.
            and (
                a.attname <> 'user_id'
                or to_regprocedure('public.faregate_take_user_id()') is null
            );
        if unfilled is not null then
            raise exception 'a new user cannot get a profile: public.profiles requires %', unfilled
                using hint = 'Give these columns a default, or write your own handle_new_user().';
        end if;

        create function public.handle_new_user() returns trigger
        language plpgsql
        security definer
        set search_path = ''
        as $function$
        begin
            insert into public.profiles (id, credits)
            values (new.id, 3)
            on conflict (id) do nothing;
            return new;
        end
        $function$;
        comment on function public.handle_new_user() is
        'faregate: gives a new user a profile with its starting credits';
        revoke all on function public.handle_new_user()
        from public, anon, authenticated, service_role;
    end if;

    -- A trigger that makes profiles already would fail on a profile that ours had made before it.
    if obj_description('public.handle_new_user()'::regprocedure, 'pg_proc') like 'faregate:%'
        and not exists (
            select
            from pg_catalog.pg_trigger as t
            inner join pg_catalog.pg_proc as p on t.tgfoid = p.oid
            where
                t.tgrelid = 'auth.users'::regclass
                and not t.tgisinternal
                and (t.tgname = 'on_auth_user_created' or p.prosrc ~* '\mprofiles\M')
        )
    then
        create trigger on_auth_user_created
        after insert on auth.users
        for each row execute function public.handle_new_user();
    end if;
end
$$;

-- Verification.
do $$
declare
    wrong text;
begin
    if exists (select from public.profiles where credits is null) then
        raise exception 'profiles without credits are left';
    end if;

    select string_agg(expected.column_name, ', ') into wrong
    from (
        values
        ('profiles', 'credits', 'integer', true),
        ('credit_transactions', 'id', 'uuid', true),
        ('credit_transactions', 'user_id', 'uuid', true),
        ('credit_transactions', 'amount', 'integer', true),
        ('credit_transactions', 'type', 'text', true),
        ('credit_transactions', 'description', 'text', true),
        ('credit_transactions', 'metadata', 'jsonb', false),
        ('credit_transactions', 'timestamp', 'timestamp with time zone', true),
        ('credit_transactions', 'created_at', 'timestamp with time zone', true)
    ) as expected (table_name, column_name, type_name, required)
    left join pg_catalog.pg_attribute as a
        on
            a.attrelid = to_regclass('public.' || expected.table_name)
            and a.attname = expected.column_name
            and not a.attisdropped
            and format_type(a.atttypid, a.atttypmod) = expected.type_name
            and a.attnotnull = expected.required
    where a.attname is null;
    if wrong is not null then
        raise exception 'missing, or of another type: %', wrong;
    end if;

    select string_agg(expected.index_name, ', ') into wrong
    from (
        values
        ('idx_profiles_credits'),
        ('idx_credit_transactions_user_timestamp'),
        ('idx_credit_transactions_type'),
        ('idx_credit_transactions_timestamp')
    ) as expected (index_name)
    where to_regclass('public.' || expected.index_name) is null;
    if wrong is not null then
        raise exception 'missing indexes: %', wrong;
    end if;

    if not exists (
        select
        from pg_catalog.pg_class
        where
            oid = 'public.credit_transactions'::regclass
            and relrowsecurity
            and relforcerowsecurity
    ) then
        raise exception 'row level security is not forced on credit_transactions';
    end if;

    if not exists (
        select
        from pg_catalog.pg_constraint
        where
            conrelid = 'public.credit_transactions'::regclass
            and confrelid = 'auth.users'::regclass
            and contype = 'f'
            and confdeltype = 'c'
    ) then
        raise exception 'credit_transactions does not follow the deletion of its user';
    end if;

    if not exists (
        select
        from pg_catalog.pg_constraint
        where
            conrelid = 'public.credit_transactions'::regclass
            and contype = 'c'
            and pg_get_constraintdef(oid) like '%admin_adjustment%'
    ) then
        raise exception 'credit_transactions does not check its types';
    end if;
end
$$;
