-- Lists for operators: rows and dead letters.

-- name: read_rows
-- Rows in the order of their time: all, or those of a user or a span of time.
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
from public.credit_transactions
where
    (%(user_id)s::uuid is null or user_id = %(user_id)s::uuid)
    and (%(since)s::timestamptz is null or timestamp >= %(since)s::timestamptz)
    and (%(until)s::timestamptz is null or timestamp < %(until)s::timestamptz)
order by timestamp, sequence, id;

-- name: read_newest_of_all
-- The newest rows of all users.
select
    id,
    user_id,
    amount,
    type,
    description,
    timestamp,
    balance_after
from public.credit_transactions
order by timestamp desc, coalesce(sequence, 0) desc, id desc
limit %(count_max)s::integer;

-- name: read_dead_letters
-- The dead letters of a user, including discarded ones.
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
    discarded_at
from faregate.dead_letters
where user_id = %(user_id)s::uuid
order by id;

-- name: read_server
-- The state and the clock of the server.
select
    current_setting('server_version') as version,
    extract(epoch from clock_timestamp()) * 1000 as time_ms;

-- name: read_last_reconciliation
-- The time and the findings of the last reconciliation.
select
    ended_at,
    user_count as users,
    drift_user_count as drift_users,
    finding_counts as findings
from faregate.reconciliations
order by id desc
limit 1;
