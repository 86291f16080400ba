-- Adds each transaction's place in its user's history; rows older than Faregate keep nulls there.
--
-- squawk-ignore-file require-concurrent-index-creation -- a migration is one transaction
-- squawk-ignore-file prefer-bigint-over-int -- a balance is an INTEGER by contract

set local lock_timeout = '10s';
set local statement_timeout = '30min';

alter table public.credit_transactions add column if not exists sequence bigint;
alter table public.credit_transactions add column if not exists balance_after integer;
alter table public.credit_transactions add column if not exists epoch bigint;
alter table public.credit_transactions add column if not exists refund_of uuid;
comment on column public.credit_transactions.sequence is
'1, 2, 3, ... for each user, without gaps';
comment on column public.credit_transactions.balance_after is
'The user''s credits after this change';
comment on column public.credit_transactions.epoch is
'The Redis history; 0 for a row made by Postgres';
comment on column public.credit_transactions.refund_of is
'The deduct that a refund gives back';

alter table public.profiles add column if not exists credits_sequence bigint not null default 0;
comment on column public.profiles.credits_sequence is 'The highest sequence that credits contain';

do $$
begin
    if not exists (
        select
        from pg_catalog.pg_constraint
        where
            conrelid = 'public.credit_transactions'::regclass
            and conname = 'credit_transactions_place_check'
    ) then
        alter table public.credit_transactions
        add constraint credit_transactions_place_check check (
            num_nonnulls(sequence, balance_after, epoch) = 0
            or (
                num_nonnulls(sequence, balance_after, epoch) = 3
                and sequence >= 1
                and epoch >= 0
            )
        ) not valid;
    end if;
    if not exists (
        select
        from pg_catalog.pg_constraint
        where
            conrelid = 'public.credit_transactions'::regclass
            and conname = 'credit_transactions_refund_of_check'
    ) then
        alter table public.credit_transactions
        add constraint credit_transactions_refund_of_check
        check (refund_of is null or type = 'refund') not valid;
    end if;
end
$$;

alter table public.credit_transactions validate constraint credit_transactions_place_check;
alter table public.credit_transactions validate constraint credit_transactions_refund_of_check;

-- Not unique: after a forked history a unique index would turn real charges into refused records.
create index if not exists idx_credit_transactions_user_sequence
on public.credit_transactions (user_id, sequence);

create index if not exists idx_credit_transactions_refund_of
on public.credit_transactions (refund_of) where refund_of is not null;

-- Verification.
do $$
declare
    wrong text;
begin
    select string_agg(expected.column_name, ', ') into wrong
    from (
        values
        ('profiles', 'credits_sequence', 'bigint', true),
        ('credit_transactions', 'sequence', 'bigint', false),
        ('credit_transactions', 'balance_after', 'integer', false),
        ('credit_transactions', 'epoch', 'bigint', false),
        ('credit_transactions', 'refund_of', 'uuid', false)
    ) as expected (table_name, column_name, type_name, required)
    left join pg_catalog.pg_attribute as a
        on
            a.attrelid = to_regclass('public.' || expected.table_name)
            and a.attname = expected.column_name
            and not a.attisdropped
            and format_type(a.atttypid, a.atttypmod) = expected.type_name
            and a.attnotnull = expected.required
    where a.attname is null;
    if wrong is not null then
        raise exception 'missing, or of another type: %', wrong;
    end if;

    if to_regclass('public.idx_credit_transactions_user_sequence') is null
        or to_regclass('public.idx_credit_transactions_refund_of') is null
    then
        raise exception 'the indexes on sequence and refund_of are missing';
    end if;
end
$$;
