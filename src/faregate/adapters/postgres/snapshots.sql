-- Rows and dead letters of one snapshot, to measure the drift of live balances.

-- name: read_epoch
-- The epoch of the ledger.
select epoch from faregate.ledger;

-- name: sum_ledgers
-- For each user with a profile or a row: the sum of rows and of dead letters that count as rows,
-- and their highest number. Rows that are older than allowances add nothing to the allowance.
with entries as (
    select
        user_id,
        amount,
        allowance_amount,
        sequence,
        epoch,
        period_start
    from public.credit_transactions
    where user_id = any(%(user_ids)s::uuid[])
    union all
    select
        user_id,
        amount,
        allowance_amount,
        sequence,
        epoch,
        period_start
    from faregate.dead_letters
    where
        user_id = any(%(user_ids)s::uuid[])
        and discarded_at is null
),

totals as (
    select
        user_id,
        sum(amount) as credits,
        sum(allowance_amount) as allowance_left,
        max(sequence) as sequence_max,
        max(epoch) as epoch_max,
        max(period_start) as period_start
    from entries
    group by user_id
)

select
    u.user_id,
    coalesce(t.credits, 0)::bigint as credits,
    coalesce(t.allowance_left, 0)::bigint as allowance_left,
    coalesce(t.sequence_max, 0)::bigint as sequence_max,
    coalesce(t.epoch_max, 0)::bigint as epoch_max,
    coalesce(extract(epoch from t.period_start) * 1000, 0)::bigint as period_start_ms
from unnest(%(user_ids)s::uuid[]) as u (user_id)
left join faregate.balances as b on u.user_id = b.user_id
left join totals as t on u.user_id = t.user_id
where
    b.user_id is not null
    or t.user_id is not null;

-- name: find_known_copies
-- The records of a stream that are rows or dead letters, and whether they count. A record that was
-- made again after Redis lost it is known by its id, whatever its number and amount.
with copies as (
    select
        stream_id,
        id,
        user_id,
        amount,
        transaction_type,
        place,
        epoch
    from unnest(
        %(stream_ids)s::text[], %(ids)s::uuid[], %(user_ids)s::uuid[], %(amounts)s::integer[],
        %(types)s::text[], %(sequences)s::bigint[], %(epochs)s::bigint[]
    ) as c (stream_id, id, user_id, amount, transaction_type, place, epoch)
),

known as (
    select
        c.stream_id,
        true as is_counted
    from copies as c
    inner join public.credit_transactions as t
        on
            c.id = t.id
            and c.user_id = t.user_id
            and c.amount = t.amount
            and c.transaction_type = t.type
            and c.place = t.sequence
            and c.epoch = t.epoch
    union all
    select
        c.stream_id,
        d.discarded_at is null as is_counted
    from copies as c
    inner join faregate.dead_letters as d
        on
            c.user_id = d.user_id
            and (
                c.stream_id = d.stream_id
                or (c.id = d.transaction_id and c.place = d.sequence and c.epoch = d.epoch)
            )
    union all
    select
        c.stream_id,
        true as is_counted
    from copies as c
    inner join faregate.lost_records as r
        on
            c.id = r.transaction_id
            and c.user_id = r.user_id
    where r.is_named
)

select
    stream_id,
    bool_or(is_counted) as is_counted
from known
group by stream_id;

-- name: find_lost
-- Transactions that a live account does not contain: sequences beyond its own, those of pending
-- records, and those that a newer transaction has, too. Records newer than the account are left
-- out.
with entries as (
    select
        id,
        sequence,
        amount,
        timestamp as made_at
    from public.credit_transactions
    where
        user_id = %(user_id)s::uuid
        and sequence is not null
    union all
    select
        transaction_id,
        sequence,
        amount,
        created_at
    from faregate.dead_letters
    where
        user_id = %(user_id)s::uuid
        and transaction_id is not null
        and sequence is not null
        and discarded_at is null
),

placed as (
    select
        id,
        sequence,
        amount,
        row_number() over (partition by sequence order by made_at desc, id desc) as place
    from entries
    where id <> all(%(later_ids)s::uuid[])
)

select
    id,
    sequence,
    amount
from placed
where
    place > 1
    or sequence > %(sequence_reached)s::bigint
    or sequence between %(pending_first)s::bigint and %(pending_last)s::bigint
order by sequence desc, id desc
limit %(lost_max)s::integer;
