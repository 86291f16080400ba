-- Keeps nothing of a user who was deleted, and tells the worker to delete what Redis holds.

set local lock_timeout = '10s';
set local statement_timeout = '5min';

-- Who was deleted. The id stays until the worker has deleted the user's keys; the digest stays for
-- longer than a token is valid, so that none brings the user back.
create table if not exists faregate.deletions (
    digest bytea primary key check (octet_length(digest) = 32),
    user_id uuid,
    deleted_at timestamptz not null default now(),
    actor text,
    actor_reason text
);
comment on table faregate.deletions is 'Users who were deleted: not to be created again by a request';
comment on column faregate.deletions.user_id is 'Whose keys are in Redis; null once they are gone';

comment on column faregate.deletions.actor is 'Who has erased the user, where a command has';

create index if not exists deletions_user_id
on faregate.deletions (user_id) where user_id is not null;

create or replace function faregate.person_digest(p_user uuid) returns bytea
language sql
stable
set search_path = ''
as $$
    select sha256(uuid_send(l.ledger_id) || uuid_send(p_user)) from faregate.ledger as l
$$;
comment on function faregate.person_digest(uuid) is 'Tells a user from others, and not who it is';

create or replace function faregate.was_deleted(p_user uuid) returns boolean
language sql
stable
security definer
set search_path = ''
as $$
    select
        exists (select from faregate.deletions where digest = faregate.person_digest(p_user))
        and not exists (select from auth.users where id = p_user)
$$;
comment on function faregate.was_deleted(uuid) is 'Whether a user was deleted, and not made again';

-- What remains of a dead letter is its kind, its place in the stream, and its time. The digest of
-- its payload stays: the record is known by it, if it is read again.
create or replace function faregate.scrub_dead_letters(p_users uuid[]) returns void
language sql
volatile
security definer
set search_path = ''
as $$
    with gone as (
        select user_id from unnest(p_users) as u (user_id) where faregate.was_deleted(user_id)
    )

    update faregate.dead_letters as l
    set
        payload = '',
        reason = 'the user was deleted',
        transaction_id = null,
        user_id = null,
        amount = null,
        type = null,
        sequence = null,
        epoch = null,
        refund_of = null,
        allowance_amount = null,
        allowance_after = null,
        period_start = null,
        row_id = null,
        actor_reason = null
    where
        l.user_id in (select user_id from gone)
        or (
            l.kind = 'unreadable'
            and exists (select from gone where position(uuid_send(gone.user_id) in l.payload) > 0)
        )
$$;
comment on function faregate.scrub_dead_letters(uuid[]) is
'Takes all that is personal out of the dead letters of users who were deleted';

create or replace function faregate.note_deletion() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    insert into faregate.deletions (digest, user_id) values (faregate.person_digest(old.id), old.id)
    on conflict (digest) do update set user_id = excluded.user_id, deleted_at = now();
    perform faregate.scrub_dead_letters(array[old.id]);
    update faregate.reconciliations as r
    set findings = coalesce(
        (
            select jsonb_agg(f.finding)
            from jsonb_array_elements(r.findings) as f (finding)
            where f.finding ->> 'user_id' is distinct from old.id::text
        ),
        '[]'
    )
    where
        r.findings <> '[]'
        and r.findings @> jsonb_build_array(jsonb_build_object('user_id', old.id));
    return null;
end
$$;
comment on function faregate.note_deletion() is
'Scrubs the dead letters of a user who is deleted, and lets the worker know';

create or replace trigger faregate_note_deletion
after delete on auth.users
for each row execute function faregate.note_deletion();

-- Redis may still hold the account of the user, and records that are no rows yet: they would be
-- taken for those of the new user.
create or replace function faregate.refuse_return() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    if exists (select from faregate.deletions where user_id = new.id) then
        raise exception 'user % was deleted, and is being erased', new.id
            using errcode = 'object_in_use',
            hint = 'Create the user again once a worker has erased it, within a minute.';
    end if;
    return new;
end
$$;
comment on function faregate.refuse_return() is
'Keeps a user who is being erased from being created again with the same id';

create or replace trigger faregate_refuse_return
before insert on auth.users
for each row execute function faregate.refuse_return();

create or replace function faregate.users_to_erase(p_count_max integer)
returns table (user_id uuid)
language sql
stable
security definer
set search_path = ''
as $$
    select d.user_id
    from faregate.deletions as d
    where d.user_id is not null
    order by d.deleted_at
    limit p_count_max
$$;
comment on function faregate.users_to_erase(integer) is 'Users who were deleted and have keys left';

-- The lock waits for every transaction that has kept a dead letter and may not know of the deletion.
create or replace function faregate.note_erased(p_users uuid[]) returns void
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
    lock table faregate.dead_letters in share row exclusive mode;
    perform faregate.scrub_dead_letters(p_users);
    update faregate.deletions set user_id = null where user_id = any(p_users);
    delete from faregate.deletions
    where
        deleted_at < now() - interval '30 days'
        and user_id is null;
end
$$;
comment on function faregate.note_erased(uuid[]) is 'Notes that Redis holds no keys of these users';

revoke all on faregate.deletions from public, anon, authenticated, service_role;
revoke all on all functions in schema faregate from public, anon, authenticated, service_role;

-- Verification.
do $$
begin
    if (
        select count(*)
        from pg_catalog.pg_trigger
        where
            tgrelid = 'auth.users'::regclass
            and (tgname, tgfoid) in (
                ('faregate_note_deletion', 'faregate.note_deletion()'::regprocedure),
                ('faregate_refuse_return', 'faregate.refuse_return()'::regprocedure)
            )
            and tgenabled in ('O', 'A')
    ) <> 2 then
        raise exception 'the worker would not hear of a user who is deleted';
    end if;
end
$$;
