-- For local development: profiles with credits, and the audit trail of every change of them, on a fresh
-- local Supabase. Run it in the SQL editor, or as `supabase/seed.sql`; safe to run again.
-- `faregate migrate` goes on from here. It makes what the first migration makes, and profiles.

-- Profiles, with credits.
create table if not exists public.profiles (
    id uuid primary key references auth.users (id) on delete cascade,
    credits integer not null default 3,
    created_at timestamptz not null default now()
);

alter table public.profiles enable row level security;

drop policy if exists "Users can view their own profile" on public.profiles;
create policy "Users can view their own profile" on public.profiles
for select to authenticated using ((select auth.uid()) = id);

grant select on public.profiles to authenticated;
grant select, insert, update, delete on public.profiles to service_role;

create index if not exists idx_profiles_credits on public.profiles (credits);

-- Credit transactions table.
create table if not exists public.credit_transactions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references auth.users (id) on delete cascade,
    amount integer not null,
    type text not null check (type in ('deduct', 'add', 'refund', 'admin_adjustment')),
    description text not null,
    metadata jsonb,
    timestamp timestamptz not null default now(),
    created_at timestamptz not null default now()
);

-- Indexes for performance.
create index if not exists idx_credit_transactions_user_timestamp
on public.credit_transactions (user_id, timestamp desc);

create index if not exists idx_credit_transactions_type
on public.credit_transactions (type);

create index if not exists idx_credit_transactions_timestamp
on public.credit_transactions (timestamp);

-- Row level security. Blocks are restrictive: no other policy can open what they close.
alter table public.credit_transactions enable row level security;
alter table public.credit_transactions force row level security;

drop policy if exists "Users can view their own transactions" on public.credit_transactions;
create policy "Users can view their own transactions" on public.credit_transactions
for select to authenticated using ((select auth.uid()) = user_id);

drop policy if exists "Users cannot insert transactions" on public.credit_transactions;
create policy "Users cannot insert transactions" on public.credit_transactions
as restrictive for insert to anon, authenticated with check (false);

drop policy if exists "Users cannot update transactions" on public.credit_transactions;
create policy "Users cannot update transactions" on public.credit_transactions
as restrictive for update to anon, authenticated using (false);

drop policy if exists "Users cannot delete transactions" on public.credit_transactions;
create policy "Users cannot delete transactions" on public.credit_transactions
as restrictive for delete to anon, authenticated using (false);

drop policy if exists "The service role can view transactions" on public.credit_transactions;
create policy "The service role can view transactions" on public.credit_transactions
for select to service_role using (true);

drop policy if exists "The service role can insert transactions" on public.credit_transactions;
create policy "The service role can insert transactions" on public.credit_transactions
for insert to service_role with check (true);

-- Forced row level security binds an owner that does not bypass it, so it needs policies too.
drop policy if exists "The owner can view transactions" on public.credit_transactions;
create policy "The owner can view transactions" on public.credit_transactions
for select to current_user using (true);

drop policy if exists "The owner can insert transactions" on public.credit_transactions;
create policy "The owner can insert transactions" on public.credit_transactions
for insert to current_user with check (true);

-- Supabase's default privileges may have given everything to everybody, or nothing to anybody.
-- Insertion is granted by column: columns that come later are not for rows made by hand.
revoke all on public.credit_transactions from public, anon, authenticated, service_role;
grant select on public.credit_transactions to authenticated, service_role;
grant insert (id, user_id, amount, type, description, metadata, timestamp, created_at)
on public.credit_transactions to service_role;

-- New users start with 3 credits.
create or replace function public.handle_new_user() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    insert into public.profiles (id, credits)
    values (new.id, 3)
    on conflict (id) do nothing;
    return new;
end
$$;
comment on function public.handle_new_user() is
'faregate: gives a new user a profile with its starting credits';
revoke all on function public.handle_new_user() from public, anon, authenticated, service_role;

create or replace trigger on_auth_user_created
after insert on auth.users
for each row execute function public.handle_new_user();
