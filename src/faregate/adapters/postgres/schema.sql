-- The schema from the catalogs, as facts: an aspect of an object and its value, in a form that
-- depends neither on the database nor on the version of Postgres. Identifiers are quoted if
-- necessary, as by quote_ident. The owner of most objects is written <owner>.  Parameters: the
-- tables and functions of Faregate, the two tables of the application that carry its triggers, and
-- the owner, as oids; the names of all roles that Faregate knows, and of its own.

-- name: find_subjects
-- The objects that the other statements read. They are found in the catalogs, since a role may not
-- name an object in a schema that is closed to it. From here on definitions name all schemas.
with ours as (
    select
        c.oid,
        c.relowner
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    where
        c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
        and (n.nspname = 'faregate' or (n.nspname, c.relname) = ('public', 'credit_transactions'))
),

theirs as (
    select
        c.oid,
        n.nspname
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    where (n.nspname, c.relname) in (('public', 'profiles'), ('auth', 'users'))
),

-- Objects outside of the schema are Faregate's if their comments say so.
functions as (
    select
        p.oid,
        p.proowner
    from pg_catalog.pg_proc as p
    inner join pg_catalog.pg_namespace as n on p.pronamespace = n.oid
    where
        n.nspname = 'faregate'
        or (
            (n.nspname, p.proname) in (('public', 'handle_new_user'), ('auth', 'uid'))
            and p.pronargs = 0
            and obj_description(p.oid, 'pg_proc') like 'faregate:%%'
        )
),

owners as (
    select mode() within group (order by o.owner) as owner
    from (
        select relowner as owner from ours
        union all
        select proowner from functions
    ) as o
)

select
    owner,
    array(select oid from ours) as ours,
    array(select oid from functions) as functions,
    (select max(oid) filter (where nspname = 'public') from theirs) as profiles,
    (select max(oid) filter (where nspname = 'auth') from theirs) as users,
    quote_ident(pg_get_userbyid(owner)) as owner_name,
    set_config('search_path', '', true) as search_path
from owners;

-- name: read_relations
select
    null as host,
    f.aspect,
    f.value,
    case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind,
    format('%%I.%%I', n.nspname, c.relname) as name
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
cross join lateral (
    values
    ('owner', quote_ident(pg_get_userbyid(c.relowner))),
    ('storage', case c.relpersistence when 'p' then 'logged' else 'unlogged' end),
    (
        'row level security',
        case
            when not c.relrowsecurity then 'off'
            when c.relforcerowsecurity then 'forced'
            else 'on'
        end
    ),
    ('options', case c.relkind when 'v' then array_to_string(c.reloptions, ', ') end),
    (
        'definition',
        -- Postgres 15 names the table of each column, later ones do not where there is one table.
        case c.relkind
            when 'v' then replace(
                regexp_replace(pg_get_viewdef(c.oid), '\s+', ' ', 'g'), ' profiles.', ' '
            )
        end
    ),
    (
        'rows shown',
        (
            select
                case
                    when
                        not t.relrowsecurity
                        or owner.rolsuper
                        or owner.rolbypassrls
                        or (
                            pg_has_role(owner.oid, t.relowner, 'usage')
                            and not t.relforcerowsecurity
                        )
                        then 'all'
                    else 'some'
                end
            from pg_catalog.pg_class as t
            inner join pg_catalog.pg_roles as owner on c.relowner = owner.oid
            where c.relkind = 'v' and t.oid = %(profiles)s::oid
        )
    )
) as f (aspect, value)
where
    c.oid = any(%(ours)s::oid[])
    and f.value is not null;

-- name: read_profile_key
select
    'table' as kind,
    'public.profiles' as name,
    null as host,
    'id' as aspect,
    case
        when exists (
            select
            from pg_catalog.pg_index as i
            inner join pg_catalog.pg_attribute as a on i.indrelid = a.attrelid
            where
                i.indrelid = %(profiles)s::oid
                and a.attname = 'id'
                and i.indisunique
                and i.indisvalid
                and i.indpred is null
                and i.indnkeyatts = 1
                and i.indkey[0] = a.attnum
        ) then 'unique'
        else 'not unique'
    end as value;

-- name: read_schemas
select
    'schema' as kind,
    null as host,
    'owner' as aspect,
    quote_ident(n.nspname) as name,
    quote_ident(pg_get_userbyid(n.nspowner)) as value
from pg_catalog.pg_namespace as n
where n.nspname = 'faregate';

-- name: read_columns
select
    'column' as kind,
    c.oid::regclass::text as host,
    f.aspect,
    f.value,
    quote_ident(a.attname) as name
from pg_catalog.pg_attribute as a
inner join pg_catalog.pg_class as c on a.attrelid = c.oid
left join pg_catalog.pg_attrdef as d on a.attrelid = d.adrelid and a.attnum = d.adnum
cross join lateral (
    values
    ('type', format_type(a.atttypid, a.atttypmod)),
    (
        'nulls',
        case
            when not a.attnotnull then 'allowed'
            when exists (
                select
                from pg_catalog.pg_constraint as n
                where
                    n.conrelid = c.oid
                    and n.contype = 'n'
                    and n.conkey = array[a.attnum]
                    and not n.convalidated
            ) then 'refused in new rows'
            else 'refused'
        end
    ),
    (
        'default',
        case
            when a.attidentity = 'a' then 'generated always as identity'
            when a.attidentity = 'd' then 'generated by default as identity'
            when a.attgenerated <> '' then format('generated: %%s', pg_get_expr(d.adbin, d.adrelid))
            else coalesce(pg_get_expr(d.adbin, d.adrelid), 'none')
        end
    )
) as f (aspect, value)
where
    a.attnum > 0
    and not a.attisdropped
    and c.relkind in ('r', 'p', 'f')
    and (
        c.oid = any(%(ours)s::oid[])
        or (
            c.oid = %(profiles)s::oid
            and a.attname in ('credits', 'credits_sequence')
        )
    );

-- name: read_constraints
-- A foreign key is enforced by triggers, which can be disabled.
select
    'constraint' as kind,
    k.conrelid::regclass::text as host,
    f.aspect,
    f.value,
    quote_ident(k.conname) as name
from pg_catalog.pg_constraint as k
cross join lateral (
    values
    ('definition', regexp_replace(pg_get_constraintdef(k.oid), '\s+', ' ', 'g')),
    (
        'state',
        (
            select
                case
                    when bool_and(t.tgenabled in ('O', 'A')) then 'enforced'
                    else 'not enforced'
                end
            from pg_catalog.pg_trigger as t
            where t.tgconstraint = k.oid
        )
    )
) as f (aspect, value)
where
    k.conrelid = any(%(ours)s::oid[])
    and k.contype in ('c', 'f', 'p', 'u', 'x')
    and (f.aspect = 'definition' or k.contype = 'f');

-- name: read_indexes
select
    'index' as kind,
    i.indexrelid::regclass::text as name,
    i.indrelid::regclass::text as host,
    f.aspect,
    f.value
from pg_catalog.pg_index as i
inner join pg_catalog.pg_class as c on i.indexrelid = c.oid
cross join lateral (
    values
    ('definition', pg_get_indexdef(i.indexrelid)),
    (
        'state',
        case
            when i.indisvalid and i.indisready and i.indislive then 'valid'
            else 'invalid'
        end
    )
) as f (aspect, value)
where
    (
        i.indrelid = any(%(ours)s::oid[])
        or (i.indrelid = %(profiles)s::oid and c.relname = 'idx_profiles_credits')
    )
    and not exists (
        select from pg_catalog.pg_constraint as k
where k.conindid = i.indexrelid
    );

-- name: read_policies
-- A restrictive policy for other roles than Faregate's does not affect Faregate.
with policies as (
    select
        p.*,
        array(
            select
                case r.oid
                    when 0 then 'public'
                    when %(owner)s::oid then '<owner>'
                    else quote_ident(pg_get_userbyid(r.oid))
                end as role_name
            from unnest(p.polroles) as r (oid)
            order by role_name
        ) as role_names
    from pg_catalog.pg_policy as p
    where p.polrelid = any(%(ours)s::oid[])
)

select
    'policy' as kind,
    p.polrelid::regclass::text as host,
    f.aspect,
    f.value,
    quote_ident(p.polname) as name
from policies as p
cross join lateral (
    values
    (
        'definition',
        concat(
            'as ', case when p.polpermissive then 'permissive' else 'restrictive' end,
            ' for ', case p.polcmd
                when 'r' then 'select'
                when 'a' then 'insert'
                when 'w' then 'update'
                when 'd' then 'delete'
                else 'all'
            end,
            ' to ', array_to_string(p.role_names, ', '),
            ' using ('
            || regexp_replace(pg_get_expr(p.polqual, p.polrelid), '\s+', ' ', 'g') || ')',
            ' with check ('
            || regexp_replace(pg_get_expr(p.polwithcheck, p.polrelid), '\s+', ' ', 'g') || ')'
        )
    ),
    (
        'scope',
        case
            when
                not p.polpermissive
                and not p.role_names && (%(own_roles)s::text[] || array['public', '<owner>'])
                then 'roles of the application'
        end
    )
) as f (aspect, value)
where f.value is not null;

-- name: read_triggers
select
    'trigger' as kind,
    t.tgrelid::regclass::text as host,
    f.aspect,
    f.value,
    quote_ident(t.tgname) as name
from pg_catalog.pg_trigger as t
cross join lateral (
    values
    ('definition', pg_get_triggerdef(t.oid)),
    (
        'state',
        case
            when t.tgenabled in ('O', 'A') then 'enabled'
            when t.tgenabled = 'R' then 'enabled for replicas alone'
            else 'disabled'
        end
    )
) as f (aspect, value)
where
    t.tgrelid = any(%(ours)s::oid[] || array[%(profiles)s::oid, %(users)s::oid])
    and not t.tgisinternal;

-- name: read_functions
select
    'function' as kind,
    p.oid::regprocedure::text as name,
    null as host,
    f.aspect,
    f.value
from pg_catalog.pg_proc as p
inner join pg_catalog.pg_language as l on p.prolang = l.oid
cross join lateral (
    values
    ('owner', quote_ident(pg_get_userbyid(p.proowner))),
    ('body', encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex')),
    ('result', pg_get_function_result(p.oid)),
    (
        'definition',
        concat_ws(
            ' ',
            case p.prokind when 'f' then 'function' else 'other' end,
            l.lanname,
            case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
            case when p.proisstrict then 'strict' end,
            case when p.prosecdef then 'security definer' else 'security invoker' end,
            case p.proparallel when 's' then 'parallel safe' else 'not parallel' end,
            'set ' || array_to_string(p.proconfig, ', ')
        )
    )
) as f (aspect, value)
where p.oid = any(%(functions)s::oid[]);

-- name: read_rights
-- All rights of the roles that Faregate knows; of others those that are not only to read. Profiles
-- are the application's, but for rights that pass by their triggers.
with granted as (
    select
        case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind,
        format('%%I.%%I', n.nspname, c.relname) as name,
        '' as column_name,
        c.relowner as owner,
        c.relacl as acl
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    where c.oid = any(%(ours)s::oid[] || %(profiles)s::oid)
    union all
    select
        case c.relkind when 'v' then 'view' else 'table' end as kind,
        format('%%I.%%I', n.nspname, c.relname) as name,
        format(' (%%I)', a.attname) as column_name,
        c.relowner,
        a.attacl
    from pg_catalog.pg_attribute as a
    inner join pg_catalog.pg_class as c on a.attrelid = c.oid
    inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    where
        c.oid = any(%(ours)s::oid[])
        and not a.attisdropped
        and a.attacl is not null
    union all
    select
        'function' as kind,
        p.oid::regprocedure::text as name,
        '' as column_name,
        p.proowner,
        coalesce(p.proacl, acldefault('f', p.proowner)) as acl
    from pg_catalog.pg_proc as p
    inner join pg_catalog.pg_namespace as n on p.pronamespace = n.oid
    where
        p.oid = any(%(functions)s::oid[])
        and n.nspname <> 'auth'
    union all
    select
        'schema' as kind,
        quote_ident(n.nspname) as name,
        '' as column_name,
        n.nspowner,
        n.nspacl
    from pg_catalog.pg_namespace as n
    where n.nspname = 'faregate'
),

rights as (
    select
        g.kind,
        g.name,
        a.is_grantable,
        case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee) end as role_name,
        lower(a.privilege_type) || g.column_name as verb
    from granted as g
    cross join lateral aclexplode(g.acl) as a
    where a.grantee not in (g.owner, %(owner)s::oid)
)

select
    kind,
    name,
    null as host,
    'rights of ' || case role_name when 'public' then role_name else quote_ident(role_name) end
    as aspect,
    verb || case when is_grantable then ' with grant option' else '' end as value
from rights
where
    case
        when name = 'public.profiles' then
            verb in ('truncate', 'trigger')
            and role_name = any(array['public', 'anon', 'authenticated', 'service_role'])
        else
            role_name = any(%(roles)s::text[] || array['public'])
            or split_part(verb, ' ', 1) not in ('select', 'usage', 'maintain')
    end;

-- name: read_roles
select
    'role' as kind,
    null as host,
    f.aspect,
    f.value,
    quote_ident(r.rolname) as name
from pg_catalog.pg_roles as r
cross join lateral (
    values
    ('state', 'there'),
    ('attribute', case when r.rolsuper then 'superuser' end),
    ('attribute', case when r.rolbypassrls then 'bypassrls' end)
) as f (aspect, value)
where
    r.rolname = any(%(roles)s::text[])
    and f.value is not null;

-- name: read_memberships
-- A membership is reported by its first step, if it leads to a role that may write.
with recursive memberships as (
    select
        m.member,
        m.roleid as step,
        m.roleid as reached
    from pg_catalog.pg_auth_members as m
    inner join pg_catalog.pg_roles as r on m.member = r.oid
    where r.rolname = any(%(roles)s::text[])
    union
    select
        s.member,
        s.step,
        m.roleid
    from memberships as s
    inner join pg_catalog.pg_auth_members as m on s.reached = m.member
)

select distinct
    'role' as kind,
    null as host,
    'membership' as aspect,
    quote_ident(pg_get_userbyid(m.member)) as name,
    quote_ident(pg_get_userbyid(m.step)) as value
from memberships as m
where
    m.reached = %(owner)s::oid
    or pg_get_userbyid(m.reached) = any(%(own_roles)s::text[] || array['pg_write_all_data']);

-- name: read_rules
select
    'rule' as kind,
    r.ev_class::regclass::text as host,
    'definition' as aspect,
    quote_ident(r.rulename) as name,
    regexp_replace(pg_get_ruledef(r.oid), '\s+', ' ', 'g') as value
from pg_catalog.pg_rewrite as r
where
    r.ev_class = any(%(ours)s::oid[])
    and r.rulename <> '_RETURN';

-- name: read_children
select
    'child table' as kind,
    i.inhrelid::regclass::text as name,
    i.inhparent::regclass::text as host,
    'definition' as aspect,
    'inherits' as value
from pg_catalog.pg_inherits as i
where
    i.inhrelid = any(%(ours)s::oid[])
    or i.inhparent = any(%(ours)s::oid[]);

-- name: read_settings
-- In replica mode no trigger fires. The host is the object that ALTER resets it on.
select
    'setting' as kind,
    'session_replication_role' as name,
    'definition' as aspect,
    'replica' as value,
    concat_ws(
        ' in ',
        case
            when s.setrole <> 0 then 'role ' || quote_ident(pg_get_userbyid(s.setrole))
            when s.setdatabase = 0 then 'role all'
        end,
        'database ' || quote_ident(d.datname)
    ) as host
from pg_catalog.pg_db_role_setting as s
left join pg_catalog.pg_database as d on s.setdatabase = d.oid
where
    (s.setdatabase = 0 or d.datname = current_database())
    and 'session_replication_role=replica' = any(s.setconfig);

-- name: read_server_settings
select
    'setting' as kind,
    s.name,
    'server' as host,
    'definition' as aspect,
    s.setting as value
from pg_catalog.pg_settings as s
where
    s.name = 'session_replication_role'
    and s.setting = 'replica'
    and s.source not in ('database', 'user', 'database user', 'global', 'session', 'client');
