-- Fills an empty ledger: users, profiles, and for each user a starting row and charges of one
-- credit, in the order of time, in batches as the worker writes them. Triggers and foreign keys are
-- switched off, and indexes are made afterwards: nothing else loads so many rows in a minute.
-- Settings of the session say how many: bench.users, bench.rows (of a user), bench.credits.

set session_replication_role = replica;
set synchronous_commit = off;
set maintenance_work_mem = '512MB';
set work_mem = '256MB';

create temporary table bench_users as
select
    n,
    md5(n::text)::uuid as id,
    (get_byte(uuid_send(md5(n::text)::uuid), 14) * 256
        + get_byte(uuid_send(md5(n::text)::uuid), 15)) % 16 as shard
from generate_series(1, current_setting('bench.users')::integer) as n;

insert into auth.users (id) select id from bench_users;

insert into public.profiles (id, credits, credits_sequence)
select
    id,
    current_setting('bench.credits')::integer - current_setting('bench.rows')::integer + 1,
    current_setting('bench.rows')::integer
from bench_users;

create temporary table bench_indexes as
select
    indexname,
    indexdef
from pg_catalog.pg_indexes
where
    tablename = 'credit_transactions'
    and indexname like 'idx_%';

do $$
declare
    name text;
begin
    for name in select indexname from bench_indexes loop
        execute format('drop index public.%I', name);
    end loop;
end
$$;

insert into public.credit_transactions
(id, user_id, amount, type, description, timestamp, sequence, balance_after, epoch)
select
    faregate.derived_id('starting', id),
    id,
    current_setting('bench.credits')::integer,
    'add',
    'starting credits',
    '2026-01-01',
    1,
    current_setting('bench.credits')::integer,
    0
from bench_users;

insert into public.credit_transactions
(id, user_id, amount, type, description, timestamp, sequence, balance_after, epoch,
    allowance_amount, allowance_after)
select
    (lpad(to_hex(1767225600000 + place / 16), 12, '0') || '70008000' || lpad(to_hex(place), 12, '0'))::uuid,
    id,
    -1,
    'deduct',
    'request',
    timestamptz '2026-01-01' + place / 16 * interval '1 millisecond',
    k,
    current_setting('bench.credits')::integer - k + 1,
    1,
    0,
    0
from generate_series(2, current_setting('bench.rows')::integer) as k
cross join lateral (
    select
        id,
        k::bigint * current_setting('bench.users')::integer + n as place
    from bench_users
) as u;

do $$
declare
    definition text;
begin
    for definition in select indexdef from bench_indexes loop
        execute definition;
    end loop;
end
$$;

create temporary table bench_batches as
select
    shard,
    number,
    count(*)::integer as record_count,
    string_agg(leaf, '') as leaves
from (
    select
        u.shard,
        (row_number() over (partition by u.shard order by t.timestamp) - 1) / 1000 + 1 as number,
        leaf_of(t) as leaf
    from public.credit_transactions as t
    inner join bench_users as u on t.user_id = u.id
    where t.epoch > 0
) as leaves
group by shard, number;

do $$
declare
    batch record;
    link bytea;
    stored bigint;
begin
    for batch in select * from bench_batches order by shard, number loop
        if batch.number = 1 then
            link := decode(repeat('00', 32), 'hex');
            stored := 0;
        end if;
        link := sha256(link || batch.leaves);
        stored := stored + batch.record_count;
        insert into faregate.batches (
            shard, number, epoch, read_after, first_position, last_position, first_ordinal,
            last_ordinal, ordinal_max, record_count, last_digest, leaves, chain
        ) values (
            batch.shard, batch.number, 1, nullif(batch.number - 1, 0), '1-1', '1-1',
            stored - batch.record_count + 1, stored, stored, batch.record_count,
            sha256('stored'), batch.leaves, link
        );
    end loop;
end
$$;

update faregate.ledger set installed_at = now();

set session_replication_role = origin;

vacuum analyze;
