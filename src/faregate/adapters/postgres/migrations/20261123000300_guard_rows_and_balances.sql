-- Keeps transactions as they were written, and balances for the worker and the owner to write.

set local lock_timeout = '10s';
set local statement_timeout = '5min';

-- Transactions go only with their user. The cascade runs after the user's own row is gone, and
-- nothing else does.
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

-- Lets nobody but the owner of profiles and the worker write the balances that profiles hold.
-- Supabase lets users update their own profile, and a column privilege cannot be taken from who
-- has the table's. Security invoker: it is the caller that is asked who it is.
create or replace function faregate.refuse_credits_change() returns trigger
language plpgsql
security invoker
set search_path = ''
as $$
begin
    if pg_catalog.pg_has_role(
        current_user,
        (select relowner from pg_catalog.pg_class where oid = tg_relid),
        'usage'
    ) then
        return new;
    end if;
    raise exception 'role % may not write credits', current_user
        using errcode = 'insufficient_privilege',
        hint = 'Credits change by transactions only.';
end
$$;
comment on function faregate.refuse_credits_change() is
'Refuses changes of a balance by anybody but the owner of the table and the worker';

revoke all on function faregate.refuse_credits_change()
from public, anon, authenticated, service_role;

-- The worker is told by the condition, which costs it less than a call for each balance.
create or replace trigger profiles_credits_guard
before update on public.profiles
for each row
when (
    (
        old.credits is distinct from new.credits
        or old.credits_sequence is distinct from new.credits_sequence
    )
    and not coalesce(
        pg_catalog.pg_has_role(pg_catalog.to_regrole('faregate_worker')::oid, 'usage'), false
    )
)
execute function faregate.refuse_credits_change();

-- TRUNCATE asks no policy, and on Supabase whoever uses the API has been granted all on tables.
create or replace trigger profiles_no_truncate
before truncate on public.profiles
for each statement execute function faregate.refuse_credits_change();

revoke truncate, trigger on public.profiles from public, anon, authenticated, service_role;

-- Balances alone, for the roles of Faregate. Profiles are the application's, and so are the policies
-- on them: here the owner's rights count, and no policy is needed beside those.
create or replace view faregate.balances as
select
    id as user_id,
    credits,
    credits_sequence
from public.profiles;
comment on view faregate.balances is 'The balances that profiles hold, and nothing else of them';

revoke all on faregate.balances from public, anon, authenticated, service_role;

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

do $$
begin
    if (
        select count(*)
        from pg_catalog.pg_trigger
        where
            tgrelid = 'public.profiles'::regclass
            and tgname in ('profiles_credits_guard', 'profiles_no_truncate')
            and tgfoid = 'faregate.refuse_credits_change()'::regprocedure
            and tgenabled in ('O', 'A')
    ) <> 2 then
        raise exception 'credits are not guarded';
    end if;
    if (
        select prosecdef
        from pg_catalog.pg_proc
        where oid = 'faregate.refuse_credits_change()'::regprocedure
    ) then
        raise exception 'the guard of credits asks its owner instead of its caller';
    end if;
end
$$;

do $$
begin
    if exists (
        select
        from pg_catalog.pg_class as b
        inner join pg_catalog.pg_roles as owner on b.relowner = owner.oid
        cross join pg_catalog.pg_class as profiles
        where
            b.oid = 'faregate.balances'::regclass
            and profiles.oid = 'public.profiles'::regclass
            and profiles.relrowsecurity
            and not owner.rolsuper
            and not owner.rolbypassrls
            and not (
                pg_has_role(owner.oid, profiles.relowner, 'usage')
                and not profiles.relforcerowsecurity
            )
    ) then
        raise exception 'row level security on public.profiles hides balances from role %', current_user
            using hint = 'Migrate as the owner of public.profiles, or as a role with BYPASSRLS.';
    end if;
end
$$;
