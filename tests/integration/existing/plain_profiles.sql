-- Plain tables: profiles that refer to users, who are not in auth.users.
create table public.users (
    id uuid primary key default gen_random_uuid(),
    email text not null unique
);
create table public.profiles (
    id uuid primary key references public.users (id) on delete cascade,
    display_name text,
    credits integer not null default 10
);
insert into public.users (email) values ('ann@example.org'), ('bob@example.org');
insert into public.profiles (id, display_name) select id, email from public.users;
