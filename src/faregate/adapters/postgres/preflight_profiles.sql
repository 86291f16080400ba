-- Obstacles to a migration: profiles that do not belong to users (see preflight.sql).

-- name: check_profiles
-- Profiles whose id is not that of a user, by the ways to detect this.
with profiles as (
    select
        c.oid,
        c.relkind,
        i.attnum as id_number,
        i.atthasdef as has_default,
        u.attnum as user_number,
        coalesce(format_type(i.atttypid, i.atttypmod), 'missing') as id_type,
        u.atttypid = 'uuid'::regtype as is_user_uuid,
        to_regclass('auth.users') as users
    from pg_catalog.pg_class as c
    left join pg_catalog.pg_attribute as i
        on c.oid = i.attrelid and i.attname = 'id' and not i.attisdropped
    left join pg_catalog.pg_attribute as u
        on c.oid = u.attrelid and u.attname = 'user_id' and not u.attisdropped
    where c.oid = to_regclass('public.profiles')
),

keys as (
    select i.indkey::text as columns
    from pg_catalog.pg_index as i
    inner join profiles as p on i.indrelid = p.oid
    where i.indisunique and i.indpred is null and i.indexprs is null
),

-- The table that each of both columns refers to, and whether its values are unique.
seen as (
    select
        p.*,
        id_redis_key.confrelid as id_refers_to,
        user_key.confrelid as user_refers_to,
        coalesce(p.id_number::text in (select k.columns from keys as k), false) as is_id_unique,
        coalesce(p.user_number::text in (select k.columns from keys as k), false) as is_user_unique
    from profiles as p
    left join lateral (
        select f.confrelid
        from pg_catalog.pg_constraint as f
        where f.conrelid = p.oid and f.contype = 'f' and f.conkey = array[p.id_number]
        order by f.confrelid = p.users desc
        limit 1
    ) as id_redis_key on true
    left join lateral (
        select f.confrelid
        from pg_catalog.pg_constraint as f
        where f.conrelid = p.oid and f.contype = 'f' and f.conkey = array[p.user_number]
        order by f.confrelid = p.users desc
        limit 1
    ) as user_key on true
),

-- Other tables that refer to profiles by an id that would change.
referring as (
    select
        f.conrelid::regclass::text as table_name,
        quote_ident(f.conname) as name,
        pg_get_constraintdef(f.oid) as definition,
        quote_ident(a.attname) as column_name
    from pg_catalog.pg_constraint as f
    inner join profiles as p on f.confrelid = p.oid and f.confkey = array[p.id_number]
    inner join pg_catalog.pg_attribute as a on f.conrelid = a.attrelid and a.attnum = f.conkey[1]
    where f.contype = 'f' and f.conparentid = 0
),

verdicts as (
    select
        s.*,
        case
            when s.relkind not in ('r', 'p') then 'no_table'
            when s.id_type <> 'uuid' then 'key'
            when s.id_refers_to is not null and coalesce(s.id_refers_to <> s.users, true)
                then 'other_users'
            when not s.is_id_unique then 'not_unique'
            when s.id_refers_to is not null then null
            when s.user_refers_to is not null and coalesce(s.user_refers_to <> s.users, true)
                then 'other_users'
            when s.user_number is not null then 'user_id'
            when s.has_default then 'default'
            else 'no_reference'
        end as verdict
    from seen as s
)

select
    case v.verdict
        when 'other_users' then 'other_users'
        when 'user_id' then 'profiles_id'
        when 'default' then 'profiles_id'
        when 'no_reference' then 'profiles_reference'
        else 'profiles_key'
    end as kind,
    case v.verdict
        when 'no_table' then 'public.profiles is no table'
        when 'key' then 'public.profiles.id is ' || v.id_type || ', and must be a user''s UUID'
        when 'other_users'
            then 'public.profiles refers to users in '
            || coalesce(v.id_refers_to, v.user_refers_to)::regclass || ', not in auth.users'
        when 'not_unique' then 'public.profiles.id has no unique index'
        when 'user_id'
            then 'public.profiles.id is not the id of a user, which is in user_id'
        when 'default'
            then 'public.profiles.id has a default, and does not refer to auth.users'
        else 'public.profiles.id does not refer to auth.users'
    end as found,
    case v.verdict
        when 'not_unique' then 'alter table public.profiles add unique (id)'
        when 'user_id'
            then case
                when v.is_user_uuid and v.is_user_unique and v.user_refers_to is not null
                    then 'migrate with --adopt: each profile takes the id of its user, tables that'
                    || ' refer to it follow, and a trigger sets the id of new profiles. Change'
                    || ' copies of profile ids without a foreign key yourself'
                else 'make user_id unique, a uuid, and a foreign key to auth.users'
            end
        when 'default'
            then 'drop the default, and let id refer to auth.users (id) on delete cascade'
        when 'no_reference'
            then 'migrate with --adopt, which '
            || case
                when v.users is null then 'makes each profile a user in auth.users, and ' else ''
            end
            || 'adds the foreign key'
        else 'rename that table, or give Faregate a separate database (docs/existing-database.md)'
    end as to_do,
    case
        when v.verdict = 'no_reference'
            then concat(
                case
                    when v.users is null
                        then
                            'insert into auth.users (id) select id from public.profiles;' || chr(10)
                end,
                'alter table public.profiles add foreign key (id) references auth.users (id)'
                || ' on delete cascade;'
            )
        when v.verdict = 'user_id'
            and v.is_user_uuid
            and v.is_user_unique
            and v.user_refers_to is not null
            then concat_ws(
                chr(10),
                (
                    select
                        string_agg(
                            'alter table ' || table_name || ' drop constraint ' || name || ';',
                            chr(10) order by table_name, name
                        )
                    from referring
                ),
                (
                    select
                        string_agg(
                            'update ' || table_name || ' as r set ' || column_name
                            || ' = p.user_id from public.profiles as p where r.' || column_name
                            || ' = p.id;',
                            chr(10) order by table_name, name
                        )
                    from referring
                ),
                'update public.profiles set id = user_id where id <> user_id;',
                (
                    select
                        string_agg(
                            'alter table ' || table_name || ' add constraint ' || name || ' '
                            || definition || ';',
                            chr(10) order by table_name, name
                        )
                    from referring
                ),
                'alter table public.profiles add foreign key (id) references auth.users (id)'
                || ' on delete cascade;',
                'create function public.faregate_take_user_id() returns trigger language plpgsql'
                || ' set search_path = '''' as $$ begin'
                || ' new.user_id := coalesce(new.user_id, new.id); new.id := new.user_id;'
                || ' return new; end $$;',
                'comment on function public.faregate_take_user_id() is'
                || ' ''faregate: gives a new profile the id of its user'';',
                'revoke all on function public.faregate_take_user_id()'
                || ' from public, anon, authenticated, service_role;',
                'create trigger faregate_take_user_id before insert on public.profiles'
                || ' for each row execute function public.faregate_take_user_id();'
            )
    end as adoption
from verdicts as v
where v.verdict is not null;

-- name: can_compare_profiles
-- Whether both tables can be read, and their ids have the same type.
select count(*) = 2
from pg_catalog.pg_attribute
where
    attrelid in (to_regclass('public.profiles'), to_regclass('auth.users'))
    and attname = 'id'
    and not attisdropped
    and atttypid = 'uuid'::regtype
    and has_table_privilege(attrelid, 'select');

-- name: check_lost_profiles
-- Profiles without a user. If id refers to auth.users there are none, and nothing is read.
with lost as (
    select p.id
    from public.profiles as p
    where
        not exists (
            select
            from pg_catalog.pg_constraint as f
            inner join pg_catalog.pg_attribute as a
                on f.conrelid = a.attrelid and f.conkey = array[a.attnum]
            where
                f.conrelid = to_regclass('public.profiles')
                and f.confrelid = to_regclass('auth.users')
                and f.contype = 'f'
                and f.convalidated
                and a.attname in ('id', 'user_id')
        )
        and not exists (
            select
            from auth.users as u
            where u.id = p.id
        )
)

select
    'lost_profiles' as kind,
    null::text as adoption,
    count(*) || ' profiles have an id that is no user''s: '
    || array_to_string((array_agg(id order by id))[1:5], ', ')
    || case when count(*) > 5 then ', ...' else '' end as found,
    'create these users, or delete the profiles: delete from public.profiles as p'
    || ' where not exists (select from auth.users as u where u.id = p.id)' as to_do
from lost
having count(*) > 0;

-- name: has_optional_users
-- Whether a profile may have no user.
select count(*) = 1
from pg_catalog.pg_attribute
where
    attrelid = to_regclass('public.profiles')
    and attname = 'user_id'
    and atttypid = 'uuid'::regtype
    and not attnotnull
    and not attisdropped
    and has_table_privilege(attrelid, 'select');

-- name: check_nobodys_profiles
-- Profiles without a user beside their id.
select
    'lost_profiles' as kind,
    'give them a user, or delete them: delete from public.profiles where user_id is null' as to_do,
    null::text as adoption,
    count(*) || ' profiles have no user_id: '
    || array_to_string((array_agg(id order by id))[1:5], ', ')
    || case when count(*) > 5 then ', ...' else '' end as found
from public.profiles
where
    user_id is null
    and not exists (
        select
        from pg_catalog.pg_constraint as f
        inner join pg_catalog.pg_attribute as a
            on f.conrelid = a.attrelid and f.conkey = array[a.attnum]
        where f.conrelid = to_regclass('public.profiles') and f.contype = 'f' and a.attname = 'id'
    )
having count(*) > 0;

-- name: lacks_handler
-- Whether there is no function for sign-ups, so that the migration creates one.
select to_regprocedure('public.handle_new_user()') is null;

-- name: has_handler
-- Whether there is one.
select to_regprocedure('public.handle_new_user()') is not null;

-- name: has_users_without_profile
-- Whether the migration must create a profile.
select exists(
    select
    from auth.users as u
    where not exists (
        select
        from public.profiles as p
        where p.id = u.id
    )
);

-- name: check_required_columns
-- Required columns of profiles without a default.
select
    'required_column' as kind,
    'give these columns a default, or write your own handle_new_user() and create all profiles'
        as to_do,
    null::text as adoption,
    'a user without a profile cannot get one: public.profiles requires '
    || string_agg(quote_ident(a.attname), ', ') as found
from pg_catalog.pg_attribute as a
where
    a.attrelid = to_regclass('public.profiles')
    and a.attnum > 0
    and not a.attisdropped
    and a.attnotnull
    and not a.atthasdef
    and a.attidentity = ''
    and a.attname not in ('id', 'credits')
    -- A user_id beside an id that is no user's is another obstacle, and its adoption fills it.
    and (
        a.attname <> 'user_id'
        or (
            to_regprocedure('public.faregate_take_user_id()') is null
            and exists (
                select
                from pg_catalog.pg_constraint as f
                inner join pg_catalog.pg_attribute as i
                    on f.conrelid = i.attrelid and f.conkey = array[i.attnum]
                where f.conrelid = a.attrelid and f.contype = 'f' and i.attname = 'id'
            )
        )
    )
having count(*) > 0;
