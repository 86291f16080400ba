-- Forks: where Redis continued without its newest records. Parameters are written %(name)s.

-- name: read_places
-- The ends of batches before a number, the newest first.
select
    epoch,
    last_position as position,
    last_digest as digest,
    last_ordinal as ordinal,
    number + batch_count - 1 as number
from faregate.batches
where
    shard = %(shard)s::integer
    and number < %(before)s::bigint
order by number desc
limit %(count_max)s::integer;

-- name: adopt_fork
-- The fork that gates have reported a moment ago, and that no drain has noticed.
select id
from faregate.forks
where
    shard = %(shard)s::integer
    and epoch = %(epoch)s::bigint
    and batch_number is null
    and noticed_at > now() - interval '1 minute'
order by id desc
limit 1;

-- name: insert_fork
-- Writes a fork.
insert into faregate.forks (shard, epoch) values (%(shard)s::integer, %(epoch)s::bigint)
returning id;

-- name: describe_fork
-- Notes from where to where the cursor of a shard went back.
update faregate.forks
set
    batch_number = %(batch_number)s,
    number_before = %(number_before)s,
    position_before = %(position_before)s,
    ordinal_before = %(ordinal_before)s,
    number_after = %(number_after)s,
    position_after = %(position_after)s,
    ordinal_after = %(ordinal_after)s,
    lost_since = %(lost_since)s
where id = %(fork_id)s::bigint;

-- name: name_kept_rows
-- Names the next rows that Redis has lost, by their time. They are rows of batches after the last
-- common one, and not of entries that Redis still has. Returns the last one if more may follow.
with fork as (
    select *
    from faregate.forks
    where id = %(fork_id)s::bigint
),

proven as (
    select distinct substr(b.leaves, 16 * n.place + 1, 16) as leaf
    from fork as f
    inner join faregate.batches as b on f.shard = b.shard
    cross join lateral generate_series(0, octet_length(b.leaves) / 16 - 1) as n (place)
    where
        b.number > f.number_after
        and b.number < f.batch_number
        and split_part(b.last_position, '-', 1)::numeric
        >= floor(extract(epoch from f.lost_since) * 1000)
),

common as (
    select
        id,
        made_at
    from unnest(%(ids)s::uuid[], %(times)s::timestamptz[]) as c (id, made_at)
),

lost as (
    select
        t.id,
        t.user_id,
        t.timestamp
    from fork as f
    cross join faregate.ledger as l
    inner join public.credit_transactions as t
        on f.epoch = t.epoch
    where
        t.timestamp >= %(lost_since)s::timestamptz
        and (f.named_until is null or (t.timestamp, t.id) > (f.named_until, f.named_until_id))
        and mod(
            get_byte(uuid_send(t.user_id), 14) * 256 + get_byte(uuid_send(t.user_id), 15),
            l.shard_count
        ) = f.shard
        and leaf_of(t) in (select leaf from proven)
        and not exists (
            select 1
            from common as c
            where
                c.id = t.id
                and c.made_at = t.timestamp
        )
    order by t.timestamp, t.id
    limit %(count_max)s::integer
),

named as (
    insert into faregate.lost_records (fork_id, transaction_id, user_id, is_named)
    select
        %(fork_id)s::bigint as fork_id,
        id,
        user_id,
        true as is_named
    from lost
    on conflict (fork_id, transaction_id) do update
        set
            user_id = excluded.user_id,
            is_named = true
)

update faregate.forks as f
set
    named_until = last_one.timestamp,
    named_until_id = last_one.id
from (
    select
        count(*) as lost_count,
        (array_agg(lost.timestamp order by lost.timestamp desc, lost.id desc))[1] as timestamp,
        (array_agg(lost.id order by lost.timestamp desc, lost.id desc))[1] as id
    from lost
) as last_one
where f.id = %(fork_id)s::bigint
returning
    last_one.lost_count as row_count,
    last_one.lost_count = %(count_max)s::integer as has_more;

-- name: end_naming
-- Notes that all lost rows are named.
update faregate.forks
set
    named_until = null,
    named_until_id = null
where id = %(fork_id)s::bigint;

-- name: name_kept_letters
-- Names the dead letters that count as rows, and whose records Redis has lost.
insert into faregate.lost_records (fork_id, transaction_id, user_id, is_named)
select distinct
    f.id,
    d.transaction_id,
    d.user_id,
    true as is_named
from faregate.forks as f
inner join faregate.dead_letters as d
    on
        f.shard = d.shard
        and f.epoch = d.epoch
inner join faregate.balances as b on d.user_id = b.user_id
where
    f.id = %(fork_id)s::bigint
    and d.transaction_id is not null
    and d.discarded_at is null
    and split_part(d.stream_id, '-', 1)::numeric
    >= floor(extract(epoch from f.lost_since) * 1000)
    and (
        split_part(d.stream_id, '-', 1)::numeric,
        split_part(split_part(d.stream_id, '-', 2), '/', 1)::numeric
    ) > (
        split_part(f.position_after, '-', 1)::numeric,
        split_part(f.position_after, '-', 2)::numeric
    )
    and d.transaction_id <> all(%(ids)s::uuid[])
on conflict (fork_id, transaction_id) do update
    set
        user_id = excluded.user_id,
        is_named = true;

-- name: reopen_earlier
-- Live balances that were aligned in the history that is lost now must be aligned again. The clocks
-- of Redis and Postgres may differ by five minutes.
update faregate.lost_records as r
set
    aligned_at = null,
    checked_at = null,
    due_at = clock_timestamp()
from
    faregate.forks as f,
    faregate.forks as newest
where
    newest.id = %(fork_id)s::bigint
    and f.shard = newest.shard
    and f.epoch = newest.epoch
    and f.id <> newest.id
    and r.fork_id = f.id
    and r.is_named
    and r.aligned_at >= newest.lost_since - interval '5 minutes';

-- name: find_unnamed
-- Forks of which rows are left to be named.
select
    f.id,
    f.shard,
    f.lost_since
from faregate.forks as f
inner join faregate.ledger as l on f.epoch = l.epoch
where f.named_until is not null
order by f.id;

-- name: find_kept
-- Which ids are named as records that Redis has lost, with their users.
select distinct
    transaction_id,
    user_id
from faregate.lost_records
where
    transaction_id = any(%(ids)s::uuid[])
    and is_named;

-- name: reopen_kept
-- Notes that lost records were made again in Redis, whose live balances must be aligned again.
update faregate.lost_records
set
    aligned_at = null,
    checked_at = null,
    due_at = clock_timestamp()
where
    transaction_id = any(%(ids)s::uuid[])
    and is_named;

-- name: find_report
-- The fork for which a report is counted already, or the newest fork of a moment ago.
select
    id,
    %(report)s::text = any(reports) as is_counted
from faregate.forks
where
    shard = %(shard)s::integer
    and epoch = %(epoch)s::bigint
    and (
        %(report)s::text = any(reports)
        or noticed_at > now() - interval '1 minute'
    )
order by is_counted desc, id desc
limit 1;

-- name: count_report
-- Notes that a report is counted.
update faregate.forks
set
    reports = case
        when %(report)s::text = any(reports) then reports
        else reports || %(report)s::text
    end,
    is_at_least = is_at_least or %(is_at_least)s::boolean
where id = %(fork_id)s::bigint;

-- name: insert_reported
-- Stores the ids of a report; returns how many are new.
with reported as (
    insert into faregate.lost_records (fork_id, transaction_id, user_id, is_reported)
    select
        %(fork_id)s::bigint as fork_id,
        a.id,
        t.user_id,
        true as is_reported
    from unnest(%(ids)s::uuid[]) as a (id)
    left join public.credit_transactions as t on a.id = t.id
    on conflict (fork_id, transaction_id) do update
        set is_reported = true
    returning xmax = 0 as is_new
)

select count(*) filter (where is_new) as new_count
from reported;

-- name: note_owners
-- Notes the users of lost answers that became rows after all, so that they go with their users.
update faregate.lost_records as r
set user_id = t.user_id
from public.credit_transactions as t
where
    r.transaction_id = t.id
    and r.user_id is null
    and r.is_reported
    and r.due_at > now() - interval '1 day';

-- name: find_due
-- Users whose live balances must follow the rows: not aligned yet, or not found right once more a
-- minute later, since a failover could lose the alignment.
select
    r.fork_id,
    f.shard,
    r.user_id,
    max(r.due_at) as due_at
from faregate.lost_records as r
inner join faregate.forks as f on r.fork_id = f.id
inner join faregate.ledger as l on f.epoch = l.epoch
where
    r.is_named
    and r.checked_at is null
    and (r.aligned_at is null or r.aligned_at < now() - interval '1 minute')
    and (r.fork_id, r.user_id) > (%(after_fork)s::bigint, %(after_user)s::uuid)
group by r.fork_id, f.shard, r.user_id
order by r.fork_id, r.user_id
limit %(count_max)s::integer;

-- name: note_aligned
-- Notes that live balances were found right, or are right since they were aligned. A record that
-- became due since it was read stays due.
update faregate.lost_records as r
set
    checked_at = case when a.is_right and r.aligned_at is not null then now() end,
    aligned_at = now()
from unnest(
    %(fork_ids)s::bigint[], %(user_ids)s::uuid[], %(due_at)s::timestamptz[],
    %(are_right)s::boolean[]
) as a (fork_id, user_id, due_at, is_right)
where
    r.fork_id = a.fork_id
    and r.user_id = a.user_id
    and r.is_named
    and r.due_at <= a.due_at;

-- name: begin_alignment
-- Notes what is sent to Redis.
insert into faregate.repairs (
    event_id, finding_id, kind, user_id, action, amount, detail, actor, reason, deadline_at, request
)
values (
    %(event_id)s, %(finding_id)s, 'behind', %(user_id)s, 'correct', %(amount)s, %(detail)s,
    %(actor)s, %(reason)s, %(deadline_at)s, %(request)s
);

-- name: end_alignment
-- Notes the answer.
update faregate.repairs
set
    ended_at = now(),
    sequence = %(sequence)s,
    balance_before = %(balance_before)s,
    balance_after = %(balance_after)s
where
    event_id = %(event_id)s::uuid
    and ended_at is null;

-- name: find_unanswered
-- What was sent to Redis without a known answer, and a moment ago at least, since another worker
-- may wait for it.
select
    event_id,
    user_id,
    request
from faregate.repairs
where
    request is not null
    and ended_at is null
    and begun_at < now() - make_interval(secs => %(age_s_min)s::double precision)
order by begun_at
limit %(count_max)s::integer;

-- name: list_fork_users
-- Users with records that Redis lost after they were stored.
select distinct user_id
from faregate.lost_records
where is_named;

-- name: list_forks
-- Forks since a time, the newest first, with what is known of their records now. Those whose users
-- wait are listed whatever their age.
with records as (
    select
        r.fork_id,
        r.user_id,
        r.is_named,
        r.aligned_at,
        exists (
            select 1
            from public.credit_transactions as t
            where t.id = r.transaction_id
        )
        or exists (
            select 1
            from faregate.dead_letters as d
            where d.transaction_id = r.transaction_id
        ) as is_stored
    from faregate.lost_records as r
),

counts as (
    select
        fork_id,
        count(*) filter (where is_stored) as kept,
        count(*) filter (where not is_stored) as lost,
        count(distinct user_id) filter (where is_named) as users,
        count(distinct user_id) filter (where is_named and aligned_at is null) as due
    from records
    group by fork_id
)

select
    f.id,
    f.shard,
    f.epoch,
    f.noticed_at,
    f.is_at_least,
    coalesce(f.position_before, '') as position_before,
    coalesce(f.position_after, '') as position_after,
    coalesce(c.kept, 0) as kept,
    coalesce(c.lost, 0) as lost,
    coalesce(c.users, 0) as users,
    -- A new epoch has begun with balances from the rows.
    coalesce(c.users, 0) - case when f.epoch < l.epoch then 0 else coalesce(c.due, 0) end as aligned
from faregate.forks as f
cross join faregate.ledger as l
left join counts as c on f.id = c.fork_id
where
    %(since)s::timestamptz is null
    or f.noticed_at >= %(since)s::timestamptz
    or (f.epoch = l.epoch and c.due > 0)
order by f.id desc
limit %(count_max)s::integer;
