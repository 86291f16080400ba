-- The starter of Supabase: a profile has the id of its user, and a trigger makes it at sign-up.
create table public.profiles (
    id uuid not null primary key references auth.users on delete cascade,
    updated_at timestamptz,
    username text unique,
    full_name text,
    constraint username_length check (char_length(username) >= 3)
);
alter table public.profiles enable row level security;
create policy "Public profiles are viewable by everyone." on public.profiles
for select using (true);
create policy "Users can update own profile." on public.profiles
for update using ((select auth.uid()) = id);

create function public.handle_new_user() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
    insert into public.profiles (id, full_name) values (new.id, new.email);
    return new;
end
$$;
create trigger on_auth_user_created after insert on auth.users
for each row execute function public.handle_new_user();

insert into auth.users (id, email) values
('00000000-0000-4000-8000-000000000001', 'ann@example.org'),
('00000000-0000-4000-8000-000000000002', 'bob@example.org');
