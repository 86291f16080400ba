-- What requests and the worker ask of Postgres. Parameters are written %(name)s.

-- name: read_identity
-- What the ledger was created with.
select
    ledger_id,
    shard_count,
    starting_credits,
    epoch,
    installed_at is not null as installed
from faregate.ledger;

-- name: mark_installed
-- Notes that Redis has been given an epoch.
select faregate.mark_installed(%(epoch)s::bigint);

-- name: open_user
-- What the live ledger starts a user with; makes profile and starting row where they are missing.
select
    credits,
    sequence,
    epoch,
    allowance_left,
    (extract(epoch from period_start) * 1000)::bigint as period_start_ms
from faregate.open_balance(%(user_id)s::uuid, %(provision)s::boolean);

-- name: read_transaction
-- One stored transaction. A row older than Faregate has no place in a history, so it is none.
select
    id,
    user_id,
    amount,
    type,
    description,
    metadata,
    timestamp,
    sequence,
    balance_after,
    epoch,
    refund_of,
    period_start,
    coalesce(allowance_amount, 0) as allowance_amount,
    coalesce(allowance_after, 0) as allowance_after
from public.credit_transactions
where
    id = %(id)s::uuid
    and sequence is not null;

-- name: read_deduct
-- A deduct, and what its refunds have given back: rows, and dead letters that may become rows.
select
    -d.amount as amount,
    (
        select coalesce(sum(t.amount), 0)::bigint
        from public.credit_transactions as t
        where
            t.refund_of = d.id
            and t.type = 'refund'
    )
    + (
        select coalesce(sum(l.amount), 0)::bigint
        from faregate.dead_letters as l
        where
            l.refund_of = d.id
            and l.type = 'refund'
            and l.discarded_at is null
    ) as refunded,
    coalesce(-d.allowance_amount, 0) as allowance_amount,
    (extract(epoch from d.period_start) * 1000)::bigint as period_start_ms
from public.credit_transactions as d
where
    d.id = %(id)s::uuid
    and d.user_id = %(user_id)s::uuid
    and d.type = 'deduct';

-- name: read_profiles
-- The next users by id.
select id
from public.profiles
where id > %(after)s::uuid
order by id
limit %(count_max)s::integer;

-- name: lock_shard
-- One drain at a time for a shard; a second one waits, so that they never meet in a batch.
select pg_advisory_xact_lock(%(namespace)s::integer, %(shard)s::integer);

-- name: bound_lock_wait
-- How long to wait for each further lock of this transaction.
select set_config('lock_timeout', %(lock_ms_max)s::text, true);

-- name: find_kept
-- The entries that are dead letters already.
select stream_id
from faregate.dead_letters
where
    shard = %(shard)s::integer
    and stream_id = any(%(stream_ids)s::text[]);

-- name: find_users
-- The users of a batch that exist, and whether they have a profile. In id order.
with found as (
    select user_id
    from faregate.users_existing(%(user_ids)s::uuid[])
)

select
    f.user_id,
    p.id is not null as has_profile
from found as f
left join public.profiles as p on f.user_id = p.id
order by f.user_id;

-- name: prepare_batch
-- Where a batch is copied to: empty at the start of each transaction, whatever came before. A
-- pooler may hand over a session in which another version has left a table of its own, so each form
-- of it has a name of its own.
create temporary table if not exists drained_2 on commit delete rows as
select
    0 as place,
    id,
    user_id,
    amount,
    type,
    description,
    metadata,
    timestamp,
    sequence,
    balance_after,
    epoch,
    refund_of,
    allowance_amount,
    allowance_after,
    period_start
from public.credit_transactions
with no data;

-- name: empty_batch
-- Removes what an earlier part of the same batch has left.
delete from pg_temp.drained_2;

-- name: copy_batch
-- Takes the batch over.
copy pg_temp.drained_2 (
    place, id, user_id, amount, type, description, metadata, timestamp,
    sequence, balance_after, epoch, refund_of, allowance_amount, allowance_after, period_start
) from stdin;

-- name: insert_new
-- Makes rows of what is new, and answers what that adds to each balance. The users' order is the
-- order in which the foreign key's check locks them, at the end of the statement.
with inserted as (
    insert into public.credit_transactions (
        id, user_id, amount, type, description, metadata, timestamp,
        sequence, balance_after, epoch, refund_of, allowance_amount, allowance_after, period_start
    )
    select
        id,
        user_id,
        amount,
        type,
        description,
        metadata,
        timestamp,
        sequence,
        balance_after,
        epoch,
        refund_of,
        allowance_amount,
        allowance_after,
        period_start
    from pg_temp.drained_2
    order by user_id, sequence, place
    on conflict (id) do nothing
    returning user_id, amount, sequence
)

select
    user_id,
    sum(amount)::bigint as amount,
    max(sequence) as sequence_max,
    count(*) as row_count
from inserted
group by user_id
order by user_id;

-- name: find_conflicts
-- The entries whose id belongs to a row with other content.
select d.place
from pg_temp.drained_2 as d
inner join public.credit_transactions as t on d.id = t.id
where
    (t.user_id, t.amount, t.type, t.sequence, t.epoch)
    is distinct from (d.user_id, d.amount, d.type, d.sequence, d.epoch);

-- name: lock_profiles
-- Locks the profiles of a batch, in id order.
select id
from public.profiles
where id = any(%(user_ids)s::uuid[])
order by id
for no key update;

-- name: add_to_profiles
-- Adds what is new to the durable balances.
update public.profiles
set
    credits = profiles.credits + n.amount,
    credits_sequence = greatest(profiles.credits_sequence, n.sequence_max)
from unnest(
    %(user_ids)s::uuid[], %(amounts)s::bigint[], %(sequences)s::bigint[]
) as n (user_id, amount, sequence_max)
where profiles.id = n.user_id;

-- name: keep_dead_letter
-- Keeps an entry that cannot be a row, once for each place in a stream.
insert into faregate.dead_letters (
    shard, stream_id, kind, reason, payload, transaction_id, user_id,
    amount, type, sequence, epoch, refund_of, allowance_amount, allowance_after, period_start
)
values (
    %(shard)s, %(stream_id)s, %(kind)s, %(reason)s, %(payload)s, %(transaction_id)s, %(user_id)s,
    %(amount)s, %(type)s, %(sequence)s, %(epoch)s, %(refund_of)s, %(allowance_amount)s,
    %(allowance_after)s, %(period_start)s
)
on conflict (shard, stream_id) do nothing;

-- name: begin_epoch
-- Begins a new Redis history after one that is over; no row if that one does not count any more.
update faregate.ledger
set
    epoch = ledger.epoch + 1,
    installed_at = null
where ledger.epoch = %(after)s::bigint
returning ledger.epoch;
