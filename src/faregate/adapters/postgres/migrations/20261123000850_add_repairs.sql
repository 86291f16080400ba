-- Adds who accepted which finding, and what each repair has done.

set local lock_timeout = '10s';
set local statement_timeout = '5min';

create table if not exists faregate.acknowledgements (
    finding_id text primary key,
    kind text not null,
    user_id uuid references auth.users (id) on delete cascade,
    sequence bigint,
    detail text not null,
    actor text not null check (actor <> ''),
    reason text not null check (reason <> ''),
    acknowledged_at timestamptz not null default now()
);
comment on table faregate.acknowledgements is
'Findings that somebody has accepted: they are listed, and are no alarm';

create index if not exists acknowledgements_user_id on faregate.acknowledgements (user_id);

-- Written before a repair acts, and ended in the transaction that acts, where Postgres does.
create table if not exists faregate.repairs (
    event_id uuid primary key default gen_random_uuid(),
    finding_id text not null,
    kind text not null,
    user_id uuid references auth.users (id) on delete cascade,
    sequence bigint,
    epoch bigint,
    action text not null,
    amount bigint,
    balance_before bigint,
    balance_after bigint,
    detail text not null,
    leaves bytea not null default '' check (octet_length(leaves) % 16 = 0),
    actor text not null check (actor <> ''),
    reason text not null check (reason <> ''),
    begun_at timestamptz not null default now(),
    deadline_at timestamptz,
    ended_at timestamptz
);
comment on table faregate.repairs is 'What each repair was to do, by whom and why, and that it has';
comment on column faregate.repairs.sequence is
'The number after which a live balance was corrected, or that of the row';
comment on column faregate.repairs.leaves is
'16 bytes of SHA-256 for each row that it stored or made known, as in faregate.batches';
comment on column faregate.repairs.deadline_at is
'Until when what was sent to Redis may still happen; null where nothing was';
comment on column faregate.repairs.ended_at is 'When it was done; null where it may not have been';

create index if not exists repairs_user_id on faregate.repairs (user_id);

-- Rows without a number are older than Faregate, or made by hand. The older ones are known from here
-- on, and so is what they added up to.
insert into faregate.repairs (
    finding_id, kind, user_id, action, amount, detail, leaves, actor, reason, ended_at
)
select
    'none',
    'none',
    t.user_id,
    'open',
    sum(t.amount),
    count(*) || ' rows are older than Faregate',
    string_agg(
        substr(sha256(
            uuid_send(t.id) || uuid_send(t.user_id) || int4send(t.amount)
            || timestamptz_send(t.timestamp)
            || convert_to(concat_ws(
                E'\n', t.type, t.refund_of, to_json(t.description), t.metadata
            ), 'UTF8')
        ), 1, 16),
        '' order by t.id
    ),
    'faregate migrate',
    'opening',
    now()
from public.credit_transactions as t
where
    t.sequence is null
    and not exists (select from faregate.repairs)
group by t.user_id;

revoke all on faregate.acknowledgements, faregate.repairs
from public, anon, authenticated, service_role;

do $$
begin
    if to_regrole('faregate_worker') is not null then
        grant select on faregate.acknowledgements, faregate.repairs to faregate_worker;
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
    cross join unnest(array['faregate.acknowledgements', 'faregate.repairs']) as table_name
    where has_any_column_privilege(role_name, table_name, 'select, insert, update');
    if wrong is not null then
        raise exception 'repairs are open to %', wrong;
    end if;

    if (
        select count(*)
        from pg_catalog.pg_constraint
        where
            conrelid in ('faregate.acknowledgements'::regclass, 'faregate.repairs'::regclass)
            and contype = 'f'
            and confrelid = 'auth.users'::regclass
            and confdeltype = 'c'
    ) <> 2 then
        raise exception 'repairs would outlive their users';
    end if;
end
$$;
