-- Rails with a model of the name Profile: its table has the name of ours, and is another.
create table public.users (
    id bigserial primary key,
    email varchar default '' not null unique,
    created_at timestamp(6) not null,
    updated_at timestamp(6) not null
);
create table public.profiles (
    id bigserial primary key,
    user_id bigint not null references public.users (id),
    name varchar(255),
    credits decimal(5, 2) default 0.0,
    created_at timestamp(6) not null,
    updated_at timestamp(6) not null
);
insert into public.users (email, created_at, updated_at) values ('ann@example.org', now(), now());
insert into public.profiles (user_id, name, credits, created_at, updated_at)
values (1, 'Ann', 2.5, now(), now());
