-- Queries about API keys, of requests and operators. Parameters are written %(name)s.

-- name: find_api_key
-- One key, even an expired or revoked one.
select
    id,
    user_id,
    name,
    tier,
    secret_hash,
    created_at,
    expires_at,
    revoked_at,
    last_used_at
from faregate.api_keys
where id = %(id)s::uuid;

-- name: note_api_key_uses
-- Notes when keys were last used. Rows are locked in the order of their ids, since other processes
-- note theirs at the same time.
with used as (
    select
        k.id,
        u.used_at
    from unnest(%(ids)s::uuid[], %(used_at)s::timestamptz[]) as u (id, used_at)
    inner join faregate.api_keys as k on u.id = k.id
    order by k.id
    for no key update of k
),

noted as (
    update faregate.api_keys
    set last_used_at = greatest(api_keys.last_used_at, used.used_at)
    from used
    where api_keys.id = used.id
    returning api_keys.id
)

select count(*) as noted_count
from noted;

-- name: create_api_key
-- Stores a new key.
insert into faregate.api_keys (
    id, user_id, name, tier, secret_hash, created_at, expires_at
)
values (
    %(id)s, %(user_id)s, %(name)s, %(tier)s, %(secret_hash)s, %(created_at)s, %(expires_at)s
);

-- name: list_api_keys
-- The next keys by id, in the order of their creation: of a user, or of all users.
select
    id,
    user_id,
    name,
    tier,
    created_at,
    expires_at,
    revoked_at,
    last_used_at
from faregate.api_keys
where
    (%(user_id)s::uuid is null or user_id = %(user_id)s::uuid)
    and (%(after)s::uuid is null or id > %(after)s::uuid)
order by id
limit %(count_max)s::integer;

-- name: revoke_api_key
-- Revokes a key; an earlier revocation keeps its time.
update faregate.api_keys
set revoked_at = coalesce(api_keys.revoked_at, now())
where id = %(id)s::uuid
returning
    id,
    user_id,
    name,
    tier,
    created_at,
    expires_at,
    revoked_at,
    last_used_at;
