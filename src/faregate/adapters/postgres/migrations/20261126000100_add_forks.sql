-- Adds forks: where Redis continued without its newest records, and which records these were.
--
-- squawk-ignore-file require-concurrent-index-creation -- a migration is one transaction
-- squawk-ignore-file prefer-bigint-over-int -- a shard is small by contract

set local lock_timeout = '10s';
set local statement_timeout = '5min';

create table if not exists faregate.forks (
    id bigint generated always as identity primary key,
    shard integer not null,
    epoch bigint not null,
    batch_number bigint,
    number_before bigint,
    position_before text,
    ordinal_before bigint,
    number_after bigint,
    position_after text,
    ordinal_after bigint,
    lost_since timestamptz,
    named_until timestamptz,
    named_until_id uuid,
    noticed_at timestamptz not null default now(),
    reports text[] not null default '{}',
    is_at_least boolean not null default false,
    unique (shard, batch_number)
);
comment on table faregate.forks is 'Where Redis continued without its newest records';
comment on column faregate.forks.batch_number is
'The batch by which the shard went back; null where all stored records were still there';
comment on column faregate.forks.position_before is 'The last stored entry, which Redis has lost';
comment on column faregate.forks.position_after is
'The last entry at the end of a batch that both histories have; 0-0 where there is none';
comment on column faregate.forks.lost_since is 'No earlier row was lost';
comment on column faregate.forks.named_until is
'The last lost row that was named; null once all are';
comment on column faregate.forks.reports is 'Which reports of gates are counted';
comment on column faregate.forks.is_at_least is 'Whether gates may have lost more than they know';

create table if not exists faregate.lost_records (
    fork_id bigint not null references faregate.forks (id) on delete cascade,
    transaction_id uuid not null,
    user_id uuid references auth.users (id) on delete cascade,
    is_named boolean not null default false,
    is_reported boolean not null default false,
    due_at timestamptz not null default now(),
    aligned_at timestamptz,
    checked_at timestamptz,
    primary key (fork_id, transaction_id),
    check (user_id is not null or not is_named)
);
comment on table faregate.lost_records is
'Records that Redis lost: kept, if they are rows or dead letters; otherwise lost answers';
comment on column faregate.lost_records.is_named is
'Whether it was stored before Redis lost it, so that the live balance of its user must follow';
comment on column faregate.lost_records.is_reported is 'Whether a gate had answered by it';
comment on column faregate.lost_records.due_at is 'Since when the balance of its user must follow';
comment on column faregate.lost_records.aligned_at is 'When that balance was right';
comment on column faregate.lost_records.checked_at is 'When it was found right once more';

create index if not exists lost_records_transaction_id
on faregate.lost_records (transaction_id) where is_named;
-- For the deletion of a user, too.
create index if not exists lost_records_user_id on faregate.lost_records (user_id);
create index if not exists lost_records_due
on faregate.lost_records (fork_id, user_id) where is_named and checked_at is null;

create index if not exists lost_records_unowned
on faregate.lost_records (due_at) where user_id is null;

create index if not exists dead_letters_transaction_id
on faregate.dead_letters (transaction_id) where transaction_id is not null;

alter table faregate.repairs add column if not exists request jsonb;
comment on column faregate.repairs.request is
'What a worker has sent to Redis, to be sent again where no answer came';

create index if not exists repairs_unanswered
on faregate.repairs (begun_at) where request is not null and ended_at is null;

revoke all on faregate.forks, faregate.lost_records
from public, anon, authenticated, service_role;

do $$
begin
    if to_regrole('faregate_worker') is not null then
        grant select, insert, update on faregate.forks, faregate.lost_records to faregate_worker;
        -- Not the leaves, which would vouch for rows.
        grant insert (
            event_id, finding_id, kind, user_id, action, amount, detail, actor, reason,
            deadline_at, request
        ) on faregate.repairs to faregate_worker;
        grant update (sequence, balance_before, balance_after, ended_at) on faregate.repairs
        to faregate_worker;
    end if;
end
$$;

-- Verification.
do $$
declare
    wrong text;
begin
    select string_agg(role_name || ' on ' || table_name, ', ') into wrong
    from unnest(array['anon', 'authenticated', 'service_role']) as role_name
    cross join unnest(array['faregate.forks', 'faregate.lost_records']) as table_name
    where has_any_column_privilege(role_name, table_name, 'select, insert, update');
    if wrong is not null then
        raise exception 'forks are open to %', wrong;
    end if;

    if not exists (
        select
        from pg_catalog.pg_constraint
        where
            conrelid = 'faregate.lost_records'::regclass
            and contype = 'f'
            and confrelid = 'auth.users'::regclass
            and confdeltype = 'c'
    ) then
        raise exception 'lost records would outlive their users';
    end if;
end
$$;
