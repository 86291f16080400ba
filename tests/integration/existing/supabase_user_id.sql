-- On Supabase, too: profiles with an id of their own, and the user beside it; other tables know the
-- profile by its id.
create table public.profiles (
    id uuid not null default gen_random_uuid() primary key,
    user_id uuid not null unique references auth.users (id) on delete cascade,
    display_name text,
    created_at timestamptz not null default now()
);
alter table public.profiles enable row level security;
create policy "Profiles are viewable by everyone" on public.profiles for select using (true);
create policy "Users can update their own profile" on public.profiles
for update using (auth.uid() = user_id);

create table public.posts (
    id uuid not null default gen_random_uuid() primary key,
    author_id uuid not null references public.profiles (id) on delete cascade,
    title text not null
);

create function public.handle_new_user() returns trigger
language plpgsql security definer set search_path = public as $$
begin
    insert into public.profiles (user_id, display_name)
    values (new.id, split_part(new.email, '@', 1))
    on conflict (user_id) do nothing;
    return new;
end
$$;
create trigger on_auth_user_created after insert on auth.users
for each row execute function public.handle_new_user();

insert into auth.users (id, email) values
('00000000-0000-4000-8000-000000000001', 'ann@example.org'),
('00000000-0000-4000-8000-000000000002', 'bob@example.org');
insert into public.posts (author_id, title)
select id, display_name from public.profiles;
