-- Adds what each transaction changed of its user's allowance; older rows keep nulls there.
--
-- squawk-ignore-file prefer-bigint-over-int -- a balance is an INTEGER by contract

set local lock_timeout = '10s';
set local statement_timeout = '30min';

-- Not granted to service_role, whose right to insert names its columns: a row made by hand has no
-- allowance. The worker's right covers the whole table.
alter table public.credit_transactions add column if not exists allowance_amount integer;
alter table public.credit_transactions add column if not exists allowance_after integer;
alter table public.credit_transactions add column if not exists period_start timestamptz;
comment on column public.credit_transactions.allowance_amount is
'The part of amount that concerned the allowance; null in rows older than allowances';
comment on column public.credit_transactions.allowance_after is
'What was left of the user''s allowance after this change';
comment on column public.credit_transactions.period_start is
'When the period of that allowance began; null for a user who never had one';

do $$
begin
    if not exists (
        select
        from pg_catalog.pg_constraint
        where
            conrelid = 'public.credit_transactions'::regclass
            and conname = 'credit_transactions_allowance_check'
    ) then
        alter table public.credit_transactions
        add constraint credit_transactions_allowance_check check (
            num_nonnulls(allowance_amount, allowance_after) = 2
            or num_nonnulls(allowance_amount, allowance_after, period_start) = 0
        ) not valid;
    end if;
end
$$;

alter table public.credit_transactions validate constraint credit_transactions_allowance_check;

-- A dead letter moved the live balance, and a rebuilt ledger goes on from there: so it keeps what
-- it says of the allowance, too.
alter table faregate.dead_letters add column if not exists allowance_amount bigint;
alter table faregate.dead_letters add column if not exists allowance_after bigint;
alter table faregate.dead_letters add column if not exists period_start timestamptz;

-- First sight of a user by the live ledger. Beside faregate.open_user, and not in its place: what a
-- function returns cannot be replaced, and a migration before this one may be run again.
create or replace function faregate.open_balance(p_user uuid, p_provision boolean)
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
    perform from faregate.open_user(p_user, p_provision);

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
comment on function faregate.open_balance(uuid, boolean) is
'What the live ledger starts a user with, making what is missing; no row if there is no such user';

revoke all on function faregate.open_balance(uuid, boolean)
from public, anon, authenticated, service_role;

do $$
declare
    role_name text;
begin
    foreach role_name in array array['faregate_api', 'faregate_worker'] loop
        if to_regrole(role_name) is not null then
            execute format(
                'grant execute on function faregate.open_balance(uuid, boolean) to %I', role_name
            );
        end if;
    end loop;
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
        ('allowance_amount', 'integer'),
        ('allowance_after', 'integer'),
        ('period_start', 'timestamp with time zone')
    ) as expected (column_name, type_name)
    left join pg_catalog.pg_attribute as a
        on
            a.attrelid = 'public.credit_transactions'::regclass
            and a.attname = expected.column_name
            and not a.attisdropped
            and format_type(a.atttypid, a.atttypmod) = expected.type_name
            and not a.attnotnull
    where a.attname is null;
    if wrong is not null then
        raise exception 'missing, or of another type: %', wrong;
    end if;

    select string_agg(column_name, ', ') into wrong
    from unnest(array['allowance_amount', 'allowance_after', 'period_start']) as column_name
    where has_column_privilege(
        'service_role', 'public.credit_transactions', column_name, 'insert'
    );
    if wrong is not null then
        raise exception 'service_role may insert %', wrong;
    end if;

    select string_agg(role_name, ', ') into wrong
    from unnest(array['faregate_api', 'faregate_worker']) as role_name
    where
        to_regrole(role_name) is not null
        and not has_function_privilege(
            to_regrole(role_name)::oid, 'faregate.open_balance(uuid, boolean)', 'execute'
        );
    if wrong is not null then
        raise exception 'faregate.open_balance is closed to %', wrong;
    end if;

    if exists (
        select
        from unnest(array['anon', 'authenticated', 'service_role']) as role_name
        where has_function_privilege(role_name, 'faregate.open_balance(uuid, boolean)', 'execute')
    ) then
        raise exception 'faregate.open_balance is open to the roles of the API';
    end if;
end
$$;
