-- Writes the starting credits of every user, and what older balances lack, as transactions.

set local lock_timeout = '10s';
set local statement_timeout = '30min';

-- Whatever credits an insert names, a new profile holds what its user's transactions add up to.
create or replace function faregate.start_profile() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    known record;
begin
    select
        count(*) as row_count,
        coalesce(sum(amount), 0) as credits,
        coalesce(max(sequence), 0) as sequence
    into known
    from public.credit_transactions
    where user_id = new.id;

    if known.row_count = 0 then
        select starting_credits into strict new.credits from faregate.ledger;
        new.credits_sequence := case when new.credits = 0 then 0 else 1 end;
    else
        new.credits := known.credits;
        new.credits_sequence := known.sequence;
    end if;
    return new;
end
$$;
comment on function faregate.start_profile() is
'Gives a new profile the sum of its user''s transactions, or the starting credits';

create or replace function faregate.write_starting_row() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    insert into public.credit_transactions
    (id, user_id, amount, type, description, sequence, balance_after, epoch)
    select
        faregate.derived_id('starting', new.id),
        new.id,
        new.credits,
        'add',
        'starting credits',
        1,
        new.credits,
        0
    where
        new.credits <> 0
        and not exists (select from public.credit_transactions where user_id = new.id);
    return null;
end
$$;
comment on function faregate.write_starting_row() is
'Writes the starting credits of a new profile as its user''s first transaction';

revoke all on function faregate.start_profile()
from public, anon, authenticated, service_role;
revoke all on function faregate.write_starting_row()
from public, anon, authenticated, service_role;

-- Upgrade. It happens once, before the triggers exist: later, rows without a sequence were made by
-- hand, and it is for a reconciliation to find them, not for a migration to make up for them. A
-- trigger that somebody has dropped since is made again, and nothing else.
do $$
begin
    lock table public.profiles, public.credit_transactions in share row exclusive mode;

    if not exists (
        select
        from pg_catalog.pg_trigger
        where tgrelid = 'public.profiles'::regclass and tgname = 'profiles_starting_row'
    )
        and not exists (select from public.credit_transactions where sequence is not null)
    then
        with known as (
            select
                p.id as user_id,
                p.credits,
                count(t.id) as row_count,
                p.credits - coalesce(sum(t.amount), 0) as difference
            from public.profiles as p
            -- A profile without a user cannot have transactions.
            inner join auth.users as u on p.id = u.id
            left join public.credit_transactions as t on p.id = t.user_id
            group by p.id
        ),

        opened as (
            insert into public.credit_transactions
            (id, user_id, amount, type, description, sequence, balance_after, epoch)
            select
                faregate.derived_id(
                    case when row_count = 0 then 'starting' else 'opening' end, user_id
                ),
                user_id,
                difference::integer,
                case when difference > 0 then 'add' else 'admin_adjustment' end,
                case when row_count = 0 then 'starting credits' else 'opening balance' end,
                1,
                credits,
                0
            from known
            where difference <> 0
            returning user_id
        )

        update public.profiles as p set credits_sequence = 1
        from opened
        where p.id = opened.user_id;

        if exists (
            select
            from public.profiles as p
            inner join auth.users as u on p.id = u.id
            left join public.credit_transactions as t on p.id = t.user_id
            group by p.id
            having p.credits <> coalesce(sum(t.amount), 0)
        ) then
            raise exception 'a balance differs from the sum of its transactions';
        end if;
    end if;

    create or replace trigger profiles_starting_credits
    before insert on public.profiles
    for each row execute function faregate.start_profile();

    create or replace trigger profiles_starting_row
    after insert on public.profiles
    for each row execute function faregate.write_starting_row();

    insert into public.profiles (id)
    select u.id
    from auth.users as u
    where not exists (select from public.profiles as p where p.id = u.id)
    on conflict (id) do nothing;
end
$$;

-- The number of starting credits has one place from here on. Somebody else's function stays.
do $$
begin
    if obj_description(to_regprocedure('public.handle_new_user()'), 'pg_proc')
        like 'faregate:%'
    then
        create or replace function public.handle_new_user() returns trigger
        language plpgsql
        security definer
        set search_path = ''
        as $function$
        begin
            insert into public.profiles (id, credits)
            select new.id, l.starting_credits
            from faregate.ledger as l
            on conflict (id) do nothing;
            return new;
        end
        $function$;
        revoke all on function public.handle_new_user()
        from public, anon, authenticated, service_role;
    end if;
end
$$;

-- First sight of a user by the live ledger.
create or replace function faregate.open_user(p_user uuid, p_provision boolean)
returns table (
    credits integer,
    sequence bigint,
    epoch bigint,
    allowance_left integer,
    period_start timestamptz
)
language plpgsql
volatile
security definer
set search_path = ''
as $$
#variable_conflict use_column
begin
    if not exists (select from public.profiles where id = p_user) then
        if not faregate.user_exists(p_user) then
            -- A token of somebody who was deleted may be valid for a while.
            if not p_provision or faregate.was_deleted(p_user) then
                return;
            end if;
            -- On Supabase users are made by Supabase Auth alone, though postgres may insert them.
            if not has_table_privilege('auth.users', 'insert')
                or (
                    select c.relowner = to_regrole('supabase_auth_admin')
                    from pg_catalog.pg_class as c
                    where c.oid = 'auth.users'::regclass
                )
            then
                raise exception 'this database does not let Faregate create users'
                    using errcode = 'insufficient_privilege',
                    hint = 'Switch provisioning off and create users through Supabase Auth.';
            end if;
            insert into auth.users (id) values (p_user) on conflict (id) do nothing;
        end if;

        -- Of two callers at once one waits here for the other, and then finds its profile.
        begin
            insert into public.profiles (id) values (p_user) on conflict (id) do nothing;
        exception
            when foreign_key_violation then
                -- The user was deleted a moment ago.
                return;
        end;
    end if;

    -- One statement, so that credits, sequence and allowance are those of one moment.
    return query
    with places as (
        (
            select t.sequence, t.allowance_after::bigint, t.period_start
            from public.credit_transactions as t
            where t.user_id = p_user and t.sequence is not null
            order by t.sequence desc
            limit 1
        )
        union all
        select d.sequence, d.allowance_after, d.period_start
        from faregate.dead_letters as d
        where d.user_id = p_user and d.discarded_at is null and d.sequence is not null
    ),

    -- Pending until they are discarded: the live balance has them, and so has whoever follows it.
    kept as (
        select coalesce(sum(d.amount), 0) as total, coalesce(max(d.sequence), 0) as sequence
        from faregate.dead_letters as d
        where d.user_id = p_user and d.discarded_at is null
    )

    select
        (p.credits + k.total)::integer,
        greatest(p.credits_sequence, k.sequence),
        l.epoch,
        coalesce(a.allowance_after, 0)::integer,
        a.period_start
    from public.profiles as p
    cross join faregate.ledger as l
    cross join kept as k
    left join lateral (
        select places.allowance_after, places.period_start
        from places
        order by places.sequence desc
        limit 1
    ) as a on true
    where p.id = p_user;
end
$$;
comment on function faregate.open_user(uuid, boolean) is
'What the live ledger starts a user with, making what is missing; no row if there is no such user';

create or replace function faregate.mark_installed(p_epoch bigint) returns void
language sql
volatile
security definer
set search_path = ''
as $$
    update faregate.ledger set installed_at = now()
    where epoch = p_epoch and installed_at is null
$$;
comment on function faregate.mark_installed(bigint) is 'Notes that Redis has been given an epoch';

revoke all on function faregate.open_user(uuid, boolean)
from public, anon, authenticated, service_role;
revoke all on function faregate.mark_installed(bigint)
from public, anon, authenticated, service_role;

-- Verification.
do $$
begin
    if (
        select count(*)
        from pg_catalog.pg_trigger
        where
            tgrelid = 'public.profiles'::regclass
            and tgname in ('profiles_starting_credits', 'profiles_starting_row')
            and tgfoid in (
                'faregate.start_profile()'::regprocedure,
                'faregate.write_starting_row()'::regprocedure
            )
            and tgenabled in ('O', 'A')
    ) <> 2 then
        raise exception 'starting credits do not become transactions';
    end if;
end
$$;
