-- Plain tables: users with a bigint for a key.
create table public.users (
    id bigint generated always as identity primary key,
    email text not null unique,
    credits integer not null default 0
);
insert into public.users (email, credits) values ('ann@example.org', 50), ('bob@example.org', 0);
