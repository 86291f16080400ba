-- Rails: users with bigint keys, who have their credits.
create table public.schema_migrations (version varchar not null primary key);
create table public.ar_internal_metadata (
    key varchar not null primary key,
    value varchar,
    created_at timestamp(6) not null,
    updated_at timestamp(6) not null
);
create table public.users (
    id bigserial primary key,
    email varchar default '' not null unique,
    encrypted_password varchar default '' not null,
    credits integer default 0 not null,
    created_at timestamp(6) not null,
    updated_at timestamp(6) not null
);
insert into public.users (email, credits, created_at, updated_at) values
('ann@example.org', 50, now(), now()),
('bob@example.org', 0, now(), now());
