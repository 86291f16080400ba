-- Obstacles to a migration: credits and rows from before (see preflight.sql).

-- name: check_columns
-- Columns and constraints of the application that balances and rows would violate.
with expected (table_name, column_name, type_name) as (
    values
    ('profiles', 'credits', 'integer'),
    ('credit_transactions', 'id', 'uuid'),
    ('credit_transactions', 'user_id', 'uuid'),
    ('credit_transactions', 'amount', 'integer'),
    ('credit_transactions', 'type', 'text'),
    ('credit_transactions', 'description', 'text'),
    ('credit_transactions', 'metadata', 'jsonb'),
    ('credit_transactions', 'timestamp', 'timestamp with time zone'),
    ('credit_transactions', 'created_at', 'timestamp with time zone'),
    ('credit_transactions', 'sequence', 'bigint'),
    ('credit_transactions', 'balance_after', 'integer'),
    ('credit_transactions', 'epoch', 'bigint'),
    ('credit_transactions', 'refund_of', 'uuid'),
    ('credit_transactions', 'allowance_amount', 'integer'),
    ('credit_transactions', 'allowance_after', 'integer'),
    ('credit_transactions', 'period_start', 'timestamp with time zone')
),

columns as (
    select
        e.*,
        a.attname is not null as is_there,
        format_type(a.atttypid, a.atttypmod) as found_type,
        coalesce(a.attgenerated <> '' or a.attidentity <> '', false) as is_computed
    from expected as e
    left join pg_catalog.pg_attribute as a
        on
            a.attrelid = to_regclass('public.' || e.table_name)
            and e.column_name = a.attname
            and not a.attisdropped
    where to_regclass('public.' || e.table_name) is not null
),

wrong (kind, found, to_do, adoption) as (
    -- The constraints first, since they may not fit the future type of the column.
    select
        'credits_rule',
        'public.profiles refuses some balances: ' || conname || ' ' || pg_get_constraintdef(f.oid),
        'migrate with --adopt, which drops this rule: a correction may make a balance negative,'
        || ' and the worker could not store it',
        'alter table public.profiles drop constraint ' || quote_ident(conname) || ';'
    from pg_catalog.pg_constraint as f
    inner join pg_catalog.pg_attribute as a
        on f.conrelid = a.attrelid and a.attnum = any(f.conkey)
    where
        f.conrelid = to_regclass('public.profiles')
        and f.contype = 'c'
        and a.attname = 'credits'
    union all
    select
        'credits_column',
        'public.profiles.credits is ' || found_type
        || case when is_computed then ', and computed' else '' end || '; a balance is an integer',
        case
            when is_computed then 'rename that column'
            else 'migrate with --adopt, which makes it an integer, if all its values are'
        end,
        case
            when not is_computed
                then 'alter table public.profiles alter column credits drop default;' || chr(10)
                || 'alter table public.profiles alter column credits type integer'
                || ' using credits::text::numeric::integer;'
        end
    from columns
    where
        table_name = 'profiles'
        and is_there
        and (found_type <> 'integer' or is_computed)
    union all
    select
        'transactions_shape',
        'public.credit_transactions is not Faregate''s: '
        || string_agg(
            column_name || ' is ' || case when is_there then found_type else 'missing' end, ', '
        ),
        'rename that table: alter table public.credit_transactions rename to transactions_of_yours',
        null
    from columns
    where
        table_name = 'credit_transactions'
        and (
            (is_there and (found_type <> type_name or is_computed))
            or (
                not is_there
                and column_name in (
                    'id',
                    'user_id',
                    'amount',
                    'type',
                    'description',
                    'metadata',
                    'timestamp',
                    'created_at'
                )
            )
        )
    having count(*) > 0
    union all
    select
        'transactions_shape',
        'public.credit_transactions is not Faregate''s: it requires '
        || string_agg(quote_ident(attname), ', '),
        'give these columns a default, or rename the table',
        null
    from pg_catalog.pg_attribute
    where
        attrelid = to_regclass('public.credit_transactions')
        and attnum > 0
        and not attisdropped
        and attnotnull
        and not atthasdef
        and attidentity = ''
        and attname not in (select column_name from columns)
    having count(*) > 0
    union all
    select
        'transactions_shape',
        'public.credit_transactions is not Faregate''s: ' || r.lack,
        'correct this, or rename the table',
        null
    from (
        values
        (
            'p',
            'its key is not id',
            array['id']
        ),
        (
            'f',
            'user_id does not refer to auth.users on delete cascade',
            array['user_id']
        ),
        (
            'c',
            'it does not check that type is deduct, add, refund or admin_adjustment',
            array['type']
        )
    ) as r (contype, lack, column_names)
    where
        to_regclass('public.credit_transactions') is not null
        and not exists (
            select
            from pg_catalog.pg_constraint as f
            where
                f.conrelid = to_regclass('public.credit_transactions')
                and f.contype::text = r.contype
                and f.conkey = (
                    select array_agg(a.attnum)
                    from pg_catalog.pg_attribute as a
                    where a.attrelid = f.conrelid and a.attname::text = any(r.column_names)
                )
                and (
                    f.contype = 'p'
                    or (
                        f.contype = 'f'
                        and f.confrelid = to_regclass('auth.users')
                        and f.confdeltype = 'c'
                    )
                    or (
                        f.contype = 'c'
                        and pg_get_constraintdef(f.oid) like '%%admin_adjustment%%'
                    )
                )
        )
)

select
    kind,
    found,
    to_do,
    adoption
from wrong;

-- name: has_credits
-- Whether balances exist, and can be read.
select count(*) = 1
from pg_catalog.pg_attribute
where
    attrelid = to_regclass('public.profiles')
    and attname = 'credits'
    and not attisdropped
    and has_table_privilege(attrelid, 'select');

-- name: check_values
-- Balances that are no integers in range. The smallest integer is none: Redis could not pass it.
select
    'credits_values' as kind,
    'round or correct them first' as to_do,
    null::text as adoption,
    count(*) || ' values of public.profiles.credits are no whole numbers of 32 bits: '
    || array_to_string((array_agg(distinct value))[1:5], ', ') as found
from (
    select
        credits::text as value,
        case
            when credits::text ~ '^-?[0-9]{1,30}(\.0*)?$'
                then credits::text::numeric not between -2147483647 and 2147483647
            else true
        end as is_wrong
    from public.profiles
    where credits is not null
) as v
where is_wrong
having count(*) > 0;

-- name: has_old_transactions
-- Whether rows and balances from before can be compared.
select count(*) = 3
from pg_catalog.pg_attribute
where
    not attisdropped
    and has_table_privilege(attrelid, 'select')
    and (attrelid, attname, atttypid) in (
        (to_regclass('public.profiles'), 'credits', 'integer'::regtype),
        (to_regclass('public.credit_transactions'), 'user_id', 'uuid'::regtype),
        (to_regclass('public.credit_transactions'), 'amount', 'integer'::regtype)
    );

-- name: check_differences
-- Balances from before whose opening row would be none.
select
    'credits_values' as kind,
    'correct these transactions or balances first' as to_do,
    null::text as adoption,
    count(*) || ' balances differ from their transactions by more than a row can hold: '
    || array_to_string((array_agg(d.id order by d.id))[1:5], ', ') as found
from (
    select p.id
    from public.profiles as p
    inner join public.credit_transactions as t on p.id = t.user_id
    group by p.id
    having abs(coalesce(p.credits, 3) - sum(t.amount)) > 2147483647
) as d
having count(*) > 0;
