-- The statements that erase a user, in the role of the owner. Parameters are written %(name)s.

-- name: delete_user
-- Deletes a user, with all that refers to it.
delete from auth.users
where id = %(user_id)s::uuid
returning id;

-- name: note_eraser
-- Notes the actor and the reason of a deletion.
update faregate.deletions
set
    actor = %(actor)s,
    actor_reason = %(actor_reason)s
where digest = faregate.person_digest(%(user_id)s::uuid);

-- name: read_deletion
-- Whether keys of a deleted user may be in Redis; no row if the user was not deleted.
select user_id is not null as has_keys
from faregate.deletions
where digest = faregate.person_digest(%(user_id)s::uuid);

-- name: count_traces
-- The numbers of rows of a user by table, and of its requests to delete keys.
select
    (
        select count(*)
        from auth.users
        where id = %(user_id)s::uuid
    ) as users,
    (
        select count(*)
        from public.profiles
        where id = %(user_id)s::uuid
    ) as profiles,
    (
        select count(*)
        from public.credit_transactions
        where user_id = %(user_id)s::uuid
    ) as transactions,
    (
        select count(*)
        from faregate.api_keys
        where user_id = %(user_id)s::uuid
    ) as api_keys,
    (
        select count(*)
        from faregate.dead_letters
        where user_id = %(user_id)s::uuid
    ) as dead_letters,
    (
        select count(*)
        from faregate.reconciliations
        where findings @> jsonb_build_array(jsonb_build_object('user_id', %(user_id)s::uuid))
    ) as findings,
    (
        select count(*)
        from faregate.acknowledgements
        where user_id = %(user_id)s::uuid
    ) as acknowledgements,
    (
        select count(*)
        from faregate.repairs
        where user_id = %(user_id)s::uuid
    ) as repairs,
    (
        select count(*)
        from faregate.deletions
        where user_id = %(user_id)s::uuid
    ) as deletions;
