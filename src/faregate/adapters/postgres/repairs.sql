-- The statements of `faregate repair`, in the role of the owner. Parameters are written %(name)s.

-- name: hold_repairs
-- One repair at a time, until the transaction ends.
select pg_try_advisory_xact_lock(%(namespace)s::integer, -1) as is_held;

-- name: lock_user
-- Locks the shard of a user until the transaction ends; `keys.shard_of` computes the same shard.
select pg_advisory_xact_lock(
    %(namespace)s::integer,
    mod(
        get_byte(uuid_send(%(user_id)s::uuid), 14) * 256
        + get_byte(uuid_send(%(user_id)s::uuid), 15),
        l.shard_count
    )
) as is_locked
from faregate.ledger as l;

-- name: begin_repair
-- Notes that a step begins.
insert into faregate.repairs (
    event_id, finding_id, kind, user_id, sequence, action, amount,
    detail, actor, reason, deadline_at
)
values (
    %(event_id)s, %(finding_id)s, %(kind)s, %(user_id)s, %(sequence)s, %(action)s, %(amount)s,
    %(detail)s, %(actor)s, %(reason)s, %(deadline_at)s
);

-- name: end_repair
-- Notes that a step has ended, with the leaves of the rows that it stored or registered.
update faregate.repairs
set
    ended_at = now(),
    leaves = %(leaves)s,
    sequence = coalesce(%(sequence)s, sequence),
    balance_before = %(balance_before)s,
    balance_after = %(balance_after)s
where event_id = %(event_id)s;

-- name: acknowledge
-- Acknowledges a finding. The first acknowledgement of a finding stays.
insert into faregate.acknowledgements (
    finding_id, kind, user_id, sequence, detail, actor, reason
)
values (
    %(finding_id)s, %(kind)s, %(user_id)s, %(sequence)s, %(detail)s, %(actor)s, %(reason)s
)
on conflict (finding_id) do nothing;

-- name: end_acceptances
-- Deletes acknowledgements of a balance that is correct now, since a new fault may have the same
-- id.
delete from faregate.acknowledgements
where
    user_id = %(user_id)s::uuid
    and kind = any(%(kinds)s::text[]);

-- name: read_credits
-- The durable balance of a user, and its number.
select
    credits,
    credits_sequence
from faregate.balances
where user_id = %(user_id)s::uuid;

-- name: make_profile
-- Makes a missing profile; its trigger gives it the sum of the rows.
insert into public.profiles (id)
values (%(user_id)s)
on conflict (id) do nothing;

-- name: recompute
-- Sets a durable balance to the sum of the user's rows. Its number goes back only if `rewinds`.
update faregate.balances as b
set
    credits = t.credits,
    credits_sequence = case
        when %(rewinds)s::boolean then t.sequence_max
        else greatest(b.credits_sequence, t.sequence_max)
    end
from (
    select
        coalesce(sum(amount), 0)::integer as credits,
        coalesce(max(sequence), 0) as sequence_max
    from public.credit_transactions
    where user_id = %(user_id)s::uuid
) as t
where b.user_id = %(user_id)s::uuid
returning b.credits;

-- name: read_around
-- The context of some sequences of a user: the row before and the row after, the amounts of dead
-- letters, the sum of older rows, the profile, and the sum of all rows.
with asked as (
    select
        %(user_id)s::uuid as user_id,
        %(first)s::bigint as first_number,
        %(last)s::bigint as last_number
),

around as (
    select
        a.user_id,
        (
            select to_jsonb(t) - 'created_at'
            from public.credit_transactions as t
            where
                t.user_id = a.user_id
                and t.sequence < a.first_number
            order by t.sequence desc, t.epoch desc
            limit 1
        ) as row_before,
        (
            select to_jsonb(t) - 'created_at'
            from public.credit_transactions as t
            where
                t.user_id = a.user_id
                and t.sequence > a.last_number
            order by t.sequence, t.epoch
            limit 1
        ) as row_after
    from asked as a
),

moves as (
    select
        d.user_id,
        d.sequence,
        d.amount
    from faregate.dead_letters as d
    where
        d.user_id = %(user_id)s::uuid
        and d.sequence is not null
        and not exists (
            select 1
            from public.credit_transactions as t
            where
                t.user_id = d.user_id
                and t.sequence = d.sequence
        )
)

select
    a.row_before,
    a.row_after,
    b.credits,
    b.credits_sequence,
    coalesce((
        select jsonb_agg(jsonb_build_array(m.sequence, m.amount))
        from moves as m
    ), '[]') as moves,
    coalesce((
        select sum(r.amount)
        from faregate.repairs as r
        where
            r.user_id = a.user_id
            and r.action = 'open'
    ), 0)::bigint as opening,
    coalesce((
        select sum(t.amount)
        from public.credit_transactions as t
        where t.user_id = a.user_id
    ), 0)::bigint as row_total
from around as a
left join faregate.balances as b on a.user_id = b.user_id;

-- name: read_row
-- A row as it is now.
select to_jsonb(t) - 'created_at' as content
from public.credit_transactions as t
where t.id = %(id)s::uuid;

-- name: prove_rows
-- For possible rows: their leaves, and whether a batch wrote such a row.
with asked as (
    select
        r.*,
        a.place
    from jsonb_array_elements(%(rows)s::jsonb) with ordinality as a (content, place)
    cross join lateral jsonb_populate_record(null::public.credit_transactions, a.content) as r
),

leaves as (
    select
        t.place,
        leaf_of(t) as leaf
    from asked as t
),

-- A join instead of a lookup for each row, since there is a leaf for each row ever written.
proven as (
    select distinct l.leaf
    from faregate.batches as b
    cross join lateral generate_series(0, octet_length(b.leaves) / 16 - 1) as n (place)
    inner join leaves as l on substr(b.leaves, 16 * n.place + 1, 16) = l.leaf
)

select
    l.leaf,
    p.leaf is not null as is_proven
from leaves as l
left join proven as p on l.leaf = p.leaf
order by l.place;

-- name: store_rows
-- Inserts rows, and returns them. A row whose id or sequence exists by now is left out, since it
-- was planned before the user was locked.
insert into public.credit_transactions (
    id, user_id, amount, type, description, metadata, timestamp,
    sequence, balance_after, epoch, refund_of, allowance_amount, allowance_after, period_start
)
select
    r.id,
    r.user_id,
    r.amount,
    r.type,
    r.description,
    r.metadata,
    r.timestamp,
    r.sequence,
    r.balance_after,
    r.epoch,
    r.refund_of,
    r.allowance_amount,
    r.allowance_after,
    r.period_start
from jsonb_populate_recordset(null::public.credit_transactions, %(rows)s::jsonb) as r
where
    not exists (
        select 1
        from public.credit_transactions as t
        where
            t.user_id = r.user_id
            and t.sequence = r.sequence
    )
on conflict (id) do nothing
returning id;

-- name: sees_own_rows
-- Whether row level security keeps this role from changing rows.
select row_security_active('public.credit_transactions') as is_restricted;

-- name: unlock_security
-- Lets the owner change rows until the end of the transaction; other sessions do not see this.
alter table public.credit_transactions no force row level security;

-- name: lock_security
-- Ends that.
alter table public.credit_transactions force row level security;

-- name: unlock_rows
-- Disables the guards of rows until the end of the transaction; other sessions do not see this.
alter table public.credit_transactions disable trigger credit_transactions_immutable;

-- name: lock_rows
-- Ends that.
alter table public.credit_transactions enable trigger credit_transactions_immutable;

-- name: check_constraints
-- Checks the foreign key now, and not at the end of the statement: then no trigger is pending.
set constraints all immediate;

-- name: restore_row
-- Restores the former content of a row.
update public.credit_transactions as t
set
    id = r.id,
    user_id = r.user_id,
    amount = r.amount,
    type = r.type,
    description = r.description,
    metadata = r.metadata,
    timestamp = r.timestamp,
    sequence = r.sequence,
    balance_after = r.balance_after,
    epoch = r.epoch,
    refund_of = r.refund_of,
    allowance_amount = r.allowance_amount,
    allowance_after = r.allowance_after,
    period_start = r.period_start
from jsonb_populate_recordset(null::public.credit_transactions, %(rows)s::jsonb) as r
where t.id = %(row_id)s::uuid;
