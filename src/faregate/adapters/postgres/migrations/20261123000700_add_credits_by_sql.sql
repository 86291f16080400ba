-- Adds credits by SQL: billing code orders a change of credits, and the worker makes it.
--
-- squawk-ignore-file prefer-bigint-over-int -- an amount is an INTEGER by contract

set local lock_timeout = '10s';
set local statement_timeout = '5min';

create table if not exists faregate.orders (
    id uuid primary key,
    user_id uuid not null references auth.users (id) on delete cascade,
    amount integer not null check (amount <> 0 and amount > -2147483648),
    type text not null check (type in ('add', 'admin_adjustment')),
    description text not null,
    metadata jsonb,
    ordered_at timestamptz not null default now(),
    due_at timestamptz not null default now(),
    refusal text check (
        refusal in ('out_of_credits', 'out_of_range', 'conflict', 'invalid', 'dead_letter')
    ),
    check (type = 'admin_adjustment' or amount > 0)
);
comment on table faregate.orders is
'Changes of credits that SQL has asked for: gone once they are rows; kept where they are refused';
comment on column faregate.orders.id is 'The id of the transaction that it becomes';
comment on column faregate.orders.due_at is 'When a worker sends it, or looks for its row again';
comment on column faregate.orders.refusal is 'Why it was not made; null while it waits';

create index if not exists orders_due_at on faregate.orders (due_at) where refusal is null;
-- For the deletion of a user, and its balance.
create index if not exists orders_user_id on faregate.orders (user_id);

alter table faregate.orders enable row level security;
drop policy if exists "The service role can view orders" on faregate.orders;
create policy "The service role can view orders" on faregate.orders
for select to service_role using (true);

-- What is wrong with an order: an argument and its rule, or null. The gate has the same rules.
create or replace function faregate.order_problem(
    p_amount integer, p_type text, p_description text, p_key text, p_metadata jsonb
)
returns text[]
language sql
immutable
set search_path = ''
as $$
    select case
        when coalesce(p_type not in ('add', 'admin_adjustment'), true)
            then array['type', 'It is add or admin_adjustment. A refund is made by the gate.']
        when coalesce(p_amount in (0, -2147483648) or (p_type = 'add' and p_amount < 0), true)
            then array['amount', 'It lies within 2147483647, is more than 0 to add, and never 0.']
        when coalesce(octet_length(p_description) > 1000 or btrim(p_description) = '', true)
            then array['description', 'It has 1 to 1000 bytes, and is not blank.']
        when octet_length(p_key) not between 1 and 255
            then array['idempotency_key', 'It has 1 to 255 bytes.']
        when
            jsonb_typeof(p_metadata) <> 'object'
            or octet_length(p_metadata::text) > 8192
            or jsonb_path_exists(
                p_metadata, 'strict $.**{32} ? (@.type() == "object" || @.type() == "array")'
            )
            then array['metadata', 'It is an object of at most 8192 bytes and 32 levels.']
        when p_type = 'admin_adjustment' and coalesce(btrim(p_metadata ->> 'actor'), '') = ''
            then array['metadata', 'It names as "actor" who makes an adjustment.']
    end
$$;
comment on function faregate.order_problem(integer, text, text, text, jsonb) is
'The argument of an order that is wrong, and its rule; null for none';

-- The arguments have no prefix, since they are for callers to name.
create or replace function faregate.add_credits(
    user_id uuid,
    amount integer,
    type text default 'add',
    description text default 'grant',
    idempotency_key text default null,
    metadata jsonb default null
)
returns uuid
language plpgsql
volatile
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    problem constant text[] := faregate.order_problem(
        amount, type, description, idempotency_key, metadata
    );
    order_id constant uuid := coalesce(
        faregate.derived_id('key:' || idempotency_key, user_id), gen_random_uuid()
    );
    is_new boolean;
    known record;
begin
    if problem is not null then
        raise exception 'add_credits: % is not valid', problem[1]
            using errcode = 'invalid_parameter_value', hint = problem[2];
    elsif not faregate.user_exists(user_id) then
        raise exception 'add_credits: there is no user %', user_id
            using errcode = 'foreign_key_violation',
            hint = 'Insert the user into auth.users before.';
    end if;

    loop
        -- Who comes second with a key waits here for the transaction of the first.
        insert into faregate.orders (id, user_id, amount, type, description, metadata)
        values (order_id, user_id, amount, type, description, metadata)
        on conflict (id) do nothing;
        is_new := found;
        if idempotency_key is null then
            return order_id;
        end if;
        -- Looked for only now: an order goes when its row is there.
        select t.amount, t.type into known
        from public.credit_transactions as t
        where t.id = order_id;
        if found then
            delete from faregate.orders as o where o.id = order_id and is_new;
            exit;
        elsif is_new then
            return order_id;
        end if;
        select o.amount, o.type into known from faregate.orders as o where o.id = order_id;
        exit when found;
    end loop;

    if known.amount <> amount or known.type <> type then
        raise exception 'add_credits: the key % is known with another amount or type', idempotency_key
            using errcode = 'unique_violation', hint = 'Another payment needs another key.';
    end if;
    -- One that was refused is tried again.
    update faregate.orders as o set refusal = null, due_at = now()
    where o.id = order_id and o.refusal is not null;
    return order_id;
end
$$;
comment on function faregate.add_credits(uuid, integer, text, text, text, jsonb) is
'Orders a change of credits, once for a key of the user; returns the id of the transaction';

create or replace function faregate.balance(user_id uuid)
returns table (credits integer, waiting bigint)
language sql
stable
security definer
set search_path = ''
as $$
    select
        p.credits,
        (
            select coalesce(sum(o.amount), 0)::bigint
            from faregate.orders as o
            where
                o.user_id = p.id
                and o.refusal is null
                and not exists (select from public.credit_transactions as t where t.id = o.id)
        ) as waiting
    from public.profiles as p
    where p.id = balance.user_id
$$;
comment on function faregate.balance(uuid) is
'The credits of a user by its rows, and the sum of orders that are not rows yet';

-- Finishes orders whose rows are there, and returns those that a worker is to send. It may have sent
-- them before: whether it has, is for the ledger to know, which makes each id once. Where that has no
-- answer, or the worker dies, the order is due again.
create or replace function faregate.take_orders(p_count_max integer)
returns setof faregate.orders
language sql
volatile
security definer
set search_path = ''
as $$
    with due as (
        select
            o.id,
            exists (select from public.credit_transactions as t where t.id = o.id) as is_row,
            exists (
                select from faregate.dead_letters as l
                where l.user_id = o.user_id and l.transaction_id = o.id
            ) as is_dead_letter
        from faregate.orders as o
        where o.refusal is null and o.due_at <= now()
        order by o.due_at
        limit p_count_max
        for update of o skip locked
    ),

    finished as (
        delete from faregate.orders as o using due where o.id = due.id and due.is_row
    ),

    taken as (
        update faregate.orders as o
        set
            refusal = case when due.is_dead_letter then 'dead_letter' end,
            due_at = now() + greatest(
                least((now() - o.ordered_at) / 2, interval '1 minute'), interval '1 second'
            )
        from due
        where o.id = due.id and not due.is_row
        returning o.*
    )

    select * from taken where refusal is null
$$;
comment on function faregate.take_orders(integer) is
'Orders to be sent now; those that are rows are finished';

-- An order that was taken again since is left to who did that.
create or replace function faregate.refuse_orders(
    p_ids uuid[], p_due_at timestamptz[], p_refusals text[]
) returns void
language sql
volatile
security definer
set search_path = ''
as $$
    update faregate.orders as o
    set refusal = r.refusal
    from unnest(p_ids, p_due_at, p_refusals) as r (id, due_at, refusal)
    where o.id = r.id and o.due_at = r.due_at
$$;
comment on function faregate.refuse_orders(uuid[], timestamptz[], text[]) is
'Notes why orders were not made';

create or replace function faregate.count_orders()
returns table (waiting bigint, oldest_s double precision, refused bigint)
language sql
stable
security definer
set search_path = ''
as $$
    select
        count(*) filter (where o.refusal is null) as waiting,
        round(coalesce(
            extract(epoch from now() - min(o.ordered_at) filter (where o.refusal is null)), 0
        ), 1)::double precision as oldest_s,
        count(*) filter (where o.refusal is not null) as refused
    from faregate.orders as o
    where not exists (select from public.credit_transactions as t where t.id = o.id)
$$;
comment on function faregate.count_orders() is
'How many orders wait, for how many seconds the oldest has, and how many were refused';

revoke all on faregate.orders from public, anon, authenticated, service_role;
revoke all on function faregate.order_problem(integer, text, text, text, jsonb)
from public, anon, authenticated, service_role;
revoke all on function faregate.add_credits(uuid, integer, text, text, text, jsonb)
from public, anon, authenticated, service_role;
revoke all on function faregate.balance(uuid) from public, anon, authenticated, service_role;
revoke all on function faregate.take_orders(integer) from public, anon, authenticated, service_role;
revoke all on function faregate.refuse_orders(uuid[], timestamptz[], text[])
from public, anon, authenticated, service_role;
revoke all on function faregate.count_orders() from public, anon, authenticated, service_role;

-- The service role is who runs billing code on Supabase.
grant usage on schema faregate to service_role;
grant select on faregate.orders to service_role;
grant execute on function faregate.add_credits(uuid, integer, text, text, text, jsonb)
to service_role;
grant execute on function faregate.balance(uuid) to service_role;

do $$
begin
    if to_regrole('faregate_api') is not null then
        grant execute on function faregate.add_credits(uuid, integer, text, text, text, jsonb)
        to faregate_api;
        grant execute on function faregate.balance(uuid) to faregate_api;
    end if;
    if to_regrole('faregate_worker') is not null then
        grant execute on function faregate.take_orders(integer) to faregate_worker;
        grant execute on function faregate.refuse_orders(uuid[], timestamptz[], text[])
        to faregate_worker;
        grant execute on function faregate.count_orders() to faregate_worker;
    end if;
end
$$;

-- Verification.
do $$
begin
    if exists (
        select
        from unnest(array['anon', 'authenticated']) as role_name
        where
            has_function_privilege(
                role_name,
                'faregate.add_credits(uuid, integer, text, text, text, jsonb)',
                'execute'
            )
            or has_any_column_privilege(role_name, 'faregate.orders', 'select, insert, update')
    ) then
        raise exception 'users may order credits';
    end if;
end
$$;
