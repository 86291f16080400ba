-- Refuses to change, delete or truncate transactions, except by the deletion of their user.

set local lock_timeout = '10s';
set local statement_timeout = '5min';

-- The cascade runs after the user's own row is gone, and nothing else does.
create or replace function faregate.refuse_transaction_change() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    if tg_op = 'DELETE' and not faregate.user_exists(old.user_id) then
        return old;
    end if;
    raise exception 'credit_transactions is immutable: % refused', tg_op
        using errcode = 'restrict_violation',
        hint = 'Correct a transaction by another one, of type admin_adjustment.';
end
$$;
comment on function faregate.refuse_transaction_change() is
'Keeps transactions as they were written, until their user is deleted';

revoke all on function faregate.refuse_transaction_change()
from public, anon, authenticated, service_role;

create or replace trigger credit_transactions_immutable
before update or delete on public.credit_transactions
for each row execute function faregate.refuse_transaction_change();

create or replace trigger credit_transactions_no_truncate
before truncate on public.credit_transactions
for each statement execute function faregate.refuse_transaction_change();

-- Verification.
do $$
begin
    if (
        select count(*)
        from pg_catalog.pg_trigger
        where
            tgrelid = 'public.credit_transactions'::regclass
            and tgname in ('credit_transactions_immutable', 'credit_transactions_no_truncate')
            and tgfoid = 'faregate.refuse_transaction_change()'::regprocedure
            and tgenabled in ('O', 'A')
    ) <> 2 then
        raise exception 'credit_transactions is not immutable';
    end if;
end
$$;
