-- Adds each transaction's place in its history and its part of the allowance; older rows have nulls.
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

-- Not granted to service_role, whose right to insert names its columns: a row made by hand has no
-- allowance. The worker's right covers the whole table.
alter table public.credit_transactions add column if not exists allowance_amount integer;
alter table public.credit_transactions add column if not exists allowance_after integer;
alter table public.credit_transactions add column if not exists period_start timestamptz;
comment on column public.credit_transactions.allowance_amount is
'The part of amount that concerned the allowance; null in rows older than allowances';
comment on column public.credit_transactions.allowance_after is
'What was left of the user''s allowance after this change';
comment on column public.credit_transactions.period_start is
'When the period of that allowance began; null for a user who never had one';

do $$
begin
    if not exists (
        select
        from pg_catalog.pg_constraint
        where
            conrelid = 'public.credit_transactions'::regclass
            and conname = 'credit_transactions_allowance_check'
    ) then
        alter table public.credit_transactions
        add constraint credit_transactions_allowance_check check (
            num_nonnulls(allowance_amount, allowance_after) = 2
            or num_nonnulls(allowance_amount, allowance_after, period_start) = 0
        ) not valid;
    end if;
end
$$;

alter table public.credit_transactions validate constraint credit_transactions_allowance_check;

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
        ('credit_transactions', 'refund_of', 'uuid', false),
        ('credit_transactions', 'allowance_amount', 'integer', false),
        ('credit_transactions', 'allowance_after', 'integer', false),
        ('credit_transactions', 'period_start', 'timestamp with time zone', false)
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

    select string_agg(column_name, ', ') into wrong
    from unnest(array['allowance_amount', 'allowance_after', 'period_start']) as column_name
    where has_column_privilege(
        'service_role', 'public.credit_transactions', column_name, 'insert'
    );
    if wrong is not null then
        raise exception 'service_role may insert %', wrong;
    end if;
end
$$;
