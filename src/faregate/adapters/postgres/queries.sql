-- The statements of requests and of the worker. Parameters are written %(name)s.

-- name: bound_transaction
-- Sets the timeouts and the date format of this transaction.
select
    set_config('statement_timeout', %(statement_ms_max)s::text, true) as statement_ms_max,
    set_config('lock_timeout', %(lock_ms_max)s::text, true) as lock_ms_max,
    set_config('idle_in_transaction_session_timeout', %(idle_ms_max)s::text, true) as idle_ms_max,
    set_config('datestyle', 'ISO', true) as date_style,
    set_config('intervalstyle', 'postgres', true) as interval_style;

-- name: is_standby
-- Whether this server is a standby.
select pg_is_in_recovery();

-- name: read_identity
-- The identity of the ledger.
select
    ledger_id,
    shard_count,
    starting_credits,
    epoch,
    installed_at is not null as installed
from faregate.ledger;

-- name: mark_installed
-- Notes that Redis was installed with an epoch.
select faregate.mark_installed(%(epoch)s::bigint);

-- name: open_users
-- The users to install in the live ledger; creates missing profiles and starting rows. A user that
-- does not exist has no result row.
select
    asked.id,
    opened.credits,
    opened.sequence,
    opened.epoch,
    opened.allowance_left,
    (extract(epoch from opened.period_start) * 1000)::bigint as period_start_ms
from unnest(%(user_ids)s::uuid[]) as asked (id)
cross join lateral faregate.open_user(asked.id, %(provision)s::boolean) as opened;

-- name: read_transaction
-- One stored transaction. A row older than Faregate has no sequence, and is left out.
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
-- A deduct, and the sum of its refunds: rows, and dead letters that may become rows.
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
select user_id as id
from faregate.balances
where user_id > %(after)s::uuid
order by user_id
limit %(count_max)s::integer;

-- name: act_as_user
-- Acts as a user for the rest of the transaction, as Supabase does: in a role under row level
-- security, by the claims that auth.uid() reads. The older of their two forms has precedence, so
-- both are set. Sorting is disabled, so that a page is read from the index in its order: without
-- statistics of the user Postgres would assume few rows, and sort all of them.
select
    set_config('role', 'faregate_reader', true) as acting_as,
    set_config('transaction_read_only', 'on', true) as is_read_only,
    set_config('enable_sort', 'off', true) as is_sorting,
    set_config('enable_bitmapscan', 'off', true) as is_gathering,
    set_config('request.jwt.claim.sub', %(user_id)s::uuid::text, true) as claim,
    set_config(
        'request.jwt.claims',
        json_build_object('sub', %(user_id)s::uuid, 'role', 'authenticated')::text,
        true
    ) as claims;

-- name: read_newest
-- The newest rows of a user, by time, then by sequence. Row level security protects the rows of
-- other users, not this condition. The id is a subquery, so that Postgres does not use its
-- statistics: for a user with very many rows it would read all rows by time.
select
    id,
    type,
    amount,
    description,
    timestamp,
    balance_after,
    refund_of
from public.credit_transactions
where user_id = (select %(user_id)s::uuid)
order by timestamp desc, coalesce(sequence, 0) desc, id desc
limit %(count_max)s::integer;

-- name: read_before
-- The rows of a user that follow a place in its history, the newest first.
select
    id,
    type,
    amount,
    description,
    timestamp,
    balance_after,
    refund_of
from public.credit_transactions
where
    user_id = (select %(user_id)s::uuid)
    and timestamp <= %(timestamp)s::timestamptz
    and (timestamp, coalesce(sequence, 0), id) < (
        %(timestamp)s::timestamptz,
        coalesce(
            (
                select p.sequence
                from public.credit_transactions as p
                where p.id = %(id)s::uuid
            ), 0
        ),
        %(id)s::uuid
    )
order by timestamp desc, coalesce(sequence, 0) desc, id desc
limit %(count_max)s::integer;

-- name: read_lock_holder
-- The oldest transaction with locks that may block the drain.
select
    pid,
    role_name,
    application,
    coalesce(state, 'state unknown') as state,
    coalesce(date_trunc('second', since)::text, 'an unknown time') as since
from faregate.lock_holder();

-- name: lock_shard
-- Locks a shard for one drain. A statement of its own, so that the next one sees the commits of the
-- drain before.
select
    set_config('synchronous_commit', 'on', true) as synchronous_commit,
    pg_advisory_xact_lock(%(namespace)s::integer, %(shard)s::integer) as is_locked;

-- name: lock_shards
-- Waits for the drains of all shards. The next statements see their commits.
select pg_advisory_xact_lock(%(namespace)s::integer, s.shard)
from faregate.ledger as l
cross join lateral generate_series(0, l.shard_count - 1) as s (shard);

-- name: bound_lock_wait
-- Sets the timeout of further locks of this transaction.
select set_config('lock_timeout', %(lock_ms_max)s::text, true);

-- name: read_newest_batch
-- The newest batch of a shard, and the epoch of the ledger.
select
    l.epoch as ledger_epoch,
    b.number as row_number,
    b.epoch,
    b.last_position as position,
    b.last_digest as digest,
    b.last_ordinal as ordinal,
    b.ordinal_max,
    b.chain,
    b.number + b.batch_count - 1 as number,
    octet_length(b.leaves) as leaves_length
from faregate.ledger as l
left join faregate.batches as b
    on
        b.shard = %(shard)s::integer
        and b.number = (
            select max(n.number)
            from faregate.batches as n
            where n.shard = %(shard)s::integer
        );

-- name: read_cursors
-- The newest batch of each shard.
select
    s.shard,
    b.epoch,
    b.last_position as position,
    b.last_digest as digest,
    b.last_ordinal as ordinal,
    b.number + b.batch_count - 1 as number
from faregate.ledger as l
cross join lateral generate_series(0, l.shard_count - 1) as s (shard)
inner join faregate.batches as b
    on
        s.shard = b.shard
        and b.number = (
            select max(n.number)
            from faregate.batches as n
            where n.shard = s.shard
        )
order by s.shard;

-- name: write_batch
-- Writes a batch: all records up to a place are stored.
insert into faregate.batches (
    shard, number, epoch, read_after, first_position, last_position, first_ordinal, last_ordinal,
    ordinal_max, record_count, last_digest, leaves, chain
)
values (
    %(shard)s, %(number)s, %(epoch)s, %(read_after)s, %(first_position)s, %(last_position)s,
    %(first_ordinal)s, %(last_ordinal)s, %(ordinal_max)s, %(record_count)s, %(last_digest)s,
    %(leaves)s, sha256(%(chain_before)s::bytea || %(leaves)s::bytea)
);

-- name: extend_batch
-- Writes a batch into the row of the batch before. A row that was changed by hand stays unchanged,
-- so that verification finds it.
with before as (
    select
        coalesce(
            (
                select p.chain
                from faregate.batches as p
                where
                    p.shard = %(shard)s
                    and p.number < %(row_number)s
                order by p.number desc
                limit 1
            ), decode(repeat('00', 32), 'hex')
        ) as chain
)

update faregate.batches as b
set
    batch_count = b.batch_count + 1,
    last_position = %(last_position)s,
    last_ordinal = %(last_ordinal)s,
    ordinal_max = %(ordinal_max)s,
    record_count = b.record_count + %(record_count)s,
    last_digest = %(last_digest)s,
    leaves = b.leaves || %(leaves)s,
    chain = sha256(before.chain || b.leaves || %(leaves)s),
    stored_at = now()
from before
where
    b.shard = %(shard)s
    and b.number = %(row_number)s
    and b.chain = sha256(before.chain || b.leaves);

-- name: rehearse_batch
-- Writes no batch and no dead letter, which checks the rights to write them.
with no_batch as (
    insert into faregate.batches
    select * from faregate.batches
    where false
),

no_more as (
    update faregate.batches
    set
        batch_count = batch_count,
        last_position = last_position,
        last_ordinal = last_ordinal,
        ordinal_max = ordinal_max,
        record_count = record_count,
        last_digest = last_digest,
        leaves = leaves,
        chain = chain,
        stored_at = stored_at
    where false
)

insert into faregate.dead_letters (shard, stream_id, kind, reason, payload, payload_digest)
select
    shard,
    stream_id,
    kind,
    reason,
    payload,
    payload_digest
from faregate.dead_letters
where false;

-- name: prepare_rows
-- The temporary table to which records are copied, since COPY into a table is refused to a role
-- under row level security.
create temporary table drained (
    place integer,
    id uuid,
    user_id uuid,
    amount integer,
    type text,
    description text,
    metadata jsonb,
    timestamp timestamptz,
    sequence bigint,
    balance_after integer,
    epoch bigint,
    refund_of uuid,
    allowance_amount integer,
    allowance_after integer,
    period_start timestamptz
) on commit drop;

-- name: discard_rows
-- Removes the rows of an earlier part of the same batch.
drop table pg_temp.drained;

-- name: copy_rows
-- Copies records.
copy pg_temp.drained (
    place, id, user_id, amount, type, description, metadata, timestamp,
    sequence, balance_after, epoch, refund_of, allowance_amount, allowance_after, period_start
) from stdin;

-- name: insert_rows
-- Inserts the copied records as rows; returns their number and leaves. The check of the foreign key
-- locks users in this order, at the end of the statement.
with inserted as (
    insert into public.credit_transactions as t (
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
    from pg_temp.drained
    order by user_id, sequence, place
    returning leaf_of(t) as leaf
)

select
    count(*) as row_count,
    coalesce(string_agg(leaf, ''), '') as leaves
from inserted;

-- name: add_to_profiles
-- Adds the copied amounts to the durable balances; returns the number of users without a profile.
with added as (
    select
        user_id,
        sum(amount) as amount,
        max(sequence) as sequence_max
    from pg_temp.drained
    group by user_id
    order by user_id
),

changed as (
    update faregate.balances as b
    set
        credits = b.credits + a.amount,
        credits_sequence = greatest(b.credits_sequence, a.sequence_max)
    from added as a
    where b.user_id = a.user_id
    returning b.user_id
)

select (select count(*) from added) - (select count(*) from changed) as missing;

-- name: find_dead_letters
-- The records that are already dead letters.
select
    stream_id,
    payload_digest
from faregate.dead_letters
where
    shard = %(shard)s::integer
    and stream_id = any(%(stream_ids)s::text[]);

-- name: count_recent_dead_letters
-- The number of recent dead letters of a shard, without those of deleted users.
select count(*) as dead_letter_count
from faregate.dead_letters
where
    shard = %(shard)s::integer
    and kind in ('conflict', 'refused', 'unreadable')
    and created_at > now() - interval '1 minute';

-- name: count_dead_letters
-- The numbers of dead letters that were not discarded, by kind.
select
    kind,
    count(*) as letter_count
from faregate.dead_letters
where discarded_at is null
group by kind
order by kind;

-- name: find_users
-- The existing users of a batch, with the last sequence in their rows; null without a profile.
with found as (
    select user_id
    from faregate.users_existing(%(user_ids)s::uuid[])
)

select
    f.user_id,
    b.credits_sequence as sequence
from found as f
left join faregate.balances as b on f.user_id = b.user_id
order by f.user_id;

-- name: find_known
-- The stored content of some ids.
select
    id,
    user_id,
    amount,
    type,
    sequence,
    epoch
from public.credit_transactions
where id = any(%(ids)s::uuid[]);

-- name: insert_dead_letter
-- Stores a dead letter, once for each place in a stream; one that is discarded counts nothing.
insert into faregate.dead_letters (
    shard, stream_id, kind, reason, payload, payload_digest, transaction_id, user_id,
    amount, type, sequence, epoch, refund_of, allowance_amount, allowance_after, period_start,
    discarded_at, discarded_by, outcome
)
values (
    %(shard)s, %(stream_id)s, %(kind)s, %(reason)s, %(payload)s, sha256(%(payload)s::bytea),
    %(transaction_id)s, %(user_id)s, %(amount)s, %(type)s, %(sequence)s, %(epoch)s,
    %(refund_of)s, %(allowance_amount)s, %(allowance_after)s, %(period_start)s,
    case when %(is_discarded)s::boolean then now() end,
    case when %(is_discarded)s::boolean then current_user end,
    case when %(is_discarded)s::boolean then 'discarded' end
)
on conflict (shard, stream_id, payload_digest) do nothing;

-- name: scrub_dead_letters
-- Removes personal data from the dead letters of deleted users.
select faregate.scrub_dead_letters(%(user_ids)s::uuid[]);

-- name: users_to_erase
-- Deleted users whose keys may be in Redis, the oldest deletion first.
select user_id
from faregate.users_to_erase(%(count_max)s::integer);

-- name: note_erased
-- Notes that the keys of users are erased.
select faregate.note_erased(%(user_ids)s::uuid[]);

-- name: begin_epoch
-- Begins a new epoch after a given one; no row if that one is not the current epoch. The new epoch
-- counts as installed, so that no gate writes it to another empty Redis. Acknowledgements of live
-- balances are deleted, since the balances are installed again.
with begun as (
    update faregate.ledger
    set
        epoch = ledger.epoch + 1,
        shard_count = %(shard_count)s::integer,
        installed_at = now()
    where ledger.epoch = %(after)s::bigint
    returning
        ledger.ledger_id,
        ledger.shard_count,
        ledger.starting_credits,
        ledger.epoch,
        true as installed
),

over as (
    delete from faregate.acknowledgements
    where
        kind in ('live', 'behind')
        and exists (
            select 1
            from begun
        )
)

select
    ledger_id,
    shard_count,
    starting_credits,
    epoch,
    installed
from begun;

-- name: read_next_since
-- The `next_since` of the last reconciliation.
select next_since
from faregate.reconciliations
order by id desc
limit 1;

-- name: read_last_run
-- The ages of the last reconciliation and of the last one of all users, in seconds.
select
    l.finding_counts,
    l.drift_user_count::integer as drift_users,
    extract(epoch from now() - l.began_at)::double precision as began_s,
    extract(epoch from now() - l.ended_at)::double precision as ended_s,
    (
        select extract(epoch from now() - w.began_at)::double precision
        from faregate.reconciliations as w
        where w.since is null
        order by w.id desc
        limit 1
    ) as whole_s
from faregate.reconciliations as l
order by l.id desc
limit 1;

-- name: save_reconciliation
-- Saves the result of a reconciliation.
insert into faregate.reconciliations (
    began_at, ended_at, since, next_since, user_count, drift_user_count, pending_count,
    dead_letter_count, finding_counts, findings
)
values (
    %(began_at)s, %(ended_at)s, %(since)s, %(next_since)s, %(user_count)s, %(drift_user_count)s,
    %(pending_count)s, %(dead_letter_count)s, %(finding_counts)s, %(findings)s
);
