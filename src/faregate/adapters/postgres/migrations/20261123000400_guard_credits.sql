-- Lets nobody but the owner of profiles and the worker write the balances that profiles hold.

set local lock_timeout = '10s';
set local statement_timeout = '5min';

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
    ) or coalesce(
        pg_catalog.pg_has_role(current_user, to_regrole('faregate_worker')::oid, 'usage'),
        false
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

create or replace trigger profiles_credits_guard
before update on public.profiles
for each row
when (
    old.credits is distinct from new.credits
    or old.credits_sequence is distinct from new.credits_sequence
)
execute function faregate.refuse_credits_change();

-- Verification.
do $$
begin
    if not exists (
        select
        from pg_catalog.pg_trigger
        where
            tgrelid = 'public.profiles'::regclass
            and tgname = 'profiles_credits_guard'
            and tgfoid = 'faregate.refuse_credits_change()'::regprocedure
            and tgenabled in ('O', 'A')
    ) then
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
