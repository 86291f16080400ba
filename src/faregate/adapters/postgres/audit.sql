-- Read-only queries of operators: whether the numbers agree. Each `find_...` takes some users, or
-- null for all. Postgres moves that condition into the subqueries, since each of their windows and
-- groups belongs to one user.

-- name: list_users
-- The next users by id: all that have a profile or a row. The list of users with rows skips from
-- user to user along the index, independent of the number of their rows.
with recursive row_users as (
    (
        select
            user_id,
            1 as place
        from public.credit_transactions
        where user_id > %(after)s::uuid
        order by user_id
        limit 1
    )
    union all
    select
        (
            select t.user_id
            from public.credit_transactions as t
            where t.user_id > r.user_id
            order by t.user_id
            limit 1
        ) as user_id,
        r.place + 1 as place
    from row_users as r
    where
        r.user_id is not null
        and r.place < %(count_max)s::integer
)

(
    select user_id
    from faregate.balances
    where user_id > %(after)s::uuid
    order by user_id
    limit %(count_max)s::integer
)
union
(
    select user_id
    from row_users
    where user_id is not null
)
order by user_id
limit %(count_max)s::integer;

-- name: list_users_since
-- Of the users that have a profile, the next ones by id with a row since some time.
select b.user_id
from faregate.balances as b
where
    b.user_id > %(after)s::uuid
    and exists (
        select 1
        from public.credit_transactions as t
        where
            t.user_id = b.user_id
            and t.timestamp >= %(since)s::timestamptz
    )
order by b.user_id
limit %(count_max)s::integer;

-- name: estimate_users
-- The estimated number of profiles, from the last ANALYZE; -1 before the first.
select c.reltuples::bigint as users
from pg_catalog.pg_class as c
where c.oid = 'public.profiles'::regclass;

-- name: read_reached
-- The last sequence and epoch in the rows of users.
select
    b.user_id,
    b.credits,
    b.credits_sequence as sequence_max,
    coalesce(
        (
            select t.epoch
            from public.credit_transactions as t
            where
                t.user_id = b.user_id
                and t.sequence = b.credits_sequence
            order by t.epoch desc
            limit 1
        ), 0
    ) as epoch
from faregate.balances as b
where b.user_id = any(%(user_ids)s::uuid[]);

-- name: sum_users
-- For each user that has a profile or a row: the profile, the sum of the rows, and the expected
-- live balance at a given sequence (null without one): the sum of rows and dead letters up to
-- there, and of stream copies that are neither.
with reached as (
    select
        user_id,
        sequence_max
    from unnest(
        %(user_ids)s::uuid[], %(sequences)s::bigint[]
    ) as r (user_id, sequence_max)
),

row_sums as (
    select
        t.user_id,
        count(*) as row_count,
        sum(t.amount) as total,
        coalesce(sum(t.amount) filter (
            where t.sequence is null or t.sequence <= r.sequence_max
        ), 0) as total_reached
    from reached as r
    inner join public.credit_transactions as t on r.user_id = t.user_id
    group by t.user_id
),

dead_letter_sums as (
    select
        d.user_id,
        sum(d.amount) as total_reached
    from reached as r
    inner join faregate.dead_letters as d on r.user_id = d.user_id
    where
        d.discarded_at is null
        and d.sequence <= r.sequence_max
    group by d.user_id
),

copies as (
    select distinct on (user_id, stream_id)
        stream_id,
        id,
        user_id,
        amount,
        transaction_type,
        place,
        epoch
    from unnest(
        %(copy_stream_ids)s::text[], %(copy_ids)s::uuid[], %(copy_user_ids)s::uuid[],
        %(copy_amounts)s::integer[], %(copy_types)s::text[], %(copy_sequences)s::bigint[],
        %(copy_epochs)s::numeric[]
    ) as c (stream_id, id, user_id, amount, transaction_type, place, epoch)
),

-- A dead letter counts as such, and if it was discarded not at all; its copy never counts. Neither
-- does a record that was made again after Redis lost it.
copy_sums as (
    select
        c.user_id,
        sum(c.amount) as total_reached
    from copies as c
    where
        not exists (
            select 1
            from public.credit_transactions as t
            where
                t.id = c.id
                and t.user_id = c.user_id
                and t.amount = c.amount
                and t.type = c.transaction_type
                and t.sequence = c.place
                and t.epoch = c.epoch
        )
        and not exists (
            select 1
            from faregate.dead_letters as d
            where
                d.user_id = c.user_id
                and (
                    d.stream_id = c.stream_id
                    or (
                        d.transaction_id = c.id
                        and d.sequence = c.place
                        and d.epoch = c.epoch
                    )
                )
        )
        and not exists (
            select 1
            from faregate.lost_records as r
            where
                r.transaction_id = c.id
                and r.user_id = c.user_id
                and r.is_named
        )
    group by c.user_id
)

select
    r.user_id,
    b.credits,
    b.credits_sequence,
    coalesce(t.total, 0) as row_total,
    coalesce(t.total_reached, 0)
    + coalesce(d.total_reached, 0)
    + coalesce(c.total_reached, 0) as live_total
from reached as r
left join faregate.balances as b on r.user_id = b.user_id
left join row_sums as t on r.user_id = t.user_id
left join dead_letter_sums as d on r.user_id = d.user_id
left join copy_sums as c on r.user_id = c.user_id
where
    b.user_id is not null
    or t.row_count > 0
order by r.user_id;

-- name: read_acknowledgements
-- Acknowledgements of findings.
select
    finding_id,
    actor,
    reason,
    acknowledged_at
from faregate.acknowledgements;

-- name: find_gaps
-- Sequences that are missing in a user's history. A dead letter has its sequence, discarded or not.
-- The sequence after that of the profile shows whether the last rows exist.
with numbered as (
    select
        user_id,
        sequence
    from public.credit_transactions
    where sequence is not null
    union
    select
        d.user_id,
        d.sequence
    from faregate.dead_letters as d
    inner join faregate.balances as b on d.user_id = b.user_id
    where d.sequence is not null
    union
    select
        user_id,
        credits_sequence + 1 as sequence
    from faregate.balances
    where credits_sequence is not null
),

spaced as (
    select
        user_id,
        sequence,
        lag(sequence, 1, 0::bigint) over (partition by user_id order by sequence) as previous
    from numbered
)

select
    user_id,
    previous + 1 as place,
    sequence - 1 as last_missing
from spaced
where
    sequence > previous + 1
    and (%(user_ids)s::uuid[] is null or user_id = any(%(user_ids)s::uuid[]))
order by user_id, sequence
limit %(findings_max)s::integer;

-- name: find_forks
-- Sequences that occur more than once in a user's history, with different content. A fork explains
-- them if all but one are of records that Redis lost.
with entries as (
    select
        user_id,
        sequence,
        id,
        amount,
        epoch
    from public.credit_transactions
    where sequence is not null
    union
    select
        d.user_id,
        d.sequence,
        d.transaction_id,
        d.amount,
        d.epoch
    from faregate.dead_letters as d
    inner join faregate.balances as b on d.user_id = b.user_id
    where
        d.sequence is not null
        and d.discarded_at is null
),

repeated as (
    select
        user_id,
        sequence,
        count(*) as entry_count,
        array_agg(id order by epoch, id) as ids
    from entries
    where (%(user_ids)s::uuid[] is null or user_id = any(%(user_ids)s::uuid[]))
    group by user_id, sequence
    having count(*) > 1
)

select
    e.user_id,
    e.sequence as place,
    e.entry_count,
    e.ids,
    l.fork_id,
    f.shard,
    f.noticed_at,
    e.entry_count - l.kept_count <= 1 as is_explained
from repeated as e
cross join lateral (
    select
        max(r.fork_id) as fork_id,
        count(distinct r.transaction_id) as kept_count
    from faregate.lost_records as r
    where
        r.transaction_id = any(e.ids)
        and r.user_id = e.user_id
        and r.is_named
) as l
left join faregate.forks as f on l.fork_id = f.id
order by is_explained, e.user_id, e.sequence
limit %(findings_max)s::integer;

-- name: find_breaks
-- Balances that do not follow from the one before. The balance after a row is the initial balance
-- of the user plus all amounts up to that row. So the difference of the two, the start, is the same
-- for all rows of a user. Dead letters changed the balance, too. A gap or a fork of sequences is a
-- finding of its own, and the chain continues after it. If a repair has corrected a live balance,
-- the next row follows the corrected balance.
with openings as (
    select
        user_id,
        sum(amount) as total
    from faregate.repairs
    where action = 'open'
    group by user_id
),

entries as (
    select
        user_id,
        sequence,
        sequence as numbered,
        amount,
        balance_after
    from public.credit_transactions
    where sequence is not null
    union all
    select
        user_id,
        sequence,
        null::bigint as numbered,
        0 as amount,
        (case action when 'record' then balance_after - amount else balance_after end)::integer
            as balance_after
    from faregate.repairs
    where
        action in ('correct', 'record')
        and ended_at is not null
        and balance_after is not null
    union all
    (
        select distinct on (d.user_id, d.sequence)
            d.user_id,
            d.sequence,
            d.sequence as numbered,
            d.amount,
            null::integer as balance_after
        from faregate.dead_letters as d
        where
            d.sequence is not null
            and (
                -- Made again after Redis lost it, perhaps with the sequence of a row.
                (d.kind = 'fork' and d.outcome = 'discarded')
                or not exists (
                    select 1
                    from public.credit_transactions as t
                    where
                        t.user_id = d.user_id
                        and t.sequence = d.sequence
                )
            )
        order by d.user_id, d.sequence, d.id
    )
),

summed as (
    select
        user_id,
        sequence,
        numbered,
        balance_after,
        balance_after - sum(amount) over (partition by user_id order by sequence) as start,
        count(numbered) over (partition by user_id, sequence) as times,
        sequence - count(numbered) over (partition by user_id order by sequence) as missing
    from entries
),

chained as (
    select
        s.user_id,
        s.sequence,
        s.numbered,
        s.balance_after,
        s.start,
        s.missing,
        lag(s.start, 1, coalesce(o.total, 0)::numeric) over w as start_previous,
        lag(s.missing, 1, 0::bigint) over w as missing_previous
    from summed as s
    left join openings as o on s.user_id = o.user_id
    where
        s.balance_after is not null
        and s.times <= 1
    window w as (partition by s.user_id order by s.sequence, s.numbered nulls last)
)

select
    user_id,
    sequence as place,
    balance_after as found,
    balance_after - start + start_previous as expected
from chained
where
    numbered is not null
    and start <> start_previous
    and missing = missing_previous
    and (%(user_ids)s::uuid[] is null or user_id = any(%(user_ids)s::uuid[]))
order by user_id, sequence
limit %(findings_max)s::integer;

-- name: find_allowance_breaks
-- Allowances that do not follow from the one before. The allowance after a row is that after the
-- row or dead letter before it, plus the row's part; rows older than allowances have 0. A gap or a
-- fork of sequences is a finding of its own, and the chain continues after it. It also continues
-- anew after a repair that has corrected a live balance.
with entries as (
    select
        user_id,
        sequence,
        allowance_amount,
        allowance_after
    from public.credit_transactions
    where sequence is not null
    union all
    (
        select distinct on (d.user_id, d.sequence)
            d.user_id,
            d.sequence,
            null::integer as allowance_amount,
            d.allowance_after
        from faregate.dead_letters as d
        where
            d.sequence is not null
            and not exists (
                select 1
                from public.credit_transactions as t
                where
                    t.user_id = d.user_id
                    and t.sequence = d.sequence
            )
        order by d.user_id, d.sequence, d.id
    )
),

chained as (
    select
        user_id,
        sequence,
        allowance_amount,
        allowance_after,
        lag(sequence, 1, 0::bigint) over w as previous,
        coalesce(lag(allowance_after) over w, 0) as left_before,
        count(*) over (
            partition by user_id order by sequence range between 1 preceding and current row
        ) as near_count
    from entries
    window w as (partition by user_id order by sequence)
)

select
    c.user_id,
    c.sequence as place,
    c.allowance_after as found,
    c.left_before + c.allowance_amount as expected
from chained as c
where
    c.allowance_amount is not null
    and c.sequence = c.previous + 1
    and c.near_count <= 2
    and c.allowance_after <> c.left_before + c.allowance_amount
    and not exists (
        select 1
        from faregate.repairs as r
        where
            r.user_id = c.user_id
            and r.sequence = c.previous
            and r.action = 'correct'
            and r.ended_at is not null
    )
    and (%(user_ids)s::uuid[] is null or c.user_id = any(%(user_ids)s::uuid[]))
order by c.user_id, c.sequence
limit %(findings_max)s::integer;

-- name: find_refunds
-- Deducts whose refunds exceed them; a missing deduct counts as 0.
with given as (
    select
        user_id,
        refund_of,
        amount
    from public.credit_transactions
    where
        type = 'refund'
        and sequence is not null
    union all
    select
        d.user_id,
        d.refund_of,
        d.amount
    from faregate.dead_letters as d
    inner join faregate.balances as b on d.user_id = b.user_id
    where
        d.type = 'refund'
        and d.discarded_at is null
),

refunds as (
    select
        user_id,
        refund_of,
        sum(amount) as total
    from given
    group by user_id, refund_of
),

taken as (
    select
        r.user_id,
        r.refund_of,
        r.total,
        coalesce(
            (
                select -t.amount
                from public.credit_transactions as t
                where
                    t.id = r.refund_of
                    and t.user_id = r.user_id
                    and t.type = 'deduct'
            ),
            (
                select max(-d.amount)
                from faregate.dead_letters as d
                where
                    d.transaction_id = r.refund_of
                    and d.user_id = r.user_id
                    and d.type = 'deduct'
            ),
            0
        ) as amount
    from refunds as r
)

select
    user_id,
    refund_of,
    amount as expected,
    total as found
from taken
where
    total > amount
    and (%(user_ids)s::uuid[] is null or user_id = any(%(user_ids)s::uuid[]))
order by user_id, refund_of
limit %(findings_max)s::integer;

-- name: find_forged
-- Rows that no batch wrote as they are now. Each row belongs to a batch, except the first row of a
-- user, the starting credits, of epoch 0. That row is a finding if it has any other content, or if
-- its amount is neither that of the ledger nor confirmed by the row after it. Repairs store the
-- leaves of their rows themselves.
with noted as (
    select leaves
    from faregate.batches
    union all
    select leaves
    from faregate.repairs
    where ended_at is not null
),

leaves as (
    select substr(b.leaves, 16 * n.place + 1, 16) as leaf
    from noted as b
    cross join lateral generate_series(0, octet_length(b.leaves) / 16 - 1) as n (place)
),

written as (
    select
        t.id,
        t.user_id,
        t.sequence,
        leaf_of(t) as leaf
    from public.credit_transactions as t
    where
        t.epoch > 0
        or t.sequence > 1
        or t.sequence is null
        or t.description not in ('starting credits', 'opening balance')
        or t.metadata is not null
        or t.refund_of is not null
        or (
            -- By a subquery, since Postgres assumes that a table without statistics is large.
            t.amount <> (
                select l.starting_credits
                from faregate.ledger as l
            )
            and exists (
                select 1
                from public.credit_transactions as n
                where
                    n.user_id = t.user_id
                    and n.sequence = 2
                    and n.balance_after - n.amount <> t.balance_after
            )
        )
)

select
    w.id,
    w.user_id,
    w.sequence as place,
    w.leaf
from written as w
where
    not exists (
        select 1
        from leaves as l
        where l.leaf = w.leaf
    )
    and (%(user_ids)s::uuid[] is null or w.user_id = any(%(user_ids)s::uuid[]))
order by w.user_id, w.sequence
limit %(findings_max)s::integer;

-- name: find_broken_batches
-- Batches that do not follow the one before in their shard; only for all users.
with linked as (
    select
        shard,
        number,
        leaves,
        chain,
        lag(number + batch_count, 1, 1::bigint) over w as number_due,
        lag(chain, 1, decode(repeat('00', 32), 'hex')) over w as chain_before
    from faregate.batches
    window w as (partition by shard order by number)
)

select
    null::uuid as user_id,
    shard,
    number as place,
    substr(sha256(int8send(number_due) || chain_before || leaves || chain), 1, 16) as leaf
from linked
where
    %(user_ids)s::uuid[] is null
    and (
        number <> number_due
        or chain <> sha256(chain_before || leaves)
    )
order by shard, number
limit %(findings_max)s::integer;

-- name: read_digest
-- A digest of all rows ever written, in the order of each shard, and of rows that repairs
-- registered, to be stored elsewhere. The ledger may have had more shards before.
select encode(sha256(
    coalesce(string_agg(b.chain, '' order by s.shard), '')
    || coalesce((
        select string_agg(r.leaves, '' order by r.event_id)
        from faregate.repairs as r
        where r.ended_at is not null
    ), '')
), 'hex') as digest
from generate_series(0, (select max(m.shard) from faregate.batches as m)) as s (shard)
inner join faregate.batches as b
    on
        s.shard = b.shard
        and b.number = (
            select max(n.number)
            from faregate.batches as n
            where n.shard = s.shard
        );

-- name: find_stale_profiles
-- Profiles whose sequence is behind their rows: a ledger rebuilt from them would repeat numbers.
with reached as (
    select
        user_id,
        max(sequence) as sequence_max
    from public.credit_transactions
    group by user_id
)

select
    b.user_id,
    r.sequence_max as expected,
    b.credits_sequence as found
from faregate.balances as b
inner join reached as r on b.user_id = r.user_id
where
    r.sequence_max > b.credits_sequence
    and (%(user_ids)s::uuid[] is null or r.user_id = any(%(user_ids)s::uuid[]))
order by b.user_id
limit %(findings_max)s::integer;
