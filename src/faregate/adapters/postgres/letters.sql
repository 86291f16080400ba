-- Dead letters for operators, in the role of the owner. Parameters are written %(name)s.

-- name: list_letters
-- Dead letters in the order of their ids; on request also those that were treated.
select
    id,
    kind,
    reason,
    transaction_id,
    user_id,
    amount,
    type,
    sequence,
    epoch,
    created_at,
    outcome,
    row_id,
    actor,
    actor_reason,
    discarded_at
from faregate.dead_letters
where
    (%(kind)s::text is null or kind = %(kind)s::text)
    and (%(user_id)s::uuid is null or user_id = %(user_id)s::uuid)
    and (%(is_all)s::boolean or discarded_at is null)
order by id
limit %(count_max)s::integer;

-- name: read_letters
-- Some dead letters with their bytes.
select
    id,
    shard,
    stream_id,
    kind,
    reason,
    payload,
    transaction_id,
    user_id,
    amount,
    type,
    sequence,
    epoch,
    created_at,
    outcome,
    row_id,
    actor,
    actor_reason,
    discarded_at
from faregate.dead_letters
where id = any(%(ids)s::bigint[])
order by id;

-- name: open_letters_of_kind
-- The ids of dead letters of a kind that were not treated.
select id
from faregate.dead_letters
where
    kind = %(kind)s::text
    and discarded_at is null
order by id;

-- name: lock_letter
-- Locks a dead letter if it was not treated yet.
select id
from faregate.dead_letters
where
    id = %(id)s::bigint
    and discarded_at is null
for update;

-- name: end_letters
-- Notes the outcome of dead letters; returns those that had none.
update faregate.dead_letters
set
    discarded_at = now(),
    discarded_by = current_user,
    outcome = %(outcome)s,
    row_id = %(row_id)s::uuid,
    actor = %(actor)s,
    actor_reason = %(actor_reason)s
where
    id = any(%(ids)s::bigint[])
    and discarded_at is null
returning id;

-- name: save_letter
-- Notes that a dead letter remains: the reason, its readable columns, and the actor of the attempt.
update faregate.dead_letters
set
    kind = %(kind)s,
    reason = %(reason)s,
    transaction_id = %(transaction_id)s,
    user_id = %(user_id)s,
    amount = %(amount)s,
    type = %(type)s,
    sequence = %(sequence)s,
    epoch = %(epoch)s,
    refund_of = %(refund_of)s,
    allowance_amount = %(allowance_amount)s,
    allowance_after = %(allowance_after)s,
    period_start = %(period_start)s,
    actor = %(actor)s,
    actor_reason = %(actor_reason)s
where id = %(id)s::bigint;

-- name: is_place_used
-- Whether a row has a number in the history of its user.
select count(*) > 0 as is_used
from public.credit_transactions
where
    user_id = %(user_id)s::uuid
    and sequence = %(sequence)s::bigint;

-- name: append_leaves
-- Adds the leaves of rows to the newest batch of a shard, which must be locked. A batch that was
-- changed by hand stays unchanged, so that verification finds it.
with newest as (
    select
        b.number,
        coalesce(
            (
                select p.chain
                from faregate.batches as p
                where
                    p.shard = b.shard
                    and p.number < b.number
                order by p.number desc
                limit 1
            ), decode(repeat('00', 32), 'hex')
        ) as chain_before
    from faregate.batches as b
    where b.shard = %(shard)s
    order by b.number desc
    limit 1
)

update faregate.batches as b
set
    leaves = b.leaves || %(leaves)s,
    chain = sha256(newest.chain_before || b.leaves || %(leaves)s)
from newest
where
    b.shard = %(shard)s
    and b.number = newest.number
    and b.chain = sha256(newest.chain_before || b.leaves);
