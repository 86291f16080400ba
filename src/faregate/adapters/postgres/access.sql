-- The rights of a role. Parameters are written %(name)s.

-- name: find_missing_rights
-- The rights in a list that the role of this connection lacks, and whether their object is missing.
-- A right to rows means all rows, with or without row level security: a permissive policy allows
-- them, and no restrictive policy excludes any.
with asked as (
    select
        verb,
        kind,
        object,
        column_name,
        place
    from unnest(
        %(verbs)s::text[], %(kinds)s::text[], %(objects)s::text[], %(columns)s::text[]
    ) with ordinality as a (verb, kind, object, column_name, place)
),

-- Looked up by name in the catalogs, which any role may read. Naming an object in a schema that the
-- role may not use would be an error.
found as (
    select
        a.*,
        case
            when a.kind = 'database' then (
                select d.oid
                from pg_catalog.pg_database as d
                where d.datname = current_database()
            )
            when a.kind = 'schema' then (
                select n.oid
                from pg_catalog.pg_namespace as n
                where n.nspname = a.object
            )
            when a.kind = 'function' then (
                select p.oid
                from pg_catalog.pg_proc as p
                inner join pg_catalog.pg_namespace as n on p.pronamespace = n.oid
                where
                    format('%%s.%%s(%%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes))
                    = a.object
            )
            else (
                select c.oid
                from pg_catalog.pg_class as c
                inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
                where format('%%s.%%s', n.nspname, c.relname) = a.object
            )
        end as oid
    from asked as a
),

judged as (
    select
        f.*,
        case
            when f.oid is null then false
            when f.kind = 'database' then has_database_privilege(f.oid, f.verb)
            when f.kind = 'schema' then has_schema_privilege(f.oid, f.verb)
            when f.kind = 'function' then has_function_privilege(f.oid, f.verb)
            when f.kind = 'rows' then
                not row_security_active(f.oid)
                or coalesce((
                    select
                        bool_or(p.polpermissive and p.expression = 'true')
                        and bool_and(p.polpermissive or p.expression = 'true')
                    from (
                        select
                            p.polpermissive,
                            pg_get_expr(
                                case f.verb
                                    when 'insert' then coalesce(p.polwithcheck, p.polqual)
                                    else coalesce(p.polqual, p.polwithcheck)
                                end,
                                p.polrelid
                            ) as expression
                        from pg_catalog.pg_policy as p
                        where
                            p.polrelid = f.oid
                            and p.polcmd in ('*', case f.verb
                                when 'select' then 'r'
                                when 'insert' then 'a'
                                when 'update' then 'w'
                            end)
                            and exists (
                                select
                                from unnest(p.polroles) as member (role_oid)
                                where
                                    member.role_oid = 0
                                    or pg_has_role(member.role_oid, 'usage')
                            )
                    ) as p
                ), false)
            when f.column_name = '' then has_table_privilege(f.oid, f.verb)
            else coalesce((
                select has_column_privilege(f.oid, a.attnum, f.verb)
                from pg_catalog.pg_attribute as a
                where
                    a.attrelid = f.oid
                    and a.attname = f.column_name
                    and not a.attisdropped
            ), false)
        end as is_held
    from found as f
)

select
    place,
    current_user as role_name,
    oid is null as is_absent
from judged
where not is_held
order by place;
