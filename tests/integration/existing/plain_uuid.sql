-- Plain tables: users with a UUID for a key.
create table public.users (
    id uuid primary key default gen_random_uuid(),
    email text not null unique,
    credits integer not null default 0
);
insert into public.users (email, credits) values ('ann@example.org', 50), ('bob@example.org', 0);
